"""Stories of the way into the cluster: reaching the VM, its first boot, ghosts, versions, roles, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from e2e.conftest import Homelab
from e2e.world import (
    ALL_MEMBERS,
    NAME,
    ONLY_PVE3,
    before_call,
    guests,
    nodes_with_running_vm,
    ready_members,
    take_out,
    uuids,
    voters,
)
from homelab.errors import Refused
from homelab.proxmox.client import Proxmox
from pvelab.lab import Lab
from pvelab.state import World
from support.clock import SteppingClock


def static(lab: Lab, number: int = 77) -> dict[str, str]:
    return {"CLOUD_IP_CONFIG_3": f"ip={lab.network.guest(number)}/16,gw={lab.network.guest(254)}"}


# --- reaching the VM ---------------------------------------------------------------------------------------------


def test_vm_with_a_static_address_joins_without_agent_and_its_host_key_is_learned_once_and_said(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.fault("agent-missing")

    run = homelab("--via", via, **ONLY_PVE3, **static(lab))

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", NAME}
    address = lab.network.guest(77)
    assert run.err.count(f"learned the SSH host key of the new VM at {address}:") == 1
    assert lab.snapshot()["vms"][100]["config"]["ipconfig0"].startswith(f"ip={address}/16")


def test_host_key_of_a_new_vm_with_a_static_address_is_the_one_that_its_agent_gives(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    run = homelab("--via", via, **ONLY_PVE3, **static(lab))

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", NAME}
    assert "learned the SSH host key" not in run.text


def test_token_that_may_not_read_files_of_the_guest_is_not_waited_for(
    lab: Lab, homelab: Homelab, shared_clock: SteppingClock
) -> None:
    lab.fault("on", do="error", status=403, path="/nodes/*/qemu/*/agent/file-read", text="Permission check failed")
    began = shared_clock.now()

    run = homelab("--via", "api", **ONLY_PVE3, **static(lab))

    assert run.exit_code == 0, run.text
    assert "learned the SSH host key" in run.err
    assert shared_clock.now() - began < 400


def test_vm_that_never_answers_is_reported_within_bounded_time_and_left_as_it_is(
    lab: Lab, homelab: Homelab, shared_clock: SteppingClock, via: str
) -> None:
    lab.fault("stuck-boot")
    began = shared_clock.now()

    run = homelab("--via", via, VM_START_TIMEOUT="30", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"VM {NAME} (vmid=100) is running, not responding" in run.err
    assert "the guest agent gives no address" in run.err
    assert "pve3 hears nobody with its MAC" in run.err
    assert "qm terminal 100 on pve3" in run.err
    assert f"to make it anew: --replace {NAME}" in run.err
    assert nodes_with_running_vm(lab) == ["pve3"]
    assert shared_clock.now() - began < 600


def test_vm_made_earlier_whose_host_key_nobody_vouches_for_is_not_logged_in_to(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)
    lab.fault("agent-missing")

    run = homelab("--via", via, **static(lab, 3))

    assert run.exit_code == 3, run.text
    assert f"VM {NAME} (vmid=102): its SSH host key cannot be checked" in run.err
    assert "install and start qemu-guest-agent in the VM" in run.err
    assert ready_members(lab) == ALL_MEMBERS - {NAME}


def test_address_of_another_vm_is_noticed_by_its_host_key(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)

    run = homelab(**static(lab, 1))

    assert run.exit_code == 3, run.text
    assert "is pinned" in run.err
    assert ready_members(lab) == ALL_MEMBERS - {NAME}


def test_static_address_at_which_nobody_answers_is_running_not_responding(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)

    run = homelab(VM_START_TIMEOUT="10", **static(lab, 99))

    assert run.exit_code == 3, run.text
    assert f"VM {NAME} (vmid=102) is running, not responding: SSH does not answer" in run.err
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]


@pytest.mark.parametrize("command", ["true", "cloud-init status"])
def test_connection_that_drops_while_the_vm_comes_up_is_made_again(
    lab: Lab, homelab: Homelab, via: str, command: str
) -> None:
    lab.fault("on", do="ssh-drop", command=command, node=NAME, times=1)

    run = homelab("--via", via, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", NAME}


# --- the first boot ----------------------------------------------------------------------------------------------


def with_vendor_data(lab: Lab, text: str, node: str = "pve3") -> None:
    """The VM on this node boots with other vendor data than it was to have."""

    def replace(world: World) -> None:
        files = world.nodes[node].files
        folder = "/var/lib/vz/snippets"
        for name in files.names(folder):
            files.provide(f"{folder}/{name}", text.encode())

    before_call(lab, "POST", rf"/nodes/{node}/qemu/\d+/status/start", replace)


def _refusing(set_vm: Callable[..., Any], word: str) -> Callable[..., Any]:
    """Proxmox refuses to set values with this word."""

    def refuse(pve: Proxmox, node: str, vmid: int, values: dict[str, str], **more: Any) -> Any:
        if word in str(values):
            raise Refused("no", "VM is locked (backup)", "wait", status=500)
        return set_vm(pve, node, vmid, values, **more)

    return refuse


def test_failed_first_boot_is_reported_and_the_vm_not_joined(lab: Lab, homelab: Homelab, via: str) -> None:
    with_vendor_data(lab, "#cloud-config\npackages: [qemu-guest-agent, curl]\nruncmd: [[cat, /nowhere]]\n")

    run = homelab("--via", via, **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"VM {NAME}: cloud-init failed" in run.err
    assert "/nowhere" in run.err
    assert "cloud-init status --long" in run.err
    assert ready_members(lab) == {"k3s-server"}


def test_place_of_a_server_whose_first_boot_failed_goes_to_a_node_that_has_not_begun(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    with_vendor_data(lab, "#cloud-config\npackages: [qemu-guest-agent, curl]\nruncmd: [[cat, /nowhere]]\n", "pve1")
    lab.fault("agent-missing", vm=NAME)
    lab.look(lambda world: world.clock.after(400.0, lambda: guests(world).silent.discard(NAME)))

    run = homelab("--via", via, VM_START_TIMEOUT="600")

    assert run.exit_code == 3, run.text
    assert "VM k3s-vm-pve1: cloud-init failed" in run.err
    assert voters(lab) == ["k3s-server", "k3s-vm-pve2", NAME]
    assert "two voting servers" not in run.text


def test_first_boot_with_errors_it_got_over_joins_and_is_noted(lab: Lab, homelab: Homelab) -> None:
    with_vendor_data(lab, "#cloud-config\npackages: [qemu-guest-agent, curl]\nnonsense: true\n")

    run = homelab(**ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", NAME}
    assert f"VM {NAME}: cloud-init had errors it could get over" in run.out


@pytest.mark.parametrize("has_snippet", [True, False], ids=["snippet-there", "snippet-lost"])
def test_vm_stopped_in_its_first_boot_goes_through_it_when_started_again(
    lab: Lab, homelab: Homelab, via: str, has_snippet: bool
) -> None:
    lab.fault("stuck-boot")
    homelab("--via", via, VM_START_TIMEOUT="30", **ONLY_PVE3)
    lab.clear_faults()
    lab.shell("pve3", "qm stop 100")
    if not has_snippet:
        lab.shell("pve3", "rm -r /var/lib/vz/snippets")
    before = uuids(lab)

    run = homelab("--via", via, STOPPED_VM="start", **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert ready_members(lab) == {"k3s-server", NAME}
    assert "cicustom" not in lab.snapshot()["vms"][100]["config"]


def test_vm_stopped_in_its_first_boot_is_started_without_its_snippet_where_none_can_be_brought(
    lab: Lab, homelab: Homelab
) -> None:
    lab.fault("stuck-boot")
    homelab(VM_START_TIMEOUT="30", **ONLY_PVE3)
    lab.clear_faults()
    lab.shell("pve3", "qm stop 100 && rm -r /var/lib/vz/snippets && pvesm set local --content iso,import")

    run = homelab(STOPPED_VM="start", K3S_EXISTING_NODE_IP=None, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    vm = lab.snapshot()["vms"][100]
    assert vm["status"] == "running"
    assert "cicustom" not in vm["config"]


def test_vm_whose_tags_cannot_be_written_has_joined_all_the_same(
    lab: Lab, homelab: Homelab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Proxmox, "set_vm", _refusing(Proxmox.set_vm, "homelab-agent"))

    run = homelab("--via", "api", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert ready_members(lab) == {"k3s-server", NAME}
    assert f"{NAME} joined cluster as agent" in run.out
    assert f"VM {NAME} has joined, but does not bear the tag of its role: no: VM is locked (backup)" in run.out
