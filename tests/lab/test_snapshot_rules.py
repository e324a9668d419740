"""Snapshots, rollbacks, clones and restores: what is said, what is refused, what is left."""

from __future__ import annotations

import pytest

from replay.stage import Stage

VMS = "/nodes/pve1/qemu"
VM = f"{VMS}/100"


@pytest.fixture
def stage(stage: Stage) -> Stage:
    """A VM that is off, with one qcow2 disk."""
    disk = {"scsi0": "local:1,format=qcow2", "boot": "order=scsi0", "memory": "64"}
    stage.as_root("POST", VMS, {"vmid": "100", "name": "vm100", **disk})
    return stage


def _snapshot(stage: Stage) -> None:
    stage.as_root("POST", f"{VM}/snapshot", {"snapname": "first", "description": "good"})


@pytest.mark.parametrize("name", ["current", "pending", "PENDING"])
def test_names_that_mean_something_else_are_no_snapshots(stage: Stage, name: str) -> None:
    reply = stage.ask("POST", f"{VM}/snapshot", params={"snapname": name})
    assert reply.reason == f"unable to use snapshot name '{name.lower()}' (reserved name)"


@pytest.mark.parametrize(
    ("agent", "answers", "said"),
    [
        ("0", False, ["skipping guest filesystem freeze - disabled in VM options"]),
        ("1", False, ["skipping guest filesystem freeze - agent configured but not running?"]),
        ("1", True, []),
    ],
)
def test_snapshot_of_a_running_vm_tells_of_the_freeze_and_of_each_disk(
    stage: Stage, agent: str, answers: bool, said: list[str]
) -> None:
    stage.as_root("PUT", f"{VM}/config", {"agent": agent})
    stage.as_root("POST", f"{VM}/status/start", {})
    stage.guests.agent_answers = answers
    outcome = stage.outcome("POST", f"{VM}/snapshot", snapname="first")
    assert outcome == ("OK", [*said, "snapshotting 'drive-scsi0' (local:100/vm-100-disk-0.qcow2)"])


def test_template_takes_no_snapshot_and_no_rollback(stage: Stage) -> None:
    stage.as_root("POST", f"{VM}/template", {})
    assert stage.outcome("POST", f"{VM}/snapshot", snapname="first")[0] == (
        "you can't take a snapshot if it's a template"
    )
    assert stage.outcome("POST", f"{VM}/snapshot/first/rollback")[0] == "you can't rollback if vm is a template"


def test_snapshot_is_shown_and_described(stage: Stage) -> None:
    _snapshot(stage)
    path = f"{VM}/snapshot/first"
    assert stage.ask("GET", path).json["data"] == [{"cmd": "rollback"}, {"cmd": "config"}]
    assert stage.ask("PUT", f"{path}/config", params={"description": "better"}).status == 200
    assert stage.ask("PUT", f"{path}/config").status == 200
    shown = stage.ask("GET", f"{path}/config").json["data"]
    assert (shown["description"], shown["name"], "digest" in shown) == ("better", "vm100", False)
    assert "digest" in stage.ask("GET", f"{VM}/config", params={"snapshot": "first"}).json["data"]
    both = stage.ask("GET", f"{VM}/config", params={"snapshot": "first", "current": "1"})
    assert both.json["errors"]["current"] == "cannot use 'snapshot' parameter with 'current'"


def test_rollback_brings_back_the_configuration_and_keeps_newer_disks_unused(stage: Stage) -> None:
    _snapshot(stage)
    before = stage.config()
    stage.as_root("PUT", f"{VM}/config", {"scsi1": "local:1", "name": "other"})
    stage.as_root("POST", f"{VM}/status/start", {})
    assert stage.outcome("POST", f"{VM}/snapshot/first/rollback", start="1") == ("OK", [])
    after = stage.config()
    assert (after["name"], after["parent"], after["unused0"]) == ("vm100", "first", "local:100/vm-100-disk-1.raw")
    assert after["vmgenid"] != before["vmgenid"]
    assert stage.look(lambda world: world.vms[100].qmp) == "running"


def test_rollback_of_a_disk_with_a_system_on_it_is_refused(stage: Stage) -> None:
    stage.as_root("PUT", f"{VM}/config", {"scsi1": "local:0,import-from=local:import/disk.qcow2,format=qcow2"})
    _snapshot(stage)
    outcome = stage.outcome("POST", f"{VM}/snapshot/first/rollback")[0]
    assert outcome == "the lab cannot bring back what was on 'local:100/vm-100-disk-1.qcow2'"


