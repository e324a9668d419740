"""What k3s logs where it cannot join is told with its cause and cure, each trouble as the lab's k3s really has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from homelab.k3s_manager.diagnosis import diagnose
from pvelab.lab import Lab

NAME = "k3s-vm-pve3"
TOKEN = "/var/lib/rancher/k3s/server/token"


def start(lab: Lab, role: str = "agent", *, server: str = "", settings: str = "", version: str = "v1.33.5+k3s1") -> str:
    """Install k3s in the VM by hand, let it try for a while, and read its log."""
    address, unit = server or lab.k3s_servers["k3s-server"], {"server": "k3s", "agent": "k3s-agent"}[role]
    token = "" if "token:" in settings else f"token: {lab.shell('k3s-server', f'cat {TOKEN}').strip()}\\n"
    text = f"server: https://{address}:6443\\n{token}{settings}"
    source = f"INSTALL_K3S_ARTIFACT_URL={lab.env['K3S_ARTIFACT_URL']} INSTALL_K3S_VERSION={version}"
    lab.shell(
        NAME,
        f"mkdir -p /etc/rancher/k3s && printf '{text}' > /etc/rancher/k3s/config.yaml && "
        f"curl -sfo /root/i.sh {lab.env['K3S_INSTALL_URL']} && "
        f"{source} INSTALL_K3S_SKIP_START=true INSTALL_K3S_EXEC={role} sh /root/i.sh && "
        f"systemctl restart --no-block {unit}",
    )
    return said_by(lab, NAME, unit)


def said_by(lab: Lab, machine: str, unit: str = "k3s") -> str:
    end = lab.look(lambda world: world.clock.now()) + 20
    lab.wait_until(lambda world: world.clock.now() >= end, 80)
    return lab.shell(machine, f"journalctl -u {unit} -n 30 -o cat --no-pager")


def password_left(lab: Lab) -> str:
    lab.fault("node-password", node=NAME)
    return start(lab)


def member_left(lab: Lab) -> str:
    lab.fault("ghost-member", node=NAME)
    return start(lab, "server")


def member_of_another_name_left(lab: Lab) -> str:
    lab.fault("ghost-member", node="long-gone")
    return start(lab, "server")


def learner(lab: Lab) -> str:
    lab.fault("learner")
    return start(lab, "server")


def token_of_another_cluster(lab: Lab) -> str:
    lab.fault("server-token", how="foreign")
    return start(lab)


def rotated_token(lab: Lab) -> str:
    lab.fault("server-token", how="rotated")
    return start(lab)


def sqlite(lab: Lab) -> str:
    return start(lab, "server")


def other_flags(lab: Lab) -> str:
    return start(lab, "server", settings="flannel-backend: host-gw\\n")


def other_token_at_restart(lab: Lab) -> str:
    lab.shell("k3s-server", "echo 'token: another' > /etc/rancher/k3s/config.yaml; systemctl restart --no-block k3s")
    return said_by(lab, "k3s-server")


def bootstrap_token_for_a_server(lab: Lab) -> str:
    return start(lab, "server", settings=f"token: {lab.shell('k3s-server', 'k3s token create').strip()}\\n")


def virtual_address(lab: Lab) -> str:
    return start(lab, server=lab.network.virtual)


def silent_firewall(lab: Lab) -> str:
    lab.fault("wall", machine=NAME, to=lab.k3s_servers["k3s-server"])
    return start(lab)


def rejecting_firewall(lab: Lab) -> str:
    lab.fault("wall", machine=NAME, port=6443, mode="reject")
    return start(lab)


def name_nobody_knows(lab: Lab) -> str:
    return start(lab, server="k3s.lan")


def forbidden_label(lab: Lab) -> str:
    return start(lab, settings="node-label: [node-role.kubernetes.io/worker=true]\\n")


def no_quorum(lab: Lab) -> str:
    lab.fault("server-off", machine="k3s-server2")
    return start(lab)


def moved_server(lab: Lab) -> str:
    lab.fault("new-address", machine="k3s-server")
    return said_by(lab, "k3s-server")


def clock_before_the_cluster(lab: Lab) -> str:
    lab.fault("clock-skew", machine=NAME, seconds=-30 * 86_400)
    return start(lab)


def no_route(lab: Lab) -> str:
    lab.fault("no-default-route", machine=NAME)
    return start(lab)


def no_way_to_etcd(lab: Lab) -> str:
    lab.fault("wall", machine=NAME, port=2380)
    return start(lab, "server")


def no_memory_cgroup(lab: Lab) -> str:
    lab.fault("k3s-trouble", kind="memory-cgroup", machine=NAME)
    return start(lab)


def no_containerd(lab: Lab) -> str:
    lab.fault("k3s-trouble", kind="containerd", machine=NAME)
    return start(lab)


@pytest.mark.parametrize(
    ("plant", "seed", "cause"),
    [
        (password_left, {}, "the cluster still holds the password of an earlier machine of this name"),
        (member_left, {"servers": 3}, "etcd still has a member of an earlier machine of this name"),
        (learner, {}, "another server is still joining"),
        (token_of_another_cluster, {}, "the token and the server belong to different clusters"),
        (rotated_token, {}, "the server refuses the token"),
        (sqlite, {"datastore": "sqlite"}, "the cluster keeps its data in SQLite, and takes agents only"),
        (other_flags, {}, "this server's settings differ from those of the others"),
        (other_token_at_restart, {}, "the token is not the one the cluster was made with"),
        (bootstrap_token_for_a_server, {}, "the token is one of agents, and it was to become a server"),
        (
            virtual_address,
            {"vip": "unnamed"},
            "the server's certificate does not name the address at which it is reached",
        ),
        (silent_firewall, {}, "the VM cannot reach the server on port 6443"),
        (rejecting_firewall, {}, "the VM cannot reach the server on port 6443"),
        (name_nobody_knows, {}, "the VM cannot look up the server's name"),
        (forbidden_label, {}, "it is given a label that no Node may give itself"),
        (no_quorum, {"servers": 2}, "the server it asked has no working datastore"),
        (moved_server, {}, "its address is not the one under which it joined etcd"),
        (clock_before_the_cluster, {}, "the clocks differ"),
        (no_route, {}, "the VM has no default route"),
        (member_of_another_name_left, {"servers": 3}, "etcd takes no new server while one of its members is down"),
        (no_way_to_etcd, {}, "the VM and etcd on the other servers do not reach one another"),
        (no_memory_cgroup, {}, "its kernel runs without the memory cgroup"),
        (no_containerd, {}, "containerd ends whenever k3s starts it"),
    ],
)
def test_trouble_of_k3s_is_known_by_its_log(
    session_lab: Lab, plant: Callable[[Lab], str], seed: dict[str, Any], cause: str
) -> None:
    session_lab.reset("unjoined", **seed)

    problem = diagnose(NAME, plant(session_lab))

    assert problem is not None
    assert problem.what == f"{NAME} does not join"
    assert problem.why.startswith(cause)
