"""Stories of the servers that are asked: several of them, one that is gone, another cluster, a VIP, no SSH."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from e2e.conftest import Homelab
from e2e.world import (
    ALL_MEMBERS,
    NAME,
    ONLY_PVE3,
    address_of,
    cluster,
    guests,
    ready_members,
    server_of,
    take_out,
    trusting,
    voters,
)
from pvelab.lab import Lab
from pvelab.state import World

OUTSIDE = "k3s-server"


# --- several addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_kubeconfig", [True, False])
def test_first_server_that_answers_is_asked_and_the_other_is_warned_about(
    lab: Lab, homelab: Homelab, has_kubeconfig: bool
) -> None:
    dead, alive = lab.network.outside(77), lab.env["K3S_EXISTING_NODE_IP"]
    kubeconfig = {} if has_kubeconfig else {"KUBECONFIG": None}

    run = homelab(K3S_EXISTING_NODE_IP=f"{dead}, {alive}", **kubeconfig, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert f"warning: K3S_EXISTING_NODE_IP: {dead} cannot be asked" in run.err
    assert ready_members(lab) == {OUTSIDE, NAME}
    assert server_of(lab, NAME) == f"https://{alive}:6443"


def test_server_whose_k3s_stands_still_is_passed_over(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    trusting(homelab.home)
    take_out(lab, NAME)
    first, alive = address_of(lab, "pve1"), lab.env["K3S_EXISTING_NODE_IP"]
    lab.shell("k3s-vm-pve1", "systemctl stop k3s")

    run = homelab(
        "--via", via, "--node", "pve3", K3S_EXISTING_NODE_IP=f"{first} {alive}", KUBECONFIG=None, SSH_KNOWN_HOSTS=None
    )

    assert run.exit_code == 0, run.text
    assert f"K3S_EXISTING_NODE_IP: {first} cannot be asked" in run.err
    assert f"{OUTSIDE} is asked, at {alive}" in run.err
    assert NAME in ready_members(lab)


def test_where_no_server_answers_each_reason_is_said(lab: Lab, homelab: Homelab) -> None:
    one, two = lab.network.outside(77), lab.network.outside(78)

    run = homelab(K3S_EXISTING_NODE_IP=f"{one},{two}", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert "no k3s server of K3S_EXISTING_NODE_IP can be asked" in run.err
    assert f"SSH to ubuntu@{one}" in run.err
    assert f"SSH to ubuntu@{two}" in run.err
    assert ready_members(lab) == {OUTSIDE}


def test_server_that_dies_during_the_run_is_replaced_by_the_next(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    trusting(homelab.home)
    take_out(lab, NAME)
    first, second = lab.env["K3S_EXISTING_NODE_IP"], address_of(lab, "pve1")

    def dies(world: World) -> None:
        if cluster(world).tokens.bootstrap:
            guests(world).existing_off()
        else:
            world.clock.after(1.0, lambda: dies(world))

    lab.look(dies)

    run = homelab(K3S_EXISTING_NODE_IP=f"{first},{second}", SSH_KNOWN_HOSTS=None)

    assert run.exit_code == 0, run.text
    assert f"K3S_EXISTING_NODE_IP: {first} cannot be asked" in run.err
    assert NAME in ready_members(lab)


def test_members_join_at_the_shared_address_where_there_is_one(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)
    shared = f"https://{address_of(lab, 'pve1')}:6443"

    run = homelab("--via", via, K3S_SERVER_URL=shared)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == ALL_MEMBERS
    assert server_of(lab, NAME) == shared


def test_shared_address_is_asked_where_the_servers_themselves_do_not_answer(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    dead, alive = lab.network.outside(77), lab.env["K3S_EXISTING_NODE_IP"]

    run = homelab("--via", "api", K3S_EXISTING_NODE_IP=dead, K3S_SERVER_URL=f"https://{alive}:6443")

    assert run.exit_code == 0, run.text
    assert f"K3S_EXISTING_NODE_IP: {dead} cannot be asked" in run.err
    assert run.out.count("already in cluster, skipping") == 3


def test_server_at_which_the_cluster_is_asked_is_deleted_by_hand_with_the_help_of_the_next(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("healthy")
    trusting(homelab.home)
    first, second = address_of(lab, "pve1"), lab.env["K3S_EXISTING_NODE_IP"]

    run = homelab.delete(
        "pve1", "100", "--yes", "--via", via, K3S_EXISTING_NODE_IP=f"{first},{second}", SSH_KNOWN_HOSTS=None
    )

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == ALL_MEMBERS - {"k3s-vm-pve1"}
    assert voters(lab) == [OUTSIDE, "k3s-vm-pve2"]


def test_server_is_not_deleted_by_hand_where_the_next_cannot_be_logged_in_to(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    first, second = address_of(lab, "pve1"), lab.env["K3S_EXISTING_NODE_IP"]
    trusting(homelab.home, f"Host {second}", f"  HostName {lab.network.outside(99)}")

    run = homelab.delete("pve1", "100", "--yes", K3S_EXISTING_NODE_IP=f"{first},{second}", SSH_KNOWN_HOSTS=None)

    assert run.exit_code == 1, run.text
    assert f"SSH to ubuntu@{second}" in run.err
    assert ready_members(lab) == ALL_MEMBERS


# --- servers that are VMs ----------------------------------------------------------------------------------------


@pytest.fixture
def closed(lab: Lab, homelab: Homelab) -> Iterator[str]:
    """The address of pve1's VM, which is a server, and to whose sshd nothing leads."""
    lab.reset("healthy")
    take_out(lab, NAME)
    address = address_of(lab, "pve1")
    trusting(homelab.home, f"Host {address}", f"  HostName {lab.network.outside(99)}")
    yield address


