"""Disks that move, VMs that do not, what storages are able to, and qm's smaller commands."""

from __future__ import annotations

from typing import Any

import pytest

from replay.stage import Stage

VMS = "/nodes/pve1/qemu"
VM = f"{VMS}/100"
DISK = "local:100/vm-100-disk-0.raw"


@pytest.fixture
def stage(stage: Stage) -> Stage:
    """A VM that is off, with one disk, and a second storage."""
    stage.as_root("POST", VMS, {"vmid": "100", "scsi0": "local:1", "boot": "order=scsi0", "memory": "64"})
    stage.as_root("POST", "/storage", {"storage": "extra", "type": "dir", "path": "/extra", "content": "images"})
    return stage


def test_moved_disk_leaves_its_source_unused(stage: Stage) -> None:
    before = stage.look(lambda world: next(iter(world.volumes["pve1", "local"].values())))
    outcome, said = stage.outcome("POST", f"{VM}/move_disk", disk="scsi0", storage="extra", format="qcow2")
    assert (outcome, said[0]) == (
        "OK",
        f"copying volume '{DISK}' from current storage 'local' to target storage 'extra'",
    )
    assert said[-1] == f"adding source volume '{DISK}' as 'unused0' to config"
    assert (stage.config()["scsi0"], stage.config()["unused0"]) == ("extra:100/vm-100-disk-0.qcow2,size=1G", DISK)
    assert before.volid == "extra:100/vm-100-disk-0.qcow2", "what is on the disk goes with it"


def test_moved_disk_may_take_its_source_away(stage: Stage) -> None:
    stage.as_root("PUT", f"{VM}/config", {"ide2": "local:cloudinit"})
    for option, name in (("scsi0", DISK), ("ide2", "local:100/vm-100-cloudinit.qcow2")):
        _, said = stage.outcome("POST", f"{VM}/move_disk", disk=option, storage="extra", delete="1")
        assert said[-1] == f"removing source volume '{name}' after successful copy"
    assert stage.ask("GET", "/nodes/pve1/storage/local/content", params={"vmid": "100"}).json["data"][:-1] == []
    assert stage.config()["ide2"] == "extra:100/vm-100-cloudinit.qcow2,media=cdrom"


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"disk": "scsi0", "storage": "local"}, "you can't move to the same storage with same format"),
        ({"disk": "scsi1", "storage": "extra"}, "disk 'scsi1' does not exist"),
        ({"disk": "ide0", "storage": "extra"}, "you can't move a cdrom"),
        ({"disk": "scsi0", "target-vmid": "200"}, "could not find target VM 200"),
        ({"disk": "scsi1", "target-vmid": "101"}, "Disk 'scsi1' for VM '100' does not exist"),
        (
            {"disk": "scsi0", "target-vmid": "101", "target-disk": "scsi1"},
            "Target disk key 'scsi1' is already in use for VM '101'",
        ),
        ({"disk": "ide0", "target-vmid": "101"}, "CD drive contents can't be moved to another VM"),
        ({"disk": "scsi0", "target-vmid": "102"}, "Can't move disks from or to template VMs"),
    ],
)
def test_disk_that_cannot_move_is_refused_at_once(stage: Stage, params: dict[str, str], reason: str) -> None:
    stage.as_root("PUT", f"{VM}/config", {"ide0": "none,media=cdrom"})
    stage.as_root("POST", VMS, {"vmid": "101", "scsi1": "local:1"})
    stage.as_root("POST", VMS, {"vmid": "102", "template": "1"})
    reply = stage.ask("POST", f"{VM}/move_disk", params=params)
    assert (reply.status, reply.reason) == (500, reason)


@pytest.mark.parametrize(
    ("params", "names", "text"),
    [
        ({}, ["storage", "target-vmid"], "both 'storage' and 'target-vmid' missing, either needs to be set"),
        (
            {"storage": "extra", "target-vmid": "101"},
            ["storage", "target-vmid"],
            "either set 'storage' or 'target-vmid', but not both",
        ),
        ({"target-vmid": "100"}, ["target-vmid"], "must be different than source VMID to reassign disk"),
        ({"storage": "isos"}, ["storage"], "storage 'isos' does not support vm images"),
    ],
)
def test_disk_moves_to_one_place(stage: Stage, params: dict[str, str], names: list[str], text: str) -> None:
    stage.as_root("POST", "/storage", {"storage": "isos", "type": "dir", "path": "/isos", "content": "iso"})
    reply = stage.ask("POST", f"{VM}/move_disk", params={"disk": "scsi0", **params})
    assert reply.json["errors"] == dict.fromkeys(names, text)


