"""Power, templates and clones where no recording speaks: what qemu-server's sources say of neighbouring cases."""

from __future__ import annotations

import pytest

from replay.stage import Stage

VM = "/nodes/pve1/qemu/100"


@pytest.fixture
def stage(stage: Stage) -> Stage:
    stage.as_root("POST", "/nodes/pve1/qemu", {"vmid": "100", "memory": "64", "scsi0": "local:1"})
    return stage


def _start(stage: Stage, *, paused: bool = False, lock: str = "") -> None:
    stage.as_root("POST", f"{VM}/status/start", {})
    if paused:
        stage.as_root("POST", f"{VM}/status/suspend", {})
    if lock:
        stage.as_root("PUT", f"{VM}/config", {"lock": lock})


def test_paused_vm_is_not_rebooted(stage: Stage) -> None:
    _start(stage, paused=True)
    assert stage.outcome("POST", f"{VM}/status/reboot") == ("VM is paused - cannot shutdown", [])


def test_forced_shutdown_of_a_paused_vm_cuts_its_power(stage: Stage) -> None:
    _start(stage, paused=True)
    assert stage.outcome("POST", f"{VM}/status/shutdown", forceStop="1") == ("OK", [])
    assert stage.ask("GET", f"{VM}/status/current").json["data"]["status"] == "stopped"


def test_forced_shutdown_of_a_paused_vm_is_told_by_hand(stage: Stage) -> None:
    _start(stage, paused=True)
    ran = stage.shell(["qm", "shutdown", "100", "--forceStop", "1"])
    assert (ran.exit_code, ran.err) == (0, "VM is paused - stop instead of shutdown\n")


@pytest.mark.parametrize(("lock", "outcome"), [("backup", "OK"), ("migrate", "VM is locked (migrate)")])
def test_only_a_backup_lets_pause_and_resume(stage: Stage, lock: str, outcome: str) -> None:
    _start(stage, lock=lock)
    assert stage.outcome("POST", f"{VM}/status/suspend")[0] == outcome
    stage.look(lambda world: setattr(world.vms[100], "qmp", "paused"))
    assert stage.outcome("POST", f"{VM}/status/resume")[0] == outcome


def test_running_vm_is_resumed_whatever_its_lock(stage: Stage) -> None:
    _start(stage, lock="migrate")
    assert stage.outcome("POST", f"{VM}/status/resume") == ("OK", [])


@pytest.mark.parametrize("name", ["force-cpu", "migration_network"])
def test_token_may_not_start_with_roots_options(stage: Stage, name: str) -> None:
    given = {"migration_network": "192.0.2.0/24"}.get(name, "x")
    reply = stage.ask("POST", f"{VM}/status/start", params={name: given})
    assert reply.json["errors"] == {name: "Only root may use this option."}


def test_locked_vm_is_no_template_at_once(stage: Stage) -> None:
    stage.as_root("PUT", f"{VM}/config", {"lock": "backup"})
    assert stage.outcome("POST", f"{VM}/template") == ("VM is locked (backup)", [])


def test_vm_with_snapshots_is_no_template(stage: Stage) -> None:
    stage.as_root("PUT", f"{VM}/config", {"delete": "scsi0"})
    stage.as_root("POST", f"{VM}/snapshot", {"snapname": "one"})
    assert stage.outcome("POST", f"{VM}/template")[0] == "unable to create template, because VM contains snapshots"


def test_one_disk_of_a_template_is_made_a_base(stage: Stage) -> None:
    stage.as_root("PUT", f"{VM}/config", {"scsi1": "local:1"})
    assert stage.outcome("POST", f"{VM}/template", disk="scsi1")[0] == "OK"
    config = stage.ask("GET", f"{VM}/config").json["data"]
    assert (config["scsi0"][:14], config["scsi1"][:14]) == ("local:100/vm-1", "local:100/base")


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"target": "nonode"}, "no such cluster node 'nonode'"),
        ({"storage": "nostore"}, "storage 'nostore' does not exist"),
        ({"full": "0"}, "Linked clone feature is not supported for 'local:100/vm-100-disk-0.raw' (scsi0)"),
        ({"full": "0", "storage": "local"}, "parameter 'storage' not allowed for linked clones"),
        ({"full": "0", "format": "raw"}, "parameter 'format' not allowed for linked clones"),
    ],
)
def test_clone_that_cannot_be_is_refused_at_once(stage: Stage, params: dict[str, str], reason: str) -> None:
    assert stage.outcome("POST", f"{VM}/clone", newid="101", **params) == (reason, [])
    assert stage.ask("GET", "/nodes/pve1/qemu/101/config").status == 500


def test_clone_to_a_storage_without_images(stage: Stage) -> None:
    stage.as_root("POST", "/storage", {"storage": "isos", "type": "dir", "path": "/mnt/isos", "content": "iso"})
    reply = stage.ask("POST", f"{VM}/clone", params={"newid": "101", "storage": "isos"})
    assert reply.json["errors"] == {"storage": "storage 'isos' does not support vm images"}


def test_full_clone_goes_where_it_was_wanted(stage: Stage) -> None:
    stage.as_root("POST", "/storage", {"storage": "extra", "type": "dir", "path": "/mnt/extra", "content": "images"})
    assert stage.outcome("POST", f"{VM}/clone", newid="101", storage="extra", format="qcow2")[0] == "OK"
    assert stage.ask("GET", "/nodes/pve1/qemu/101/config").json["data"]["scsi0"] == (
        "extra:101/vm-101-disk-0.qcow2,size=1G"
    )