def test_where_ssh_is_refused_the_guest_agent_gives_what_a_join_needs(
    lab: Lab, homelab: Homelab, via: str, closed: str
) -> None:
    run = homelab("--via", via, K3S_EXISTING_NODE_IP=closed, KUBECONFIG=None, SSH_KNOWN_HOSTS=None)

    assert run.exit_code == 0, run.text
    assert f"K3S_EXISTING_NODE_IP: {closed} cannot be asked (SSH to ubuntu@{closed}" in run.err
    assert f"k3s-vm-pve1 is asked, at {closed}" in run.err
    assert ready_members(lab) == ALL_MEMBERS
    assert server_of(lab, NAME) == f"https://{closed}:6443"


def test_server_with_an_unknown_host_key_is_not_asked_by_its_agent_either(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)

    run = homelab(K3S_EXISTING_NODE_IP=address_of(lab, "pve1"), KUBECONFIG=None)

    assert run.exit_code == 3, run.text
    assert "nobody has vouched" in run.err or "host key" in run.err
    assert ready_members(lab) == ALL_MEMBERS - {NAME}


def move(lab: Lab) -> str:
    """The server gets another address, and is up again with it; which one."""
    address = lab.network.moved(1)
    lab.shell("pve1", f"qm set 100 --ipconfig0 ip={address}/16,gw={lab.network.gateway} && qm stop 100 && qm start 100")
    up_at = lab.look(lambda world: world.clock.now()) + 120
    lab.wait_until(lambda world: world.clock.now() >= up_at, 600)
    return address


