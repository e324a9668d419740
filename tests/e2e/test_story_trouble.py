"""Stories of a join that meets trouble on its way: in the VM, at the server, or in the cluster's settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from e2e.conftest import Homelab
from e2e.world import (
    ALL_MEMBERS,
    NAME,
    ONLY_PVE3,
    cluster,
    guests,
    nodes_with_running_vm,
    ready_members,
    take_out,
    uuids,
    when,
)
from pvelab.guest import kube_nodes
from pvelab.lab import Lab
from pvelab.state import World

# --- in the VM ---------------------------------------------------------------------------------------------------


def test_member_whose_k3s_was_uninstalled_is_reported_and_not_rebuilt(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    before = uuids(lab)
    lab.shell(NAME, "/usr/local/bin/k3s-agent-uninstall.sh")
    lab.wait_until(lambda world: not kube_nodes.is_ready(cluster(world).store.find("nodes", NAME) or {}))

    run = homelab()

    assert run.exit_code == 3, run.text
    assert "k3s-agent cannot be started" in run.err
    assert "systemctl status k3s-agent" in run.err
    assert uuids(lab) == before


def test_guest_that_wants_a_password_for_sudo_is_told_so(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)
    lab.look(lambda world: setattr(guests(world).machine_in(world.vms[102]).accounts["ubuntu"], "sudo", False))

    run = homelab()

    assert run.exit_code == 3, run.text
    assert "/etc/rancher/k3s/config.yaml cannot be written" in run.err
    assert "sudo without a password" in run.err
    assert ready_members(lab) == ALL_MEMBERS - {NAME}


# --- at the server -----------------------------------------------------------------------------------------------


def has_a_node(world: World) -> bool:
    """The VM has registered, and is not Ready yet."""
    return cluster(world).store.find("nodes", NAME) is not None


def goes_away(world: World) -> None:
    guests(world).existing_off()


def comes_back_soon(world: World) -> None:
    def on() -> None:
        guests(world).existing_on()

    guests(world).existing_off()
    world.clock.after(60.0, on)


def test_server_that_is_away_for_a_while_during_a_join_is_asked_again(lab: Lab, homelab: Homelab) -> None:
    when(lab, has_a_node, comes_back_soon)

    run = homelab(**ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert f"{NAME} joined cluster as agent" in run.out
    lab.wait_until(lambda world: all(map(kube_nodes.is_ready, cluster(world).store.list("nodes"))))


def test_server_that_stays_away_during_a_join_is_named_as_what_was_seen_last(lab: Lab, homelab: Homelab) -> None:
    when(lab, has_a_node, goes_away)

    run = homelab(**ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME} is not joined: {NAME} did not become Ready" in run.err
    assert lab.env["K3S_EXISTING_NODE_IP"] in run.err
    assert f"kubectl describe node {NAME}" in run.err


def no_control_plane(world: World) -> None:
    store = cluster(world).store
    store.change("nodes", "k3s-server", lambda node: node["metadata"]["labels"].pop(kube_nodes.CONTROL_PLANE_LABEL))


def test_server_that_lists_no_server_is_not_joined(lab: Lab, homelab: Homelab) -> None:
    lab.look(no_control_plane)

    run = homelab(**ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert "no k3s server is listed" in run.err
    assert "kubectl get nodes" in run.err


# --- in the cluster ----------------------------------------------------------------------------------------------


def learner_that_never_votes(world: World) -> None:
    cluster(world).etcd.add_learner("elsewhere-0badcafe", "192.0.2.8")


def older_server(world: World) -> None:
    servers = cluster(world).servers
    for address, server in list(servers.items()):
        servers[address] = replace(server, version="v1.31.1+k3s1")


@pytest.mark.parametrize(
    ("happens", "role", "said", "cure"),
    [
        (learner_that_never_votes, "server", "another server is still joining (not within", "wait five minutes"),
        (older_server, "agent", "does not join: its k3s is newer than that of a server", "set K3S_VERSION"),
    ],
)
def test_join_that_does_not_end_is_given_up_with_what_is_known(
    lab: Lab, homelab: Homelab, happens: Callable[[World], None], role: str, said: str, cure: str
) -> None:
    lab.look(happens)

    run = homelab(K3S_ROLE_3=role, **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert said in run.err
    assert cure in run.err
    assert nodes_with_running_vm(lab) == ["pve3"]


CONFIG = "/etc/rancher/k3s/config.yaml"


def test_settings_that_servers_share_are_those_of_the_existing_one(lab: Lab, homelab: Homelab) -> None:
    lab.shell("k3s-server", f"mkdir -p /etc/rancher/k3s && echo 'cluster-cidr: 10.52.0.0/16' > {CONFIG}")
    lab.shell("k3s-server", f"echo 'write-kubeconfig-mode: 644' >> {CONFIG}")
    lab.look(lambda world: cluster(world).critical.update({"cluster-cidr": "10.52.0.0/16"}))

    run = homelab(K3S_ROLE_3="server", **ONLY_PVE3)

    assert ready_members(lab) == {"k3s-server", NAME}, run.text
    written = lab.shell(NAME, f"cat {CONFIG}")
    assert "cluster-cidr: 10.52.0.0/16" in written
    assert "kubeconfig" not in written


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"echo '- a list' > {CONFIG}", f"{CONFIG} is not understood"),
        (f"echo 'a: b: c' > {CONFIG}", f"{CONFIG} is not understood"),
        (f"mkdir {CONFIG}", f"{CONFIG} cannot be read"),
    ],
    ids=["list", "no-yaml", "folder"],
)
def test_settings_of_the_server_that_cannot_be_read_stop_the_join(
    lab: Lab, homelab: Homelab, line: str, said: str
) -> None:
    lab.shell("k3s-server", f"mkdir -p /etc/rancher/k3s && {line}")

    run = homelab(K3S_ROLE_3="server", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert said in run.err
    assert "defect" not in run.text
    assert ready_members(lab) == {"k3s-server"}
