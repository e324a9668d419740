"""What persons did after a run was cut off is theirs: it is neither taken for the run's own nor cleaned away."""

from __future__ import annotations

import pytest

from e2e.conftest import Homelab
from e2e.interruptions import killed, open_writes, tags
from e2e.world import NAME, NO_JOIN, ONLY_PVE3, before_call, uuids, vm_on
from pvelab.lab import Lab
from pvelab.rules import configs
from pvelab.state import Task, Vm, World

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
"""A node's thread that is killed says so."""


def begin(world: World, kind: str, vmid: int) -> None:
    """A person begins a task on the third node, and it goes on."""
    now = int(world.clock.now())
    upid = f"UPID:pve3:00001000:00001000:{now:08X}:{kind}:{vmid}:root@pam:"
    world.tasks[upid] = Task(upid, "pve3", 0x1000, 0x1000, now, kind, str(vmid), "root@pam")


def test_disk_and_backup_of_a_vmid_whose_creation_was_never_carried_out_stay(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    with killed("POST", "/nodes/pve3/qemu"):
        homelab("--via", via, **ONLY_PVE3, **NO_JOIN)
    assert open_writes(homelab) == 1
    backup = "/var/lib/vz/dump/vzdump-qemu-100-2026_01_01-00_00_00.vma.zst"
    lab.shell("pve3", f"pvesm alloc local 100 vm-100-disk-7.raw 4G; mkdir -p /var/lib/vz/dump; echo x > {backup}")

    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert "local:100/vm-100-disk-7.raw" in lab.shell("pve3", "pvesm list local")
    assert lab.shell("pve3", f"cat {backup}") == "x\n"
    assert tags(lab) == {101: "homelab"}
    assert open_writes(homelab) == 0


def test_vm_that_a_person_is_restoring_under_the_vmid_of_a_cut_off_creation_stays(lab: Lab, homelab: Homelab) -> None:
    with killed("POST", "/nodes/pve3/qemu"):
        homelab("--via", "api", **ONLY_PVE3, **NO_JOIN)
    lab.shell("pve3", "qm create 100 --memory 512")
    lab.look(lambda world: world.vms[100].config.update({"lock": "create"}))

    run = homelab("--via", "api", **ONLY_PVE3, **NO_JOIN)

    assert 100 in lab.snapshot()["vms"], run.text
    assert lab.snapshot()["vms"][100]["config"]["lock"] == "create"


def test_vm_that_a_person_restored_after_it_was_deleted_follows_the_rules_again(lab: Lab, homelab: Homelab) -> None:
    lab.reset("stopped")
    vmid, vm = vm_on(lab, "pve3")
    with killed("POST", "/nodes/pve3/qemu"):
        homelab()
    config = vm["config"]
    lab.shell(
        "pve3",
        f"qm create {vmid} --name {NAME} --smbios1 '{config['smbios1']}' --tags '{config['tags']}' --scsi0 local:4 "
        f"--boot order=scsi0 --memory 2048 --net0 '{config['net0']}'",
    )
    restored = uuids(lab)

    run = homelab("--cron")

    assert uuids(lab) == restored, run.text
    assert "an earlier run had begun to replace it" not in run.text


def test_vm_is_not_deleted_while_another_is_being_made_that_may_take_its_name(lab: Lab, homelab: Homelab) -> None:
    lab.reset("stopped")
    before = uuids(lab)
    lab.look(lambda world: begin(world, "qmrestore", 900))

    run = homelab(**NO_JOIN)

    assert run.exit_code == 3, run.text
    assert "another VM is just being made there" in run.err
    assert uuids(lab) == before


def test_vm_is_not_deleted_when_a_second_one_of_its_name_has_come(lab: Lab, homelab: Homelab) -> None:
    lab.reset("stopped")
    _, before = vm_on(lab, "pve3")

    def twin(world: World) -> None:
        if 900 not in world.vms:
            configs.add(world, Vm(900, "pve1", {"name": NAME, "memory": "512"}, world.clock.now()))

    before_call(lab, "POST", "/nodes/pve3/storage/local/download-url", twin)

    run = homelab("--via", "api", **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert "VM 900 has that name by now" in run.err
    assert vm_on(lab, "pve3")[1]["config"] == before["config"]


def test_disks_of_whoever_has_the_vmid_now_are_not_named_as_left_over(lab: Lab, homelab: Homelab) -> None:
    lab.reset("stopped")
    with killed("POST", "/nodes/pve3/qemu"):
        homelab(**NO_JOIN)
    lab.shell("pve3", "qm create 102 --name theirs --scsi0 local:4")

    run = homelab(**NO_JOIN)

    assert run.exit_code == 0, run.text
    assert "pvesm free" not in run.text
    assert lab.snapshot()["vms"][102]["config"]["name"] == "theirs"


def test_deletion_stands_in_the_report_also_where_the_creation_then_fails(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    lab.fault("task-fails", kind="qmcreate", node="pve3")

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert f"VM {NAME} (vmid=102) deleted (VM is stopped)" in run.out
    assert 102 not in lab.snapshot()["vms"]


def test_temporary_file_of_a_person_stays(lab: Lab, homelab: Homelab) -> None:
    with killed("POST", "/nodes/pve3/qemu"):
        homelab("--via", "ssh", **ONLY_PVE3, **NO_JOIN)
    lab.shell("pve3", "echo x > /tmp/homelab.backup.tar")

    assert homelab("--via", "ssh", **ONLY_PVE3, **NO_JOIN).exit_code == 0
    assert lab.shell("pve3", "ls -A /tmp") == "homelab.backup.tar\n"