def test_disk_of_a_running_vm_does_not_move(stage: Stage) -> None:
    stage.as_root("POST", f"{VM}/status/start", {})
    stage.as_root("POST", VMS, {"vmid": "101"})
    to_storage = stage.ask("POST", f"{VM}/move_disk", params={"disk": "scsi0", "storage": "extra"})
    assert (to_storage.status, "running VM not implemented" in to_storage.reason) == (501, True)
    to_vm = stage.ask("POST", f"{VM}/move_disk", params={"disk": "scsi0", "target-vmid": "101"})
    assert to_vm.reason == "Cannot move disk to another VM while the source VM is running - detach first"


def test_disk_with_snapshots_leaves_them_behind(stage: Stage) -> None:
    stage.as_root("POST", VMS, {"vmid": "101", "scsi0": "local:1,format=qcow2"})
    stage.as_root("POST", f"{VMS}/101/snapshot", {"snapname": "first"})
    path = f"{VMS}/101/move_disk"
    deleting = stage.ask("POST", path, params={"disk": "scsi0", "storage": "extra", "delete": "1"})
    assert deleting.reason == "you can't move a disk with snapshots and delete the source"
    to_vm = stage.ask("POST", path, params={"disk": "scsi0", "target-vmid": "100", "target-disk": "scsi1"})
    assert to_vm.reason == "Can't move disk used by a snapshot to another VM"
    _, said = stage.outcome("POST", path, disk="scsi0", storage="extra")
    assert said[1] == "moving disk with snapshots, snapshots will not be moved!"


def test_volume_that_is_gone_does_not_move(stage: Stage) -> None:
    stage.as_root("POST", VMS, {"vmid": "101"})
    stage.shell(["rm", "/var/lib/vz/images/100/vm-100-disk-0.raw"])
    assert stage.outcome("POST", f"{VM}/move_disk", disk="scsi0", storage="extra")[0] == (
        f"storage migration failed: volume '{DISK}' does not exist"
    )
    assert stage.outcome("POST", f"{VM}/move_disk", **{"disk": "scsi0", "target-vmid": "101"})[0] == (
        f"volume '{DISK}' does not exist"
    )


def test_disk_goes_to_another_vm_under_its_name(stage: Stage) -> None:
    stage.as_root("POST", VMS, {"vmid": "101"})
    moved = stage.outcome(
        "POST", f"{VM}/move_disk", **{"disk": "scsi0", "target-vmid": "101", "target-disk": "virtio1"}
    )
    shown = "local:101/vm-101-disk-0.raw,size=1G"
    assert moved == (
        "OK",
        [
            "reassign disk 'scsi0' from VM '100' as 'virtio1' to VM '101'",
            "removing disk 'scsi0' from boot order config",
            "removing disk 'scsi0' from VM '100' config",
            f"update VM 101: -virtio1 {shown}",
        ],
    )
    assert (stage.config(101)["virtio1"], "scsi0" in stage.config()) == (shown, False)
    back = {"disk": "virtio1", "target-vmid": "100", "target-disk": "unused3"}
    assert len(stage.outcome("POST", f"{VMS}/101/move_disk", **back)[1]) == 2
    assert stage.config()["unused3"] == DISK


@pytest.mark.parametrize(
    ("line", "code", "err"),
    [
        ("qm migrate 100 pve2", 255, "no such cluster node 'pve2'\n"),
        (
            "qm migrate 100 pve1",
            255,
            "400 Parameter verification failed.\ntarget: target is local node.\nqm migrate <vmid> <target> [OPTIONS]\n",
        ),
        ("qm reset 999", 2, "unable to find configuration file for VM 999 on node 'pve1'\n"),
        ("qm wait 999", 2, "unable to find configuration file for VM 999 on node 'pve1'\n"),
        ("qm vncproxy 100", 255, "LC_PVE_TICKET not set, VNC proxy without password is forbidden\n"),
        ("qm nbdstop 100", 0, "VM 100 not running\n"),
        ("qm cleanup 999 1 0", 0, ""),
        ("qm cleanup 100 1 0", 0, "Starting cleanup for 100\nFinished cleanup for 100\n"),
        ("qm importovf 100 /root/x.ovf local", 2, "/root/x.ovf: non-existent or non-regular file\n"),
        ("qm importovf 100 /root/k.pub local", 255, "qm importovf: not known here\n"),
        ("qm enroll-efi-keys 100", 255, "VM 100 has no EFI disk configured\n"),
    ],
)
def test_command_that_does_nothing_says_why(stage: Stage, line: str, code: int, err: str) -> None:
    ran = stage.shell(line.split())
    assert (ran.exit_code, ran.out, ran.err) == (code, "", err)


