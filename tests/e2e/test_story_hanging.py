"""Stories of VMs that run and do not answer: rebooted once if they never were members, never deleted."""

from __future__ import annotations

import pytest

from e2e.conftest import Homelab
from e2e.world import NAME, ONLY_PVE3, nodes_with_running_vm, ready_members, take_out, uuids
from pvelab.lab import Lab

QUICK = {**ONLY_PVE3, "VM_START_TIMEOUT": "30"}


def resets(lab: Lab) -> int:
    return sum("reset" in request.what for request in lab.writes)


@pytest.fixture
def hanging(lab: Lab, homelab: Homelab) -> None:
    """An earlier run has made a VM that hangs in its boot."""
    lab.fault("stuck-boot")
    assert homelab(**QUICK).exit_code == 3
    assert resets(lab) == 0


@pytest.mark.usefixtures("hanging")
def test_vm_that_hangs_and_never_was_a_member_is_rebooted_and_joins(lab: Lab, homelab: Homelab, via: str) -> None:
    before = uuids(lab)
    lab.clear_faults()

    run = homelab("--via", via, **QUICK)

    assert run.exit_code == 0, run.text
    assert resets(lab) == 1
    assert f"{NAME}: running, not responding, and never a Ready member: it is rebooted, once" in run.err
    assert uuids(lab) == before
    assert ready_members(lab) == {"k3s-server", NAME}


@pytest.mark.usefixtures("hanging")
def test_vm_that_hangs_for_good_is_rebooted_once_and_reported_each_time_and_never_deleted(
    lab: Lab, homelab: Homelab
) -> None:
    before = uuids(lab)
    for _ in range(2):
        run = homelab(**QUICK)
        assert run.exit_code == 3, run.text
        assert f"VM {NAME} (vmid=100) is running, not responding" in run.err
        assert f"--replace {NAME}" in run.err

    assert resets(lab) == 1
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve3"]


@pytest.mark.usefixtures("hanging")
def test_vm_that_hangs_is_made_anew_when_a_person_names_it(lab: Lab, homelab: Homelab) -> None:
    before = uuids(lab)
    lab.clear_faults()

    run = homelab("--replace", NAME, **QUICK)

    assert run.exit_code == 0, run.text
    assert uuids(lab)[100] != before[100]
    assert ready_members(lab) == {"k3s-server", NAME}


@pytest.mark.parametrize("tags", ["homelab;homelab-agent", "homelab;homelab-keep"], ids=["was-member", "keep"])
def test_vm_that_was_a_member_or_is_to_be_left_alone_is_not_rebooted(lab: Lab, homelab: Homelab, tags: str) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)
    lab.fault("agent-missing")
    lab.look(lambda world: world.vms[102].config.update(tags=tags))

    run = homelab(**QUICK)

    assert run.exit_code == 3, run.text
    assert f"VM {NAME} (vmid=102) is running, not responding" in run.err
    assert resets(lab) == 0
