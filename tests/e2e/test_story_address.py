"""Stories of VMs without a guest agent: where they are, and whether it is really they who answer there."""

from __future__ import annotations

import pytest

from e2e.conftest import Homelab
from e2e.world import (
    ALL_MEMBERS,
    NAME,
    ONLY_PVE3,
    guests,
    nodes_with_running_vm,
    ready_members,
    take_out,
)
from pvelab.lab import Lab
from support.names import without_name_server

FIRST = "k3s-vm-pve1"
IN_DNS = f"{NAME}.maas"
QUICK = {**ONLY_PVE3, "VM_START_TIMEOUT": "30"}


def without_snippets(lab: Lab) -> None:
    lab.shell("pve3", "pvesm set local --content iso,import,images")


def address(lab: Lab, name: str) -> str:
    return lab.look(
        lambda world: guests(world).machine_in(next(v for v in world.vms.values() if v.name == name)).address
    )


def logins(lab: Lab, name: str) -> list[str]:
    return [request.what for request in lab.requests if request.via == "ssh" and request.node == name]


def looks(lab: Lab) -> list[str]:
    """Commands by which nodes were asked for neighbours."""
    return [request.what for request in lab.requests if "neigh" in request.what]


def test_vm_without_agent_and_with_dhcp_is_found_by_its_node_and_joins_and_the_next_run_asks_nobody(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    without_snippets(lab)

    run = homelab("--via", via, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", NAME}
    assert f"VM {NAME} is made without the guest agent" in run.out
    assert f"VM {NAME} (vmid=100) is at {address(lab, NAME)}: pve3 hears " in run.err
    assert run.err.count("learned the SSH host key of the new VM") == 1
    asked, written = len(looks(lab)), len(lab.writes)
    assert homelab("--via", via, **ONLY_PVE3).exit_code == 0
    assert (len(looks(lab)), len(lab.writes)) == (asked, written)
    take_out(lab, NAME)
    again = homelab("--via", via, **QUICK)
    assert again.exit_code == 0, again.text
    assert f"{NAME} joined cluster again as agent" in again.out
    assert "learned" not in again.err


def test_vm_whose_agent_never_comes_up_is_found_all_the_same(lab: Lab, homelab: Homelab) -> None:
    lab.fault("agent-missing")

    run = homelab(**QUICK)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", NAME}
    assert "pve3 hears " in run.err


def test_vm_that_its_node_has_not_heard_is_found_by_name_where_its_mac_answers(
    lab: Lab, homelab: Homelab, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_snippets(lab)
    lab.fault("unheard", vm=NAME)
    without_name_server(monkeypatch, {NAME: lab.network.guest(1)})

    run = homelab(**ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", NAME}
    assert f"is at {lab.network.guest(1)}: {NAME} in DNS, and " in run.err


def test_address_of_another_machine_is_not_believed_whoever_says_it(
    lab: Lab, homelab: Homelab, monkeypatch: pytest.MonkeyPatch, via: str
) -> None:
    lab.reset("healthy")
    theirs, unknown = address(lab, FIRST), lab.network.guest(99)
    take_out(lab, NAME)
    lab.shell("pve3", "qm stop 102 && qm destroy 102")
    without_snippets(lab)
    lab.fault("unheard", vm=NAME)
    for place in (theirs, unknown):
        lab.fault("neighbour", address=place, mac="02:00:00:00:00:03", state="STALE")
    lab.fault("neighbour", address=lab.network.guest(98), state="INCOMPLETE")
    without_name_server(monkeypatch, {IN_DNS: theirs})

    run = homelab("--via", via, VM_START_TIMEOUT="10")

    assert run.exit_code == 3, run.text
    assert f"VM {NAME} (vmid=102): its address cannot be found: it was made without the guest agent" in run.err
    assert f"{IN_DNS} is {theirs} in DNS, where it does not answer" in run.err
    assert "set CLOUD_IP_CONFIG_3 to a static address" in run.err
    assert logins(lab, FIRST) == []
    assert ready_members(lab) == ALL_MEMBERS - {NAME}


def test_static_address_that_another_machine_has_is_noticed_before_its_key_is_learned(
    lab: Lab, homelab: Homelab
) -> None:
    theirs = lab.network.guest(77)
    lab.fault("agent-missing")
    lab.fault("neighbour", address=theirs, mac="02:00:00:00:00:07", state="REACHABLE")

    run = homelab(CLOUD_IP_CONFIG_3=f"ip={theirs}/16,gw={lab.network.guest(254)}", **QUICK)

    assert run.exit_code == 3, run.text
    assert f"VM {NAME} (vmid=100): another machine has its address: at {theirs} 02:00:00:00:00:07 answers" in run.err
    assert "learned" not in run.err
    assert ready_members(lab) == {"k3s-server"}


@pytest.mark.parametrize("is_static", [True, False])
def test_by_the_api_alone_nobody_is_believed_to_be_a_vm_without_agent_and_a_later_run_joins_it_by_ssh(
    lab: Lab, homelab: Homelab, monkeypatch: pytest.MonkeyPatch, is_static: bool
) -> None:
    lab.fault("ssh-refused")
    without_name_server(monkeypatch, {IN_DNS: lab.network.guest(1)})
    static = {"CLOUD_IP_CONFIG_3": f"ip={lab.network.guest(1)}/16"} if is_static else {}

    run = homelab("--via", "api", **QUICK, **static)

    assert run.exit_code == 3, run.text
    what = "its SSH host key cannot be checked" if is_static else "its address cannot be found"
    assert f"VM {NAME} (vmid=100): {what}" in run.err
    assert "no SSH address of it answers" in run.err
    assert logins(lab, NAME) == []
    assert nodes_with_running_vm(lab) == ["pve3"]
    lab.clear_faults()
    again = homelab("--via", "api", **QUICK, **static)
    assert again.exit_code == 0, again.text
    assert again.err.count("learned the SSH host key of the new VM") == 1
    assert "rebooted" not in again.err
    assert ready_members(lab) == {"k3s-server", NAME}


@pytest.mark.parametrize("is_right", [True, False])
def test_name_that_nothing_but_dns_vouches_for_is_proven_by_the_host_key_of_an_earlier_run(
    lab: Lab, homelab: Homelab, monkeypatch: pytest.MonkeyPatch, is_right: bool
) -> None:
    two = {"NODE_ENABLED_2": "0", "K3S_ROLE_1": "agent", "K3S_ROLE_3": "agent"}
    assert homelab(**two).exit_code == 0
    take_out(lab, NAME)
    lab.fault("agent-missing", vm=NAME)
    lab.fault("ssh-refused")
    without_name_server(monkeypatch, {IN_DNS: address(lab, NAME if is_right else FIRST)})

    run = homelab("--via", "api", VM_START_TIMEOUT="30", **two)

    assert run.exit_code == (0 if is_right else 3), run.text
    assert (NAME in ready_members(lab)) == is_right
    assert f"{IN_DNS} in DNS" in run.err
    assert ("is pinned" in run.err) != is_right