def test_unlinked_disk_is_told_as_a_change_of_the_vm(stage: Stage) -> None:
    assert stage.shell(["qm", "unlink", "100", "--idlist", "scsi0"]).out == "update VM 100: -delete scsi0\n"
    assert stage.config()["unused0"] == DISK


@pytest.mark.parametrize(
    ("lock", "options", "last"),
    [
        ("backup", "1 0", "skipping cleanup - 'backup' lock is present and vm is running again"),
        ("backup", "0 0", "aborting cleanup, VM is still running after 30 seconds"),
    ],
)
def test_cleanup_of_a_vm_that_runs(stage: Stage, lock: str, options: str, last: str) -> None:
    stage.as_root("POST", f"{VM}/status/start", {})
    stage.as_root("PUT", f"{VM}/config", {"lock": lock})
    ran = stage.shell(["qm", "cleanup", "100", *options.split()])
    assert (ran.exit_code, ran.err) == (255, f"Starting cleanup for 100\n{last}\n")


def test_cleanup_leaves_a_rollback_alone(stage: Stage) -> None:
    stage.as_root("PUT", f"{VM}/config", {"lock": "rollback"})
    ran = stage.shell(["qm", "cleanup", "100", "1", "0"])
    assert ran.err.endswith("skipping cleanup - 'rollback' lock is present\n")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"efidisk0": "local:1"}, "skipping - no pre-enrolled keys or already got ms-cert=2023k marker\n"),
        ({"efidisk0": "local:1", "start": "1"}, "VM 101 is running\n"),
        ({"efidisk0": "local:1", "template": "1"}, "VM 101 is a template\n"),
    ],
)
def test_keys_of_an_efi_disk_are_as_new(stage: Stage, given: dict[str, str], said: str) -> None:
    stage.as_root("POST", VMS, {"vmid": "101", "memory": "64", **given})
    ran = stage.shell(["qm", "enroll-efi-keys", "101"])
    assert ran.out + ran.err == said


def test_monitor_takes_commands_until_it_is_left(stage: Stage) -> None:
    off = stage.line("printf 'info status\\nq\\ninfo status\\n' | qm monitor 100")
    assert off.out.splitlines()[1:] == ["ERROR: VM 100 not running"]
    stage.as_root("POST", f"{VM}/status/start", {})
    on = stage.line("printf '\\ninfo status\\nsing\\n' | qm monitor 100")
    assert on.out.splitlines()[1:] == ["VM status: running", "unknown command: 'sing'"]


def test_migration_tunnel_resumes_what_is_here(stage: Stage) -> None:
    stage.as_root("POST", f"{VM}/status/start", {})
    stage.as_root("POST", f"{VM}/status/suspend", {})
    ran = stage.line("printf 'resume 100\\nresume 101\\nsing\\nquit\\n' | qm mtunnel")
    assert ran.out.splitlines()[2:] == ["OK", "ERR: resume failed - VM 101 not running", "OK"]
    assert stage.look(lambda world: world.vms[100].qmp) == "running"


@pytest.mark.parametrize(
    ("feature", "raw", "qcow2", "base", "of_snapshot"),
    [("snapshot", 0, 1, 0, 1), ("clone", 0, 0, 1, 0), ("copy", 1, 1, 1, 1)],
)
def test_what_can_be_done_with_disks(
    stage: Stage, feature: str, raw: int, qcow2: int, base: int, of_snapshot: int
) -> None:
    stage.as_root("POST", VMS, {"vmid": "101", "scsi0": "local:1,format=qcow2"})
    stage.as_root("POST", f"{VMS}/101/snapshot", {"snapname": "first"})
    stage.as_root("POST", VMS, {"vmid": "102", "scsi0": "local:1"})
    stage.as_root("POST", f"{VMS}/102/template", {})

    def has(vmid: int, **params: str) -> Any:
        return stage.ask("GET", f"{VMS}/{vmid}/feature", params={"feature": feature, **params}).json["data"]

    assert [has(vmid)["hasFeature"] for vmid in (100, 101, 102)] == [raw, qcow2, base]
    assert has(101, snapname="first") == {"hasFeature": of_snapshot, "nodes": ["pve1"]}