def test_snapshot_of_a_thin_volume_is_a_volume_of_its_own(stage: Stage) -> None:
    stage.as_root("POST", "/storage", {"storage": "thin", "type": "lvmthin", "vgname": "pve", "thinpool": "data"})
    stage.as_root("POST", VMS, {"vmid": "101", "scsi0": "thin:1"})
    made = stage.outcome("POST", f"{VMS}/101/snapshot", snapname="first")
    volume = '  Logical volume "snap_vm-101-disk-0_first"'
    assert made == ("OK", ["snapshotting 'drive-scsi0' (thin:vm-101-disk-0)", f"{volume} created."])
    gone = stage.outcome("DELETE", f"{VMS}/101/snapshot/first")
    assert gone == ("OK", [f"{volume} successfully removed."])


def test_clone_has_an_empty_drive_for_cloud_init_and_no_unused_disks(stage: Stage) -> None:
    stage.as_root("PUT", f"{VM}/config", {"ide2": "local:cloudinit", "delete": "scsi0", "protection": "1"})
    stage.as_root("PUT", f"{VM}/config", {"smbios1": "uuid=6baa9455-e3e7-4682-8209-4cac629f6fbe,serial=eA=="})
    _, said = stage.outcome("POST", f"{VM}/clone", newid="101", description="copied")
    assert said[1] == "create full clone of drive ide2 (local:100/vm-100-cloudinit.qcow2)"
    assert said[3:] == ["allocated target volume 'local:101/vm-101-cloudinit.qcow2'"]
    made = stage.config(101)
    assert (made["name"], made["description"], made["protection"]) == ("Copy-of-VM-vm100", "copied", 1)
    assert made["smbios1"].endswith(",serial=eA==")
    assert not made["smbios1"].startswith("uuid=6baa9455")
    assert "unused0" not in made


def test_clone_of_a_snapshot_is_what_the_vm_was(stage: Stage) -> None:
    _snapshot(stage)
    stage.as_root("PUT", f"{VM}/config", {"name": "other", "delete": "vmgenid"})
    missing = stage.ask("POST", f"{VM}/clone", params={"newid": "101", "snapname": "second"})
    assert missing.reason == "snapshot 'second' does not exist"
    assert stage.outcome("POST", f"{VM}/clone", newid="101", snapname="first")[0] == "OK"
    assert stage.config(101)["name"] == "Copy-of-VM-vm100"
    assert stage.outcome("POST", f"{VM}/clone", newid="102")[0] == "OK"
    assert "vmgenid" not in stage.config(102)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"archive": "local:backup/none.vma"}, "volume 'local:backup/none.vma' does not exist"),
        (
            {"archive": "local:import/disk.qcow2"},
            "unable to use volume local:import/disk.qcow2 - content type needs to be 'backup'",
        ),
        ({"archive": "-"}, "pipe requires cli environment"),
        (
            {"archive": "/root/disk.raw"},
            "Only root can pass arbitrary filesystem paths. at /usr/share/perl5/PVE/Storage.pm line 651.",
        ),
    ],
)
def test_restore_that_cannot_be(stage: Stage, params: dict[str, str], reason: str) -> None:
    reply = stage.ask("POST", VMS, params={"vmid": "101", **params})
    assert (reply.status, reply.reason) == (500, reason)


def test_restore_takes_no_drives_and_by_hand_looks_for_the_file(stage: Stage) -> None:
    both = stage.ask("POST", VMS, params={"vmid": "101", "archive": "local:backup/x.vma", "scsi0": "local:1"})
    assert both.json["errors"] == {"scsi0": "option conflicts with option 'archive'"}
    assert stage.shell(["qm", "create", "101", "--archive", "nowhere"]).err == "can't find file 'nowhere'\n"


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("scsi1", "local:iso/any.iso", "explicit 'media=cdrom' is required for iso images"),
        ("scsi1", "local:import/disk.qcow2", "content type needs to be 'images' or 'iso'"),
    ],
)
def test_drive_of_the_wrong_content_is_refused(stage: Stage, option: str, value: str, text: str) -> None:
    assert stage.ask("PUT", f"{VM}/config", params={option: value}).json["errors"] == {option: text}


def test_unused_disk_is_an_image(stage: Stage) -> None:
    reply = stage.ask("PUT", f"{VM}/config", params={"unused0": "local:import/disk.qcow2"})
    assert reply.reason == "unable to use volume local:import/disk.qcow2 - content type needs to be 'images'"
