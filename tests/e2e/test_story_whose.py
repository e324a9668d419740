"""Stories of whose VM it is: two of one name, a VMID, one that moved, one of the older script."""

from __future__ import annotations

import pytest

from e2e.conftest import Homelab, Run
from e2e.world import NO_JOIN, assert_untouched, before_call, change, twin, uuids, vm_on
from pvelab.lab import Lab
from pvelab.state import World


def test_of_two_vms_of_one_name_neither_is_touched(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    twin(lab, 300, "pve1", "k3s-vm-pve3")
    before = lab.snapshot()

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert f"k3s-vm-pve3 is not one VM: that name is carried by {vmid} on pve3, 300 on pve1" in run.err
    assert "set VMID_3 to the right one" in run.err
    assert_untouched(lab, before)


def test_vmid_in_the_configuration_tells_which_of_two_is_meant(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    vmid, _ = vm_on(lab, "pve3")
    twin(lab, 300, "pve1", "k3s-vm-pve3")

    run = homelab("--via", via, VMID_3=str(vmid), **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert run.out.count("is healthy, skipping.") == 3
    assert lab.writes == []


@pytest.mark.parametrize(
    ("vmid", "said", "cure"),
    [
        ("100", "VMID_3=100 is another VM: it is named k3s-vm-pve1 on pve1, not k3s-vm-pve3", "set VM_NAME_3"),
        ("900", "VMID_3=900 is not there: the name k3s-vm-pve3 is carried by 102 on pve3", "set VMID_3=102"),
    ],
)
def test_vmid_that_is_not_that_vm_stops_the_node(
    lab: Lab, homelab: Homelab, via: str, vmid: str, said: str, cure: str
) -> None:
    lab.reset("stopped")
    before = lab.snapshot()

    run = homelab("--via", via, VMID_3=vmid, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert said in run.err
    assert cure in run.err
    assert_untouched(lab, before)


def only_pve1_but_its_vm_is_on_pve3(homelab: Homelab, via: str) -> Run:
    gone = {f"{key}_{n}": None for key in ("NODE", "STORAGE", "IMG_STORAGE") for n in (2, 3)}
    return homelab("--via", via, VM_NAME_1="k3s-vm-pve3", **gone, **NO_JOIN)


def test_running_vm_on_another_node_is_left_there_and_that_is_said(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")

    run = only_pve1_but_its_vm_is_on_pve3(homelab, via)

    assert run.exit_code == 0, run.text
    assert "is healthy, skipping. (on pve3, not on pve1: kept there)" in run.out
    assert lab.writes == []


def test_stopped_vm_on_another_node_is_left_alone_and_reported(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    before = lab.snapshot()

    run = only_pve1_but_its_vm_is_on_pve3(homelab, via)

    assert run.exit_code == 1, run.text
    assert "VM is stopped, and it is on pve3, not on pve1: left alone" in run.err
    assert "qm migrate 102 pve1" in run.err
    assert_untouched(lab, before)


def test_healthy_vm_of_the_old_script_is_kept_and_named_as_such(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    vmid, _ = vm_on(lab, "pve3")
    change(lab, vmid, tags="")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert f"VM k3s-vm-pve3 (vmid={vmid}) is healthy, skipping. (not made by homelab)" in run.out
    assert lab.writes == []


def test_stopped_vm_of_the_old_script_follows_the_same_rules(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    change(lab, vmid, tags="")
    before = uuids(lab)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab)[vmid] != before[vmid]
    assert "homelab" in lab.snapshot()["vms"][vmid]["config"]["tags"].split(";")


def test_replacement_is_made_in_the_pool_of_the_vm_that_it_replaces(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"pvesh create /pools --poolid prod; pvesh set /pools/prod --vms {vmid}")
    before = uuids(lab)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab)[vmid] != before[vmid]
    assert lab.look(lambda world: world.pools["prod"].vmids) == {vmid}


def test_replacement_is_made_without_the_pool_when_that_is_gone_and_that_is_said(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"pvesh create /pools --poolid prod; pvesh set /pools/prod --vms {vmid}")
    before = uuids(lab)

    def remove_pool(world: World) -> None:
        world.pools.pop("prod", None)

    before_call(lab, "POST", "/nodes/pve3/qemu", remove_pool)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab)[vmid] != before[vmid]
    assert f"VM k3s-vm-pve3 (vmid={vmid}) is in no pool: the VM before it was in prod" in run.err
    assert "pvesh create /pools --poolid prod" in run.err


def test_locked_vm_that_runs_is_healthy_and_its_lock_is_named(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    vmid, _ = vm_on(lab, "pve3")
    change(lab, vmid, lock="backup")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert "is healthy, skipping. (locked: backup)" in run.out
    assert lab.writes == []
