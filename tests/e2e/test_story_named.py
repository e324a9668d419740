"""Stories of a person who names nodes and VMs: --node, --replace, --force-replace."""

from __future__ import annotations

import json

import pytest

from e2e.conftest import Homelab
from e2e.world import ALL_MEMBERS, NO_JOIN, change, nodes_with_running_vm, power_off, ready_members, uuids
from pvelab.lab import Lab
from support.clock import SteppingClock

# --- --node ------------------------------------------------------------------------------------------------------


def test_only_the_node_that_is_named_is_worked_on(lab: Lab, homelab: Homelab, via: str) -> None:
    run = homelab("--via", via, "--node", "pve2", **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve2"]
    assert "1 node, 1 with their VM running" in run.out


def test_two_vms_down_are_a_power_cut_also_where_the_run_is_about_one_of_them(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    power_off(lab, "pve2", "pve3")
    before = uuids(lab)

    run = homelab("--node", "pve3", **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve1", "pve3"]
    assert "as after a power cut" in run.out


def test_trouble_on_the_other_nodes_is_not_this_runs(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    lab.fault("node-down", node="pve3")

    run = homelab("--node", "pve1", "--node", "PVE2", CPU_RATIO_3="lots")

    assert run.exit_code == 0, run.text
    assert "pve3" not in run.text


def test_run_for_one_node_that_fails_is_partly_done_while_another_vm_runs(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    lab.fault("node-down", node="pve3")

    run = homelab("--node", "pve3")

    assert run.exit_code == 3, run.text
    assert "0 with their VM running" in run.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--node", "pve9"), "--node pve9 names no configured node: there are pve1, pve2, pve3"),
        (("--replace", "vm"), "--replace vm names no configured node and no VM of one: there are pve1, pve2, pve3"),
        (("--node", "pve1", "--replace", "pve2"), "--replace pve2 is not among the nodes of this run"),
        (("--cron", "--replace", "pve1"), "not allowed with --cron"),
        (("--cron", "--force-replace", "pve1"), "not allowed with --cron"),
    ],
)
def test_names_that_cannot_be_meant_are_exit_code_2_and_contact_nothing(
    lab: Lab, homelab: Homelab, words: tuple[str, ...], said: str
) -> None:
    run = homelab(*words)

    assert run.exit_code == 2
    assert said in run.err
    assert lab.requests == []


# --- --replace ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pve3", "k3s-vm-pve3"])
def test_running_vm_is_replaced_when_a_person_names_it(lab: Lab, homelab: Homelab, via: str, name: str) -> None:
    lab.reset("healthy")
    before = uuids(lab)

    run = homelab("--via", via, "--replace", name)

    assert run.exit_code == 0, run.text
    assert uuids(lab)[102] != before[102]
    assert {vmid: uuid for vmid, uuid in uuids(lab).items() if vmid != 102} == {100: before[100], 101: before[101]}
    assert "deleted (running; a person named it) and recreated" in run.out
    assert ready_members(lab) == ALL_MEMBERS


def test_what_a_person_names_is_shown_in_the_plan_first(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")

    run = homelab("--replace", "pve3", "--dry-run", "--json")

    pve3 = json.loads(run.out)["nodes"][2]
    assert (pve3["action"], pve3["rule"]) == ("replace", "--replace")
    assert pve3["size"]["cores"] >= 1
    assert lab.writes == []


def test_vm_that_was_replaced_within_a_day_is_held_until_a_person_names_it(
    lab: Lab, homelab: Homelab, shared_clock: SteppingClock, via: str
) -> None:
    lab.reset("stopped")
    assert homelab("--via", via, **NO_JOIN).exit_code == 0
    power_off(lab, "pve3")
    before = uuids(lab)
    shared_clock.advance(7200)

    held = homelab("--via", via, **NO_JOIN)
    assert held.exit_code == 3, held.text
    assert uuids(lab) == before
    assert "VM k3s-vm-pve3 (vmid=102) is held: VM is stopped, and it was replaced less than 24 h ago" in held.err
    assert "--replace pve3" in held.err
    assert nodes_with_running_vm(lab) == ["pve1", "pve2"]

    named = homelab("--via", via, "--replace", "pve3", **NO_JOIN)
    assert named.exit_code == 0, named.text
    assert uuids(lab)[102] != before[102]


def test_io_error_is_no_hindrance_when_a_person_names_the_vm(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("unknown")
    before = uuids(lab)

    run = homelab("--via", via, "--replace", "pve3", **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab)[102] != before[102]
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]


@pytest.mark.parametrize(
    ("settings", "reason", "cure"),
    [
        ({"protection": "1"}, "its protection is on", "--protection 0"),
        ({"scsi1": "local:999/vm-999-disk-7.raw,size=18T"}, "it has the data disk scsi1", "qm disk move"),
        ({"tags": "homelab;homelab-keep"}, "it carries the tag homelab-keep", "--force-replace pve3"),
    ],
)
def test_guards_hold_also_for_what_a_person_names_and_the_vm_runs_on(
    lab: Lab, homelab: Homelab, via: str, settings: dict[str, str], reason: str, cure: str
) -> None:
    lab.reset("healthy")
    change(lab, 102, **settings)
    before = uuids(lab)

    run = homelab("--via", via, "--replace", "pve3")

    assert run.exit_code == 3, run.text
    assert f"VM k3s-vm-pve3 (vmid=102) is not replaced: {reason}" in run.err
    assert cure in run.err
    assert uuids(lab) == before
    assert "3 with their VM running" in run.out
    assert lab.writes == []


def test_server_is_not_replaced_by_name_while_k3s_says_no_however_much_a_person_insists(
    lab: Lab, homelab: Homelab
) -> None:
    lab.reset("stopped-server")
    before = uuids(lab)

    run = homelab("--node", "pve2", "--force-replace", "pve2")

    assert run.exit_code == 3, run.text
    assert uuids(lab) == before
    assert "it is or was a k3s server" in run.err


def test_room_that_is_missing_leaves_the_vm_running(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    before = uuids(lab)

    run = homelab("--replace", "pve3", IMG_STORAGE_3="tank")

    assert run.exit_code == 3, run.text
    assert "storage tank is not there" in run.err
    assert uuids(lab) == before
    assert ready_members(lab) == ALL_MEMBERS


# --- --force-replace ---------------------------------------------------------------------------------------------


def test_what_proxmox_shows_is_gone_over_when_a_person_insists(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    lab.shell("pve3", "qm set 102 --scsi1 local:8 --hostpci0 0000:01:00.0 --tags homelab-keep")
    before = uuids(lab)

    look = homelab("--via", via, "--force-replace", "pve3", "--dry-run", **NO_JOIN)
    run = homelab("--via", via, "--force-replace", "pve3", **NO_JOIN)

    assert "a person named it, although it has the data disk scsi1 (local:102/vm-102-disk-1.raw)" in look.out
    assert "[--force-replace]" in look.out
    assert run.exit_code == 0, run.text
    assert uuids(lab)[102] != before[102]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [("protection", "1", "its protection is on"), ("lock", "backup", "it is locked (backup)")],
)
def test_protection_and_lock_are_never_gone_over(
    lab: Lab, homelab: Homelab, via: str, key: str, value: str, reason: str
) -> None:
    lab.reset("healthy")
    change(lab, 102, **{key: value})
    before = uuids(lab)

    run = homelab("--via", via, "--force-replace", "pve3", **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert f"is not replaced: {reason}" in run.err
    assert uuids(lab) == before