def test_server_that_has_moved_is_found_again_by_its_machine_and_warned_about(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("fresh", where="vm", datastore="sqlite")
    assert homelab("--via", via, **ONLY_PVE3).exit_code == 0
    old, now = lab.env["K3S_EXISTING_NODE_IP"], move(lab)
    take_out(lab, NAME)

    run = homelab("--via", via, KUBECONFIG=None, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert f"{OUTSIDE} is asked, at {now}" in run.err
    assert f"K3S_EXISTING_NODE_IP: {OUTSIDE} is no longer at {old} but at {now}" in run.err
    assert ready_members(lab) == {OUTSIDE, NAME}
    assert server_of(lab, NAME) == f"https://{now}:6443"

    again = homelab("--via", via, **ONLY_PVE3)
    assert f"is no longer at {old} but at {now}" in again.err
    assert again.err.count(f"{old} cannot be asked") == 1


# --- clusters of other shapes ------------------------------------------------------------------------------------


def test_server_in_a_vm_of_somebody_else_that_refuses_ssh_is_asked_by_its_agent(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("fresh", where="vm")
    lab.fault("guest-ssh", machine=OUTSIDE)
    nowhere = f"{lab.env['K3S_ARTIFACT_URL']}/nothing"

    run = homelab("--via", via, K3S_ARTIFACT_URL=nowhere, **ONLY_PVE3)

    address = lab.env["K3S_EXISTING_NODE_IP"]
    assert run.exit_code == 0, run.text
    assert "k3s v1.33.5+k3s1 is taken from VM 100 on pve1 (by its guest agent), sha256" in run.err
    assert f"K3S_EXISTING_NODE_IP: {address} cannot be asked (SSH to ubuntu@{address}" in run.err
    assert ready_members(lab) == {OUTSIDE, NAME}


def test_token_that_the_agent_cannot_read_comes_with_the_command_that_shows_why(lab: Lab, homelab: Homelab) -> None:
    lab.reset("fresh", where="vm")
    lab.fault("guest-ssh", machine=OUTSIDE)
    lab.shell("k3s-server", "rm /var/lib/rancher/k3s/server/node-token /var/lib/rancher/k3s/server/token")

    run = homelab(**ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert re.search(r"try: ssh root@\S+ qm guest exec \d+ -- 'sudo -n cat /var/lib/rancher", run.err), run.err
    assert ready_members(lab) == {OUTSIDE}


def test_server_outside_that_refuses_ssh_has_no_agent_to_ask(lab: Lab, homelab: Homelab) -> None:
    lab.fault("guest-ssh", machine=OUTSIDE)

    run = homelab(**ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME} is not joined: SSH to ubuntu@{lab.env['K3S_EXISTING_NODE_IP']}" in run.err
    assert ready_members(lab) == {OUTSIDE}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_survivors_of_a_cluster_are_joined_while_its_first_server_is_off(
    lab: Lab, homelab: Homelab, count: int
) -> None:
    lab.reset("fresh", servers=count)
    first, *others = lab.k3s_servers.values()
    lab.fault("server-off", machine=OUTSIDE)

    run = homelab(K3S_EXISTING_NODE_IP=", ".join([first, *others]), K3S_ROLE_3="agent", **ONLY_PVE3)

    if count == 2:
        assert run.exit_code == 3, run.text
        assert "no k3s server of K3S_EXISTING_NODE_IP can be asked" in run.err
    else:
        assert run.exit_code == 0, run.text
        assert server_of(lab, NAME) == f"https://{others[0]}:6443"
        assert f"K3S_EXISTING_NODE_IP: {first} cannot be asked" in run.err


def test_members_join_at_a_vip_and_the_servers_are_asked_themselves(lab: Lab, homelab: Homelab) -> None:
    lab.reset("fresh", servers=3, vip="named")
    vip = f"https://{lab.network.virtual}:6443"

    run = homelab(K3S_SERVER_URL=vip, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert server_of(lab, NAME) == vip
    assert NAME in ready_members(lab)


def test_where_the_only_server_named_is_gone_the_others_of_the_cluster_are_named(lab: Lab, homelab: Homelab) -> None:
    lab.reset("self-founded")
    trusting(homelab.home)
    assert homelab(SSH_KNOWN_HOSTS=None).exit_code == 0
    lab.shell("pve1", "qm stop 100 && qm destroy 100")

    run = homelab(SSH_KNOWN_HOSTS=None)

    assert run.exit_code == 3, run.text
    own, second, third = lab.k3s_servers.values()
    others = f"k3s-vm-pve2 at {second}, {NAME} at {third}"
    assert f"k3s-vm-pve1 is not joined: SSH to ubuntu@{own}" in run.out
    assert f"or set K3S_EXISTING_NODE_IP to another server of the cluster: {others}" in run.err
    assert len(lab.snapshot()["k3s"]) == 1
