"""Stories of clusters of two, three and five servers: one is down, and is replaced where the others allow that."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest

from e2e.conftest import Homelab
from e2e.interruptions import killed, killed_at_command, left_over, open_writes, tags
from e2e.world import (
    ALL_MEMBERS,
    NAME,
    ONLY_PVE3,
    address_of,
    cluster,
    k3s,
    nodes_with_running_vm,
    power_off,
    ready_members,
    servers,
    trusting,
    uuid_of,
    uuids,
    vm_on,
    voters,
)
from pvelab.lab import Lab


def down(lab: Lab, *nodes: str) -> None:
    """The VMs on these nodes crash, and the cluster has noticed it."""
    power_off(lab, *nodes)
    lab.shell(list(lab.k3s_servers)[-1], "sleep 120")


def replaced(lab: Lab, before: dict[int, str]) -> list[int]:
    """VMIDs of the VMs that are other machines than before."""
    return sorted(vmid for vmid, uuid in uuids(lab).items() if uuid != before[vmid])


# --- two servers --------------------------------------------------------------------------------------------------


def test_one_of_two_servers_is_started_and_never_deleted(lab: Lab, homelab: Homelab, via: str) -> None:
    """Without it etcd has no quorum, and the cluster cannot even be asked."""
    lab.reset("healthy", without="pve2+pve3")
    before = uuids(lab)
    down(lab, "pve1")

    run = homelab("--via", via, NODE_ENABLED_2="0", NODE_ENABLED_3="0")

    assert run.exit_code == 0, run.text
    assert replaced(lab, before) == []
    assert voters(lab) == ["k3s-server", "k3s-vm-pve1"]
    assert ready_members(lab) == {"k3s-server", "k3s-vm-pve1"}
    assert "k3s cannot be asked, and this VM is or may be a member" in run.text


def test_one_of_two_servers_is_not_replaced_although_a_person_names_it(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy", without="pve2+pve3")

    run = homelab("--force-replace", "pve1", NODE_ENABLED_2="0", NODE_ENABLED_3="0")

    assert run.exit_code == 3, run.text
    assert "it is or was a k3s server, and there are only 2 etcd voter(s) (3 are needed)" in run.err
    assert lab.writes == []


# --- three servers ------------------------------------------------------------------------------------------------

CUTS = [
    ("DELETE", "/nodes/pve1/qemu/[0-9]+", False),
    ("DELETE", "/nodes/pve1/qemu/[0-9]+", True),
    ("POST", "/nodes/pve1/qemu", True),
    ("POST", "/nodes/pve1/qemu/[0-9]+/status/start", True),
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(("method", "path", "after"), CUTS, ids=["before-destroy", "destroy", "create", "start"])
def test_replacement_of_a_server_that_was_killed_goes_on_and_ends_with_as_many_voters(
    lab: Lab, homelab: Homelab, via: str, method: str, path: str, after: bool
) -> None:
    lab.reset("stopped-server")
    vmid, before = vm_on(lab, "pve1")
    with killed(method, path, after=after):
        homelab("--via", via)

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    found, vm = vm_on(lab, "pve1")
    assert (found, vm["config"]["net0"]) == (vmid, before["config"]["net0"])
    assert uuid_of(vm) != uuid_of(before)
    assert voters(lab) == ["k3s-server", "k3s-vm-pve1", "k3s-vm-pve2"]
    assert ready_members(lab) == ALL_MEMBERS
    assert tags(lab)[vmid] == "homelab;homelab-server"
    assert left_over(lab) == {}
    assert open_writes(homelab) == 0


def test_first_server_that_is_made_anew_joins_the_survivors_and_founds_no_cluster(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    """k3s-vm-pve1 founded the cluster; K3S_EXISTING_NODE_IP names it first, and the other servers behind it."""
    lab.reset("self-founded")
    trusting(homelab.home)
    addresses = ", ".join(lab.k3s_servers.values())
    assert homelab("--via", via, K3S_EXISTING_NODE_IP=addresses, SSH_KNOWN_HOSTS=None).exit_code == 0
    authority = lab.look(lambda world: cluster(world).tokens.ca_hash)
    before = uuids(lab)
    down(lab, "pve1")

    run = homelab("--via", via, K3S_EXISTING_NODE_IP=addresses, SSH_KNOWN_HOSTS=None)

    assert run.exit_code == 0, run.text
    assert replaced(lab, before) == [100]
    assert voters(lab) == ["k3s-vm-pve1", "k3s-vm-pve2", NAME]
    assert k3s(lab)["nodes"]["k3s-vm-pve1"]["uuid"] == uuid_of(vm_on(lab, "pve1")[1])
    assert lab.look(lambda world: cluster(world).tokens.ca_hash) == authority
    config = lab.shell("k3s-vm-pve1", "cat /etc/rancher/k3s/config.yaml")
    assert "cluster-init" not in config
    own, *others = lab.k3s_servers.values()
    assert any(f"server: https://{other}:6443" in config for other in others)
    assert f"https://{own}:6443" not in config
    moved = f"K3S_EXISTING_NODE_IP: k3s-vm-pve1 is no longer at {own} but at {address_of(lab, 'pve1')}"
    assert moved in run.err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("wire", "cut"),
    [
        ("ssh", killed("DELETE", "/nodes/pve1/qemu/[0-9]+", after=True)),
        ("api", killed_at_command("INSTALL_K3S_EXEC=server")),
        ("ssh", killed_at_command("systemctl restart --no-block k3s")),
    ],
    ids=["destroyed", "not-installed", "not-started"],
)
def test_first_server_that_is_cut_off_while_it_is_made_anew_founds_no_cluster_and_ends_among_the_survivors(
    lab: Lab, homelab: Homelab, wire: str, cut: AbstractContextManager[None]
) -> None:
    lab.reset("self-founded")
    trusting(homelab.home)
    own, *others = lab.k3s_servers.values()
    settings = {"K3S_EXISTING_NODE_IP": ", ".join([own, *others]), "SSH_KNOWN_HOSTS": None}
    before = uuids(lab)
    down(lab, "pve1")
    with cut:
        homelab("--via", wire, **settings)
    lab.shell("k3s-vm-pve2", "sleep 120")
    assert "k3s-vm-pve1" not in ready_members(lab)

    run = homelab("--via", wire, **settings)

    assert run.exit_code == 0, run.text
    assert replaced(lab, before) == [100]
    assert voters(lab) == ["k3s-vm-pve1", "k3s-vm-pve2", NAME]
    assert ready_members(lab) == {"k3s-vm-pve1", "k3s-vm-pve2", NAME}


# --- five servers -------------------------------------------------------------------------------------------------


def test_one_of_five_servers_is_replaced_and_there_are_five_again(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("fresh", servers=4)
    first = homelab("--via", via, K3S_ROLE_3="server", **ONLY_PVE3)
    assert (first.exit_code, len(voters(lab))) == (0, 5), first.text
    before = uuids(lab)
    down(lab, "pve3")

    run = homelab("--via", via, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert replaced(lab, before) == [100]
    assert len(voters(lab)) == 5
    assert NAME in servers(lab) & ready_members(lab)


def test_one_of_five_servers_is_started_while_another_one_is_down(lab: Lab, homelab: Homelab) -> None:
    lab.reset("fresh", servers=4)
    homelab(K3S_ROLE_3="server", **ONLY_PVE3)
    before = uuids(lab)
    lab.fault("server-off", machine="k3s-server2")
    down(lab, "pve3")

    run = homelab(**ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert replaced(lab, before) == []
    assert nodes_with_running_vm(lab) == ["pve3"]
    assert "another member of etcd is not healthy, or has no vote yet (k3s-server2)" in run.text


def test_server_that_was_made_anew_and_could_not_join_at_once_is_a_server_in_the_end(
    lab: Lab, homelab: Homelab
) -> None:
    lab.reset("fresh", servers=4)
    homelab(K3S_ROLE_3="server", **ONLY_PVE3)
    down(lab, "pve3")
    lab.fault("join-fails", how="k3s-crash", vm=NAME)
    failed = homelab(**ONLY_PVE3)
    assert failed.exit_code == 3, failed.text
    assert f"{NAME} is not joined" in failed.err
    lab.clear_faults()

    run = homelab(**ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert f"{NAME} joined cluster as server" in run.out
    assert len(voters(lab)) == 5


def test_server_is_not_joined_while_another_one_is_down_and_that_one_is_named(lab: Lab, homelab: Homelab) -> None:
    lab.reset("fresh", servers=3)
    lab.fault("server-off", machine="k3s-server3")
    lab.shell("k3s-server", "sleep 120")

    run = homelab(K3S_ROLE_3="server", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME} is not joined: {NAME} cannot join as a server now" in run.err
    assert "k3s-server3" in run.err
    assert lab.shell(NAME, "ls /etc/rancher 2>&1 || true").startswith("ls: cannot access")
