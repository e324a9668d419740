"""Stories of membership: how the cluster is asked, what proves it, and what is done about each state of a member."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.conftest import Homelab
from e2e.world import ALL_MEMBERS, change, cluster, guests, ready_members, servers, take_out, uuids, voters
from pvelab.guest import kube_nodes
from pvelab.lab import Lab
from pvelab.spec import LabSpec
from pvelab.state import World
from support.clock import SteppingClock

NAME = "k3s-vm-pve3"
CONFIG = "/etc/rancher/k3s/config.yaml"
ENVIRONMENT = "/etc/systemd/system/k3s-agent.service.env"


def asked_over_ssh(lab: Lab) -> bool:
    return any(one.node == "k3s-server" for one in lab.requests if one.via == "ssh")


def kubeconfig(lab: Lab) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(Path(lab.env["KUBECONFIG"]).read_text())
    return document


def written(homelab: Homelab, document: object, name: str = "kubeconfig") -> str:
    file = homelab.home / name
    file.write_text(yaml.safe_dump(document))
    return str(file)


# --- how the cluster is asked ------------------------------------------------------------------------------------


def test_members_are_found_through_the_kubernetes_api_without_ssh(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")

    run = homelab("--via", "api")

    assert run.exit_code == 0, run.text
    assert run.out.count("already in cluster, skipping") == 3
    assert [one.via for one in lab.requests if one.via == "ssh"] == []


def test_without_a_kubeconfig_one_command_on_a_server_does(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")

    run = homelab("--via", "api", KUBECONFIG=None)

    assert run.exit_code == 0, run.text
    assert run.out.count("already in cluster, skipping") == 3
    assert len([one for one in lab.requests if one.via == "ssh"]) == 1


def test_kubeconfig_in_the_home_directory_is_found(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    written(homelab, kubeconfig(lab))

    run = homelab("--via", "api", KUBECONFIG=None)

    assert run.exit_code == 0, run.text
    assert not asked_over_ssh(lab)


@pytest.fixture
def other_kubeconfig(shared_clock: SteppingClock, tmp_path: Path) -> dict[str, Any]:
    """That of another cluster, in which all VMs are Ready members of the same names."""
    with Lab(LabSpec(), tmp_path / "other", shared_clock) as other:
        other.reset("healthy")
        return kubeconfig(other)


def test_kubeconfig_of_another_cluster_is_not_believed_wherever_it_points(
    lab: Lab, homelab: Homelab, other_kubeconfig: dict[str, Any]
) -> None:
    other_kubeconfig["clusters"][0]["cluster"]["server"] = kubeconfig(lab)["clusters"][0]["cluster"]["server"]

    run = homelab("--dry-run", KUBECONFIG=written(homelab, other_kubeconfig))

    assert run.exit_code == 0, run.text
    assert "its certificate is not vouched for by the kubeconfig" in run.err
    assert "the cluster is asked over SSH" in run.err
    assert asked_over_ssh(lab)
    assert "no VM named k3s-vm-pve1 in the cluster" in run.text


def test_of_two_kubeconfigs_the_one_of_the_right_cluster_is_used(
    lab: Lab, homelab: Homelab, other_kubeconfig: dict[str, Any]
) -> None:
    lab.reset("healthy")
    renamed = json.loads(json.dumps(other_kubeconfig).replace('"default"', '"work"'))
    files = [written(homelab, renamed, "work"), lab.env["KUBECONFIG"]]

    run = homelab("--via", "api", KUBECONFIG=":".join(files))

    assert run.exit_code == 0, run.text
    assert not asked_over_ssh(lab)


def test_login_by_a_program_is_refused_with_a_sentence_and_ssh_is_asked(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    document = kubeconfig(lab)
    document["users"][0]["user"] = {"exec": {"command": "aws"}}

    run = homelab("--via", "api", KUBECONFIG=written(homelab, document))

    assert run.exit_code == 0, run.text
    assert "is not used: its user logs in by a program (exec), and homelab runs none; the cluster is asked" in run.err
    assert run.out.count("already in cluster, skipping") == 3


def test_kubeconfig_that_cannot_be_used_is_said_once_in_a_run(lab: Lab, homelab: Homelab) -> None:
    document = kubeconfig(lab)
    document["current-context"] = document["contexts"] = None

    run = homelab(KUBECONFIG=written(homelab, document), K3S_ROLE_3="server", NODE_ENABLED_1="0", NODE_ENABLED_2="0")

    assert "the cluster has only two voting servers" in run.err
    assert run.err.count("is not used: it has no current context") == 1


def test_kubeconfig_whose_user_may_not_look_is_not_the_end(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    document = kubeconfig(lab)
    document["users"][0]["user"] = {"token": "canary-of-nobody"}

    run = homelab("-v", "--via", "api", KUBECONFIG=written(homelab, document))

    assert run.exit_code == 0, run.text
    assert "it answered 401 to the user of the kubeconfig" in run.err
    assert "canary" not in run.text


def test_where_nobody_can_be_asked_nothing_is_installed(lab: Lab, homelab: Homelab) -> None:
    lab.fault("join-fails", how="server-down")

    run = homelab("--via", "api", NODE_ENABLED_1="0", NODE_ENABLED_2="0")

    assert run.exit_code == 3, run.text
    assert f"{NAME} is not joined: " in run.err
    assert lab.shell(NAME, "ls /usr/local/bin; ls /etc/rancher || true").split() == []


# --- what is done about each state -------------------------------------------------------------------------------


def nodes_without(lab: Lab, name: str) -> None:
    lab.shell("k3s-server", f"kubectl delete node {name}")
    lab.wait_until(lambda world: cluster(world).store.find("nodes", name) is None)


def test_machine_whose_node_was_deleted_gets_a_new_token_and_nothing_else(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    before = uuids(lab)
    lab.shell(NAME, f"echo 'node-taint: [a=b:NoSchedule]' >> {CONFIG}")
    lab.shell(NAME, "touch /var/lib/rancher/k3s/agent/kept; echo old > /root/old-token")
    lab.shell(NAME, f"echo 'K3S_TOKEN_FILE=/root/old-token' >> {ENVIRONMENT}; echo 'NO_PROXY=a' >> {ENVIRONMENT}")
    nodes_without(lab, NAME)

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert f"{NAME} joined cluster again as agent" in run.out
    assert ready_members(lab) == ALL_MEMBERS
    assert uuids(lab) == before
    assert lab.shell(NAME, "ls /var/lib/rancher/k3s/agent/kept")
    assert yaml.safe_load(lab.shell(NAME, f"cat {CONFIG}"))["node-taint"] == ["a=b:NoSchedule"]
    assert lab.shell(NAME, f"grep . {ENVIRONMENT}") == "NO_PROXY=a\n"
    assert "install.sh" not in lab.shell(NAME, "ls /var/lib/homelab || true")


def test_machine_of_another_cluster_is_left_to_it(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)
    lab.look(lambda world: machine_of(world).files.provide("/var/lib/rancher/k3s/agent/server-ca.crt", other_ca()))

    run = homelab()

    assert run.exit_code == 3, run.text
    assert f"{NAME}: k3s in the VM belongs to another cluster: it holds the CA of a cluster" in run.err
    assert "k3s-agent-uninstall.sh" in run.err
    assert ready_members(lab) == ALL_MEMBERS - {NAME}


def machine_of(world: World) -> Any:
    (vm,) = (vm for vm in world.vms.values() if vm.name == NAME)
    return guests(world).machine_in(vm)


def other_ca() -> bytes:
    body = base64.b64encode(b"another CA").decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n".encode()


def test_k3s_that_runs_without_a_cluster_s_ca_is_left_alone(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    nodes_without(lab, NAME)
    lab.shell(NAME, "rm /var/lib/rancher/k3s/agent/server-ca.crt")
    lab.look(lambda world: setattr(machine_of(world).systemd.find("k3s-agent"), "active", "active"))

    run = homelab()

    assert run.exit_code == 3, run.text
    assert f"{NAME}: k3s in the VM belongs to another cluster: it runs, and holds no cluster's CA" in run.err


def test_machine_with_both_units_is_refused(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)
    units = "/etc/systemd/system"
    lab.shell(NAME, f"cp {units}/k3s-agent.service {units}/k3s.service")

    run = homelab()

    assert run.exit_code == 3, run.text
    assert f"{NAME} is not joined: {NAME}: k3s is there as server and as agent" in run.err
    assert "sudo systemctl disable --now k3s" in run.err


def test_cordoned_member_is_reported_and_left_cordoned(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    lab.shell("k3s-server", f"kubectl cordon {NAME}")

    run = homelab()

    assert run.exit_code == 0, run.text
    assert f"{NAME} is cordoned" in run.out
    assert f"kubectl uncordon {NAME}" in homelab("--json").out
    assert "SchedulingDisabled" in lab.shell("k3s-server", f"kubectl get node {NAME}")


def silenced(lab: Lab, name: str) -> None:
    """The kubelet no longer reports, although its service runs on."""
    lab.look(lambda world: cluster(world).kubelet_stopped(name))
    lab.wait_until(lambda world: not is_ready(world, name))


def is_ready(world: World, name: str) -> bool:
    node = cluster(world).store.find("nodes", name)
    return node is not None and kube_nodes.is_ready(node)


def test_service_that_runs_is_not_restarted_and_its_journal_is_read(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    silenced(lab, NAME)
    pid = lab.shell(NAME, "systemctl show -p MainPID k3s-agent")

    run = homelab()

    assert run.exit_code == 3, run.text
    assert f"{NAME} is not joined: {NAME} did not become Ready" in run.err
    assert lab.shell(NAME, "systemctl show -p MainPID k3s-agent") == pid


def test_service_that_was_stopped_is_started_at_once(lab: Lab, homelab: Homelab, shared_clock: SteppingClock) -> None:
    lab.reset("healthy")
    lab.shell(NAME, "systemctl disable --now k3s-agent")
    lab.wait_until(lambda world: not is_ready(world, NAME))
    began = shared_clock.now()

    run = homelab()

    assert run.exit_code == 0, run.text
    assert f"{NAME}: starting k3s-agent" in run.err
    assert f"{NAME} is Ready again" in run.out
    assert shared_clock.now() - began < 120
    assert lab.shell(NAME, "systemctl is-enabled k3s-agent") == "enabled\n"


def test_system_uuid_counts_without_case(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    for vmid, uuid in uuids(lab).items():
        change(lab, vmid, smbios1=f"uuid={uuid.upper()}")

    run = homelab()

    assert run.exit_code == 0, run.text
    assert run.out.count("already in cluster, skipping") == 3
    assert servers(lab) == set(voters(lab))
