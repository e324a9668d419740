"""Stories of runs that nobody watches: started before replaced, left alone if somebody switched it off, only news."""

from __future__ import annotations

import json

import pytest

from e2e.conftest import Homelab, Run
from e2e.world import ALL_MEMBERS, NO_JOIN, nodes_with_running_vm, ready_members, uuids, vm_on
from pvelab.lab import Lab
from pvelab.rules import power
from pvelab.state import World
from support.clock import SteppingClock

HOUR_S = 3600.0


class Cron:
    """The same command every hour."""

    def __init__(self, homelab: Homelab, clock: SteppingClock) -> None:
        self._homelab = homelab
        self._clock = clock

    def __call__(self, *words: str, after_s: float = HOUR_S, is_joined: bool = True) -> Run:
        self._clock.advance(after_s)
        return self._homelab("--cron", *words, **{} if is_joined else NO_JOIN)


@pytest.fixture
def cron(homelab: Homelab, shared_clock: SteppingClock) -> Cron:
    return Cron(homelab, shared_clock)


def crash(lab: Lab, vmid: int) -> None:
    """The VM goes off by itself, as after a shutdown from inside: no task tells of it."""

    def happen(world: World) -> None:
        power.switch_off(world, world.vms[vmid])

    lab.look(happen)


# --- rule 4 ------------------------------------------------------------------------------------------------------


def test_vm_that_went_off_is_started_the_first_time_and_replaced_when_it_is_down_again_within_a_day(
    lab: Lab, cron: Cron, via: str
) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    before = uuids(lab)

    first = cron("--via", via)
    assert first.exit_code == 0, first.text
    assert uuids(lab) == before
    assert f"VM k3s-vm-pve3 (vmid={vmid}) started (VM is stopped; nobody watches" in first.out
    assert ready_members(lab) == ALL_MEMBERS

    crash(lab, vmid)
    second = cron("--via", via)
    assert second.exit_code == 0, second.text
    assert uuids(lab)[vmid] != before[vmid]
    assert "deleted (VM is stopped again, within 24 h of an unattended start) and recreated" in second.out
    assert ready_members(lab) == ALL_MEMBERS


def test_vm_that_a_person_made_anew_since_is_started_first_again(lab: Lab, cron: Cron) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    assert cron(is_joined=False).exit_code == 0
    crash(lab, vmid)
    lab.look(lambda world: world.vms[vmid].config.update(smbios1="uuid=0f9f7a3e-1c1d-4f0e-9a68-9f2b8a6d1107"))
    remade = uuids(lab)

    run = cron(is_joined=False)

    assert run.exit_code == 0, run.text
    assert "nobody watches, so it is started first" in run.out
    assert uuids(lab) == remade


def test_vm_that_goes_off_once_a_week_is_started_each_time(lab: Lab, cron: Cron) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    before = uuids(lab)
    for _ in range(2):
        run = cron(after_s=7 * 24 * HOUR_S, is_joined=False)
        assert run.exit_code == 0, run.text
        crash(lab, vmid)

    assert uuids(lab) == before


def test_vm_that_does_not_start_unattended_is_replaced_by_the_next_run(lab: Lab, cron: Cron) -> None:
    lab.reset("stopped")
    vmid, vm = vm_on(lab, "pve3")
    before = uuids(lab)
    config = {**vm["config"], "net0": vm["config"]["net0"].replace("vmbr0", "vmbr9")}
    lab.look(lambda world: setattr(world.vms[vmid], "config", config))

    first = cron(is_joined=False)
    assert first.exit_code == 3, first.text
    assert f"VM k3s-vm-pve3 (vmid={vmid}) does not start" in first.err
    assert uuids(lab) == before

    second = cron(is_joined=False)
    assert second.exit_code == 0, second.text
    assert uuids(lab)[vmid] != before[vmid]


def test_paused_vm_is_resumed_the_first_time(lab: Lab, cron: Cron) -> None:
    lab.reset("paused")
    before = uuids(lab)

    run = cron()

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert ready_members(lab) == ALL_MEMBERS


@pytest.mark.parametrize("command", ["qm stop", "qm shutdown"])
def test_vm_that_somebody_switched_off_is_left_off_and_that_is_said_once(
    lab: Lab, cron: Cron, via: str, command: str
) -> None:
    lab.reset("healthy")
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"{command} {vmid}")
    before = lab.snapshot()["vms"]

    first, later = cron("--via", via), [cron("--via", via, after_s=20 * HOUR_S) for _ in range(2)]

    assert [run.exit_code for run in (first, *later)] == [0, 0, 0]
    kind = command.replace(" ", "")
    assert f"k3s-vm-pve3 (vmid={vmid}) is left as it is: VM is stopped; parked: {kind} by root@pam" in first.out
    assert [run.text for run in later] == ["", ""]
    assert lab.snapshot()["vms"] == before


