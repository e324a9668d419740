"""VMs that an earlier run left unfinished."""

from __future__ import annotations

import asyncio

import pytest

from e2e.conftest import Homelab
from e2e.world import NO_JOIN, uuids, vm_on, work_on
from pvelab.api import ROOT_SSH, Api
from pvelab.lab import Lab

# --- unfinished --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "off"])
def test_unfinished_vm_that_has_booted_is_finished_not_made_anew(
    lab: Lab, homelab: Homelab, via: str, is_running: bool
) -> None:
    lab.reset("healthy" if is_running else "stopped")
    vmid, _ = vm_on(lab, "pve3")
    custom = "vendor=local:snippets/homelab-vendor-0.yaml"
    lab.shell("pve3", f"qm set {vmid} --tags 'homelab;homelab-unfinished' --cicustom {custom}")
    lab.shell("pve3", "touch /var/lib/vz/snippets/homelab-vendor-0.yaml")
    before = uuids(lab)

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    vm = lab.snapshot()["vms"][vmid]
    assert (vm["status"], vm["config"]["tags"]) == ("running", "homelab;homelab-agent")
    assert "cicustom" not in vm["config"]
    assert "finished (an earlier run was interrupted)" in run.out


def test_half_built_vm_with_the_vmid_of_an_earlier_one_has_not_booted(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    lab.shell("pve3", "qm stop 102 && qm destroy 102 && sleep 2")
    lab.shell("pve3", "qm create 102 --name k3s-vm-pve3 --tags 'homelab;homelab-unfinished' --scsi0 local:8")
    before = uuids(lab)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab)[102] != before[102]
    assert "it never booted and is made again" in run.text
    assert lab.snapshot()["vms"][102]["config"]["tags"] == "homelab"


def test_half_built_vm_whose_making_is_no_longer_on_record_is_started_and_finished(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("half-built")
    before = uuids(lab)
    lab.look(lambda world: world.tasks.clear())

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert "finished (an earlier run was interrupted)" in run.out


def test_unfinished_vm_that_is_locked_is_not_touched(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    lab.look(lambda world: world.vms[vmid].config.update(tags="homelab;homelab-unfinished", lock="backup"))
    before = lab.snapshot()

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert f"VM k3s-vm-pve3 (vmid={vmid}) is not finished: it is locked (backup)" in run.err
    assert f"qm unlock {vmid}" in run.err
    assert lab.snapshot()["vms"] == before["vms"]
    assert work_on(lab) == []


@pytest.mark.parametrize(
    ("settings", "tags", "exit_code"),
    [
        ({"NODE_ENABLED_3": "0"}, "homelab;homelab-unfinished", 0),
        ({}, "homelab;homelab-keep;homelab-unfinished", 0),
    ],
    ids=["disabled", "keep"],
)
def test_half_built_vm_that_is_to_be_kept_is_left_alone(
    lab: Lab, homelab: Homelab, via: str, settings: dict[str, str], tags: str, exit_code: int
) -> None:
    lab.reset("half-built")
    vmid, _ = vm_on(lab, "pve3")
    lab.look(lambda world: world.vms[vmid].config.update(tags=tags))
    before = lab.snapshot()

    run = homelab("--via", via, **settings, **NO_JOIN)

    assert run.exit_code == exit_code, run.text
    assert lab.snapshot()["vms"] == before["vms"]
    assert lab.writes == []


def test_half_built_vm_with_a_data_disk_is_kept_and_not_started(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("half-built")
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"qm set {vmid} --scsi1 local:8")
    before = lab.snapshot()

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert f"VM k3s-vm-pve3 (vmid={vmid}) is kept: left unfinished by an earlier run" in run.err
    assert "it has the data disk scsi1" in run.err
    assert lab.snapshot()["vms"] == before["vms"]


def test_vm_that_an_interrupted_run_left_in_the_making_is_waited_for_and_not_made_twice(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    params = {"vmid": "100", "name": "k3s-vm-pve3", "tags": "homelab;homelab-unfinished", "scsi0": "local:8"}
    lab.look(lambda world: setattr(world.timings, "create_s", 500.0))
    creation = lab.look(
        lambda world: asyncio.ensure_future(Api(world).call("POST", "/nodes/pve3/qemu", params, ROOT_SSH, "pve3"))
    )
    lab.wait_until(lambda _: creation.done())
    others = {"NODE_ENABLED_1": "0", "NODE_ENABLED_2": "0", **NO_JOIN}

    too_early = homelab("--via", via, **others)

    assert too_early.exit_code == 1, too_early.text
    assert "a VM is just being made there: task qmcreate of VM 100" in too_early.err
    assert lab.writes == []

    lab.wait_until(lambda world: not any(task.is_running for task in world.tasks.values()), timeout_s=1000)
    assert homelab("--via", via, **others).exit_code == 0
    assert {vmid: vm["config"]["tags"] for vmid, vm in lab.snapshot()["vms"].items()} == {100: "homelab"}
