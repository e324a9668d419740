"""Stories of first boots: what they need and cannot get, and power that fails in the middle of one."""

from __future__ import annotations

import shutil

import pytest

from e2e.conftest import Homelab
from e2e.interruptions import tags
from e2e.world import NO_JOIN, ONLY_PVE3, ready_members, uuids
from pvelab.lab import Lab
from support.clock import SteppingClock

NAME = "k3s-vm-pve3"
START = {"method": "POST", "path": "/nodes/pve3/qemu/*/status/start", "command": "qm start"}


@pytest.mark.parametrize("command", ["pvesm path", "sh", "mv"])
def test_snippet_that_fails_once_is_brought_all_the_same(lab: Lab, homelab: Homelab, command: str) -> None:
    lab.fault("on", do="error", command=command, node="pve3", times=1)

    run = homelab("--via", "api", **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", NAME}


def test_vm_without_the_agent_that_a_join_needs_is_not_started_and_any_machine_goes_on_with_it(
    lab: Lab, homelab: Homelab, shared_clock: SteppingClock
) -> None:
    lab.fault("on", do="error", command="mv", node="pve3")

    run = homelab("--via", "api", **ONLY_PVE3)

    assert run.exit_code == 1, run.text
    assert f"error: VM {NAME} is not started yet: the snippet that installs it cannot be brought to the node" in run.err
    assert "then run again" in run.err
    assert (lab.snapshot()["vms"][100]["status"], tags(lab)) == ("stopped", {100: "homelab;homelab-unfinished"})
    lab.clear_faults()
    shutil.rmtree(homelab.home / "state")
    shared_clock.advance(1900)
    assert homelab("--via", "api", **ONLY_PVE3).exit_code == 0
    assert ready_members(lab) == {"k3s-server", NAME}
    assert tags(lab) == {100: "homelab;homelab-agent"}


def test_vm_that_joins_nothing_runs_without_the_agent_and_its_loss_is_named(lab: Lab, homelab: Homelab) -> None:
    lab.fault("on", do="error", command="mv", node="pve3")

    run = homelab("--via", "api", **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert f"VM {NAME} is made without the guest agent: the snippet that installs it cannot be brought" in run.out
    assert tags(lab) == {100: "homelab"}


def test_vm_whose_first_boot_lost_its_power_is_made_again_once_no_agent_comes_up(
    lab: Lab, homelab: Homelab, via: str, shared_clock: SteppingClock
) -> None:
    lab.fault("on", do="power-loss", node="pve3", seconds=20, **START)
    homelab("--via", via, **ONLY_PVE3)
    lab.clear_faults()
    shared_clock.advance(90)
    before = uuids(lab)

    run = homelab("--via", via, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert "its first boot was cut off, and no guest agent came up since: it is made again" in run.out
    assert uuids(lab) != before
    assert ready_members(lab) == {"k3s-server", NAME}
    assert tags(lab) == {100: "homelab;homelab-agent"}
    writes = len(lab.writes)
    assert homelab("--via", via, **ONLY_PVE3).exit_code == 0
    assert len(lab.writes) == writes


def test_vm_that_joins_nothing_is_not_made_again_after_a_power_loss(
    lab: Lab, homelab: Homelab, shared_clock: SteppingClock
) -> None:
    lab.fault("on", do="power-loss", node="pve3", seconds=20, **START)
    homelab(**ONLY_PVE3)
    lab.clear_faults()
    shared_clock.advance(90)
    before = uuids(lab)

    assert homelab(**ONLY_PVE3, **NO_JOIN).exit_code == 0

    assert uuids(lab) == before
    assert tags(lab) == {100: "homelab"}
