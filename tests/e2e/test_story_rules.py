"""Stories of restraint: what is kept by choice, what is started instead of deleted, and how many are replaced."""

from __future__ import annotations

import pytest

from e2e.conftest import Homelab
from e2e.world import (
    NO_JOIN,
    assert_untouched,
    change,
    nodes_with_running_vm,
    power_off,
    ready_members,
    take_out,
    twin,
    uuid_of,
    uuids,
    vm_on,
)
from pvelab.lab import Lab

# --- kept by choice ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "tags", "reason"),
    [
        pytest.param({"STOPPED_VM": "keep"}, "homelab", "STOPPED_VM=keep", id="setting"),
        pytest.param({}, "homelab;homelab-keep", "it carries the tag homelab-keep", id="tag"),
        pytest.param({"NODE_ENABLED_3": "0"}, "homelab", "NODE_ENABLED_3=0", id="disabled"),
    ],
)
@pytest.mark.parametrize("seed", ["stopped", "paused"])
def test_vm_that_is_down_by_choice_is_kept_and_that_is_no_trouble(
    lab: Lab, homelab: Homelab, via: str, seed: str, settings: dict[str, str], tags: str, reason: str
) -> None:
    lab.reset(seed)
    vmid, _ = vm_on(lab, "pve3")
    change(lab, vmid, tags=tags)
    before = lab.snapshot()

    run = homelab("--via", via, **settings)

    assert run.exit_code == 0, run.text
    assert f"VM k3s-vm-pve3 (vmid={vmid}) is left as it is: VM is {seed}; {reason}" in run.out
    assert_untouched(lab, before)


def test_nothing_is_made_on_a_disabled_node(lab: Lab, homelab: Homelab, via: str) -> None:
    run = homelab("--via", via, NODE_ENABLED_2="0", **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve3"]
    assert "NODE_ENABLED_2=0, nothing is wanted there" in run.out


@pytest.mark.parametrize("seed", ["stopped", "paused"])
def test_with_stopped_vm_start_it_goes_on_as_it_was(lab: Lab, homelab: Homelab, via: str, seed: str) -> None:
    lab.reset(seed)
    before = uuids(lab)

    run = homelab("--via", via, STOPPED_VM="start")

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert "k3s-vm-pve3 (vmid=102) started" in run.out
    assert "STOPPED_VM=start" in run.out


@pytest.mark.parametrize("seed", ["healthy", "unknown"])
def test_vm_of_a_disabled_node_is_left_alone_whatever_its_state(
    lab: Lab, homelab: Homelab, via: str, seed: str
) -> None:
    lab.reset(seed)
    if seed == "healthy":
        take_out(lab, "k3s-vm-pve3")
    before = lab.snapshot()["vms"]

    run = homelab("--via", via, NODE_ENABLED_3="0")

    assert run.exit_code == 0, run.text
    assert lab.snapshot()["vms"] == before
    assert "k3s-vm-pve3" not in ready_members(lab) or seed == "unknown"
    assert "VM k3s-vm-pve3 (vmid=102) is left as it is: " in run.out
    assert "; NODE_ENABLED_3=0" in run.out


# --- how many ----------------------------------------------------------------------------------------------------


def test_where_no_replacement_is_allowed_the_vm_is_started(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    before = uuids(lab)

    run = homelab("--via", via, MAX_REPLACEMENTS="0", **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert "MAX_REPLACEMENTS=0 is used up" in run.out
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]


def test_two_vms_down_at_once_are_started_not_deleted(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    power_off(lab, "pve2", "pve3")
    before = uuids(lab)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert run.out.count("as after a power cut") == 2


def test_vm_that_is_down_on_another_node_counts_among_those_that_are_down(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    lab.shell("pve2", "qm stop 101 && qm destroy 101 && sleep 2")
    twin(lab, 140, "pve1", "k3s-vm-pve2")
    _, before = vm_on(lab, "pve3")

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert uuid_of(vm_on(lab, "pve3")[1]) == uuid_of(before)
    assert "and it is on pve1, not on pve2: left alone" in run.err
    assert run.out.count("as after a power cut") == 1


def test_of_those_that_do_not_start_after_a_power_cut_only_as_many_as_allowed_are_replaced(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("power-cut")
    before = uuids(lab)
    for node in ("pve2", "pve3"):
        vmid, vm = vm_on(lab, node)
        change(lab, vmid, net0=vm["config"]["net0"].replace("vmbr0", "vmbr9"))

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    after = uuids(lab)
    changed = [vmid for vmid in before if before[vmid] != after[vmid]]
    assert len(changed) == 1
    assert len(nodes_with_running_vm(lab)) == 2
    assert run.err.count("does not start: ") == 1
    assert "bridge 'vmbr9' does not exist" in run.err


def test_vm_whose_start_still_goes_on_after_its_time_is_not_replaced(lab: Lab, homelab: Homelab) -> None:
    lab.reset("power-cut")
    before = uuids(lab)
    lab.fault("on", do="task-never-ends", method="POST", path="/nodes/pve3/qemu/102/status/start")

    run = homelab("--via", "api", **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert uuids(lab) == before
    assert "VM k3s-vm-pve3 (vmid=102) does not start: task qmstart of VM 102 on pve3: not within" in run.err


def test_vm_that_does_not_start_and_may_not_be_deleted_is_reported(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, vm = vm_on(lab, "pve3")
    change(lab, vmid, protection="1", net0=vm["config"]["net0"].replace("vmbr0", "vmbr9"))
    before = uuids(lab)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert uuids(lab) == before
    assert f"VM k3s-vm-pve3 (vmid={vmid}) does not start" in run.err
    assert "make vmbr9 on the node, or set NETWORK_IFACES_n" in run.err
    assert "its protection is on" in run.text


@pytest.mark.parametrize(
    ("settings", "problem", "cure"),
    [
        ({"NETWORK_IFACES_3": "vmbr7"}, "bridge vmbr7 is missing", "create it on pve3"),
        ({"VM_MEMORY_3": "60000"}, "not enough memory for the VM", "set VM_MEMORY_3"),
        ({"IMG_STORAGE_3": "tank"}, "storage tank is not there", "set IMG_STORAGE_3"),
    ],
)
def test_vm_whose_replacement_could_not_be_made_is_started_instead(
    lab: Lab, homelab: Homelab, via: str, settings: dict[str, str], problem: str, cure: str
) -> None:
    lab.reset("stopped")
    before = uuids(lab)

    run = homelab("--via", via, **settings, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert problem in run.out
    assert cure in run.err