def test_vm_that_somebody_switched_off_is_left_off_beside_one_that_is_kept_down(lab: Lab, cron: Cron) -> None:
    lab.reset("healthy")
    lab.shell("pve3", "qm stop 102")
    lab.shell("pve2", "qm set 101 --tags 'homelab;homelab-keep'")
    crash(lab, 101)
    before = lab.snapshot()["vms"]

    run = cron()

    assert run.exit_code == 0, run.text
    assert lab.snapshot()["vms"] == before


def test_what_somebody_switched_off_is_replaced_by_hand_and_by_name(
    lab: Lab, homelab: Homelab, shared_clock: SteppingClock
) -> None:
    lab.reset("healthy")
    lab.shell("pve3", "qm stop 102")
    before = uuids(lab)

    assert Cron(homelab, shared_clock)(is_joined=False).exit_code == 0
    assert uuids(lab) == before

    run = homelab("--via", "api", **NO_JOIN)
    assert run.exit_code == 0, run.text
    assert uuids(lab)[102] != before[102]


# --- silence -----------------------------------------------------------------------------------------------------


def test_when_all_is_well_nothing_is_said(lab: Lab, cron: Cron) -> None:
    lab.reset("healthy")

    run = cron()

    assert (run.exit_code, run.text) == (0, "")
    assert lab.writes == []


def test_standing_trouble_is_said_once_then_daily_and_again_when_it_came_back(lab: Lab, cron: Cron) -> None:
    lab.reset("unknown")
    said = [cron(is_joined=False) for _ in range(3)]
    assert [run.exit_code for run in said] == [3, 3, 3]
    assert "its state is io-error" in said[0].out
    assert said[0].err.splitlines()[-1].startswith("error: VM k3s-vm-pve3 (vmid=102) is kept: ")
    assert [run.text for run in said[1:]] == ["", ""]

    assert "its state is io-error" in cron(after_s=24 * HOUR_S, is_joined=False).text

    def fill(world: World) -> None:
        world.vms[102].qmp = "io-error"
        world.guests.pause(world.vms[102])

    lab.shell("pve3", "qm resume 102")
    over = cron(is_joined=False)
    assert (over.exit_code, over.text) == (0, "")
    lab.look(fill)
    assert "its state is io-error" in cron(is_joined=False).text


def test_changed_trouble_is_said_at_once(lab: Lab, cron: Cron) -> None:
    lab.reset("unknown")
    assert "io-error" in cron().text

    lab.look(lambda world: setattr(world.vms[102], "qmp", "internal-error"))

    assert "its state is internal-error" in cron().text
    assert cron().text == ""


def test_trouble_that_stands_is_not_repeated_when_something_else_changes(lab: Lab, cron: Cron) -> None:
    lab.reset("unknown")
    cron()
    crash(lab, 101)

    run = cron(is_joined=False)

    assert run.exit_code == 3
    assert "VM k3s-vm-pve2 (vmid=101) started" in run.out
    assert "io-error" not in run.text


def test_node_that_is_off_is_said_once_and_the_others_are_done(lab: Lab, cron: Cron) -> None:
    lab.reset("healthy")
    lab.fault("node-down", node="pve3")

    first, second = cron(), cron()

    assert (first.exit_code, second.exit_code) == (3, 3)
    assert "pve3: nothing done" in first.text
    assert second.text == ""


def test_trouble_of_the_whole_run_is_said_once(lab: Lab, cron: Cron) -> None:
    lab.reset("healthy")
    for node in ("pve1", "pve2", "pve3"):
        lab.fault("node-down", node=node)

    first, second = cron(), cron()

    assert first.exit_code == second.exit_code == 1
    assert first.text != ""
    assert second.text == ""


def test_cron_with_json_is_json_or_nothing(lab: Lab, cron: Cron) -> None:
    lab.reset("unknown")

    first, second = cron("--json"), cron("--json")

    assert json.loads(first.out)["exit_code"] == first.exit_code == second.exit_code == 3
    assert second.out == ""


def test_dry_run_shows_what_cron_would_do(lab: Lab, cron: Cron) -> None:
    lab.reset("stopped")

    run = cron("--dry-run")

    assert run.exit_code == 0, run.text
    assert "VM k3s-vm-pve3 (vmid=102): start: " in run.out
    assert "[rule 4: unattended, started first]" in run.out
    assert lab.writes == []
