"""Writing to Proxmox: sent once, verified, and decided by looking where the answer was lost."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from homelab.errors import Misunderstood, NotThere, Refused, TaskFailed, TimedOut, Undecided, Unreachable
from homelab.proxmox import sizes
from homelab.proxmox.client import Proxmox
from homelab.proxmox.transport import Download, Link, Upload
from homelab.settings import Secret, Via
from support.clock import SteppingClock
from support.fake_shell import done
from support.fake_transport import Answers, FakeTransport, Turns

VM = "/nodes/pve1/qemu/100"
CONFIG = f"GET {VM}/config"
STATUS = f"GET {VM}/status/current"
TASKS = "GET /nodes/pve1/tasks"
CONTENT = "GET /nodes/pve1/storage/local/content"
UPID = "UPID:pve1:00000001:00000002:00000003:qmcreate:100:root@pam!home:"
TASK_OK = {f"GET /nodes/pve1/tasks/{UPID}/status": {"status": "stopped", "exitstatus": "OK"}}
LOST = Undecided("POST", "the connection was cut off", "look")
RESOURCES = "GET /cluster/resources"
OTHER = {"type": "qemu", "vmid": 101, "node": "pve2", "name": "x"}
GONE = NotThere("GET", "Configuration file does not exist", status=500)
MADE = {"name": "vm", "scsi0": "local:100/d.raw,size=3584M", "digest": "d"}
PARAMS = {"vmid": "100", "name": "vm", "scsi0": "local:0,discard=on"}
RUNNING = {"status": "running", "qmpstatus": "running", "uptime": 50}
STOPPED = {"status": "stopped", "qmpstatus": "stopped"}
ACTIVE = {"upid": UPID, "type": "qmstart", "id": "100", "user": "root@pam", "starttime": 1}


def proxmox(answers: Answers) -> tuple[Proxmox, FakeTransport]:
    wire = FakeTransport(answers)
    return Proxmox({"pve1": Link("pve1", wire, wire, Via.API, lambda *_: None)}, SteppingClock()), wire


def writes(wire: FakeTransport) -> list[str]:
    return [key for key, _ in wire.calls if not key.startswith("GET")]


# --- create ----------------------------------------------------------------------------------------------------------


def test_created_vm_comes_back_as_its_config() -> None:
    pve, wire = proxmox({"POST /nodes/pve1/qemu": UPID, CONFIG: MADE, **TASK_OK})
    assert pve.create_vm("pve1", PARAMS).digest == "d"
    assert wire.calls[0] == ("POST /nodes/pve1/qemu", PARAMS)


def test_image_path_is_imported_by_root() -> None:
    pve, wire = proxmox({"POST /nodes/pve1/qemu": UPID, **TASK_OK, CONFIG: MADE})
    pve.create_vm("pve1", PARAMS, import_path="/var/lib/vz/x.img")
    assert wire.calls[0][1]["scsi0"] == "local:0,discard=on,import-from=/var/lib/vz/x.img"


def test_taken_vmid_stays_refused_while_other_failures_are_failed_tasks() -> None:
    taken = Refused("POST", "unable to create VM 100 - VM 100 already exists on node 'pve1'", status=500)
    with pytest.raises(Refused):
        proxmox({"POST /nodes/pve1/qemu": taken})[0].create_vm("pve1", PARAMS)
    for_lack = Refused("POST", "storage 'x' does not exist", "choose", status=500)
    with pytest.raises(TaskFailed, match="storage 'x'") as failed:
        proxmox({"POST /nodes/pve1/qemu": for_lack})[0].create_vm("pve1", PARAMS)
    assert failed.value.cure == "choose"
    bad = Refused("POST", "Parameter verification failed.", status=400)
    with pytest.raises(Refused):
        proxmox({"POST /nodes/pve1/qemu": bad})[0].create_vm("pve1", PARAMS)


@pytest.mark.parametrize("answer", [None, 7, [[1]], "yes", "UPID:", "UPID:pve1/../x:1:2:3:qmcreate:100:root@pam:"])
def test_creation_whose_task_is_not_named_is_looked_at_once_nothing_works_on_it(answer: object) -> None:
    made = {"POST /nodes/pve1/qemu": answer, TASKS: Turns([ACTIVE], []), CONFIG: MADE}
    pve, wire = proxmox(made)
    assert pve.create_vm("pve1", PARAMS).digest == "d"
    assert [key for key, _ in wire.calls] == ["POST /nodes/pve1/qemu", TASKS, TASKS, CONFIG]

    with pytest.raises(Misunderstood, match="is no task id"):
        proxmox({**made, CONFIG: {"lock": "create"}})[0].create_vm("pve1", PARAMS)


@pytest.mark.parametrize("shown", [{"name": "vm"}, {**MADE, "lock": "create"}, {**MADE, "name": "other"}])
def test_vm_that_is_not_as_it_was_to_be_made_is_a_failure(shown: dict[str, str]) -> None:
    pve, _ = proxmox({"POST /nodes/pve1/qemu": UPID, **TASK_OK, CONFIG: shown})
    with pytest.raises(TaskFailed, match="reading it back shows otherwise"):
        pve.create_vm("pve1", PARAMS)


def test_create_whose_answer_was_lost_is_decided_by_looking_once_its_task_is_over() -> None:
    pve, wire = proxmox({"POST /nodes/pve1/qemu": LOST, TASKS: Turns([ACTIVE], [ACTIVE], []), CONFIG: MADE})
    assert pve.create_vm("pve1", PARAMS).name == "vm"
    assert writes(wire) == ["POST /nodes/pve1/qemu"]


@pytest.mark.parametrize("config", [GONE, {"name": "other"}])
def test_create_that_looking_does_not_show_stays_undecided(config: Any) -> None:
    pve, wire = proxmox({"POST /nodes/pve1/qemu": LOST, TASKS: [], CONFIG: config})
    with pytest.raises(Undecided, match="cut off"):
        pve.create_vm("pve1", PARAMS)
    assert writes(wire) == ["POST /nodes/pve1/qemu"]


def test_doubt_stays_when_nobody_can_look() -> None:
    pve, _ = proxmox({"POST /nodes/pve1/qemu": LOST, TASKS: Unreachable("GET", "down")})
    with pytest.raises(Undecided):
        pve.create_vm("pve1", PARAMS)


def test_answer_that_cannot_be_read_is_a_doubt_too() -> None:
    pve, _ = proxmox({"POST /nodes/pve1/qemu": Misunderstood("POST", "html"), TASKS: [], CONFIG: MADE})
    assert pve.create_vm("pve1", PARAMS).name == "vm"


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_are_sent_with_deletions_and_digest_and_seen_afterwards() -> None:
    after = {"tags": "b;a", "description": "x\n", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "sshkeys": "k%0A"}
    pve, wire = proxmox({f"PUT {VM}/config": None, CONFIG: after})
    values = {"tags": "a;b", "description": "x", "net0": "virtio,bridge=vmbr0", "sshkeys": "k"}
    pve.set_vm("pve1", 100, values, delete=("cicustom", "lock"), digest="abc")
    assert wire.calls[0][1] == {**values, "delete": "cicustom,lock", "digest": "abc"}


@pytest.mark.parametrize(
    ("values", "delete", "after"),
    [({"onboot": "1"}, (), {"onboot": "0"}), ({}, ("cicustom",), {"cicustom": "x"}), ({"net0": "x"}, (), {})],
)
def test_setting_that_did_not_take_is_a_failure(
    values: dict[str, str], delete: tuple[str, ...], after: dict[str, str]
) -> None:
    pve, _ = proxmox({f"PUT {VM}/config": None, CONFIG: after})
    with pytest.raises(TaskFailed, match=r"setting (onboot|cicustom|net0) of VM 100 on pve1"):
        pve.set_vm("pve1", 100, values, delete=delete)


def test_refused_setting_stays_refused() -> None:
    stale = Refused("PUT", "checksum mismatch (file change by other user?)", status=500)
    with pytest.raises(Refused, match="checksum"):
        proxmox({f"PUT {VM}/config": stale})[0].set_vm("pve1", 100, {"onboot": "1"}, digest="0")


def test_password_is_set_and_shows_nowhere() -> None:
    pve, wire = proxmox({f"PUT {VM}/config": None, CONFIG: {"cipassword": "**********", "digest": "d1"}})
    pve.set_password("pve1", 100, Secret("canary"))
    assert wire.calls[1][1] == {"cipassword": "canary", "digest": "d1"}
    pve, _ = proxmox({f"PUT {VM}/config": None, CONFIG: {}})
    with pytest.raises(TaskFailed) as failed:
        pve.set_password("pve1", 100, Secret("canary"))
    assert "canary" not in str(failed.value)


# --- disks -----------------------------------------------------------------------------------------------------------


def disk(size: str) -> dict[str, str]:
    return {"scsi0": f"local:100/d.raw,size={size}"}


def test_disk_is_grown_and_seen_to_be_large() -> None:
    pve, wire = proxmox({f"PUT {VM}/resize": UPID, CONFIG: Turns(disk("3584M"), disk("20G")), **TASK_OK})
    pve.resize_disk("pve1", 100, "scsi0", 20 << 30)
    assert wire.calls[1] == (f"PUT {VM}/resize", {"disk": "scsi0", "size": "20G"})


def test_disk_that_is_large_enough_is_left_alone() -> None:
    pve, wire = proxmox({CONFIG: disk("32G")})
    pve.resize_disk("pve1", 100, "scsi0", 20 << 30)
    assert writes(wire) == []


def test_growing_that_failed_silently_is_a_failure() -> None:
    pve, _ = proxmox({f"PUT {VM}/resize": None, CONFIG: disk("3584M")})
    with pytest.raises(TaskFailed, match="growing scsi0"):
        pve.resize_disk("pve1", 100, "scsi0", 20 << 30)
    refused = Refused("PUT", "disk 'scsi5' does not exist", status=500)
    pve, _ = proxmox({f"PUT {VM}/resize": refused, CONFIG: disk("3584M")})
    with pytest.raises(TaskFailed, match="scsi5"):
        pve.resize_disk("pve1", 100, "scsi5", 20 << 30)


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("4K", 4096), ("1.5G", 3 << 29), ("2T", 2 << 40)])
def test_sizes_as_proxmox_writes_them(text: str, size: int) -> None:
    assert sizes.parse(text) == size
    assert sizes.parse(sizes.show(size)) == size
    with pytest.raises(Misunderstood):
        sizes.parse("big")


# --- power -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("start", STOPPED, RUNNING),
        ("stop", RUNNING, STOPPED),
        ("resume", {**RUNNING, "qmpstatus": "paused"}, RUNNING),
        ("reset", RUNNING, RUNNING),
    ],
)
def test_power_action_is_over_when_the_status_shows_it(action: str, before: Any, after: Any) -> None:
    pve, _ = proxmox({f"POST {VM}/status/{action}": UPID, STATUS: Turns(before, before, after), **TASK_OK})
    status = getattr(pve, f"{action}_vm")("pve1", 100, timeout_s=60)
    assert status.status == after["status"]


def test_action_that_never_shows_is_a_failure() -> None:
    pve, _ = proxmox({f"POST {VM}/status/start": UPID, **TASK_OK, STATUS: STOPPED})
    with pytest.raises(TaskFailed, match="start of VM 100 on pve1"):
        pve.start_vm("pve1", 100)


@pytest.mark.parametrize(
    "answer", [Refused("POST", "VM 100 already running", status=500), TaskFailed("start", "running")]
)
def test_vm_that_is_so_already_is_as_wanted(answer: Exception) -> None:
    pve, _ = proxmox({f"POST {VM}/status/start": answer, STATUS: RUNNING})
    assert pve.start_vm("pve1", 100).status == "running"


def test_start_that_failed_says_why_on_both_wires() -> None:
    for refused in (Refused("POST", "bridge 'vmbr9' does not exist", status=500), TaskFailed("POST", "bridge 'vmbr9'")):
        pve, _ = proxmox({f"POST {VM}/status/start": refused, STATUS: STOPPED})
        with pytest.raises(TaskFailed, match="bridge 'vmbr9'"):
            pve.start_vm("pve1", 100)


def test_start_whose_answer_was_lost_counts_when_the_vm_runs() -> None:
    pve, wire = proxmox({f"POST {VM}/status/start": LOST, TASKS: [], STATUS: RUNNING})
    assert pve.start_vm("pve1", 100).status == "running"
    pve, wire = proxmox({f"POST {VM}/status/start": LOST, TASKS: [], STATUS: STOPPED})
    with pytest.raises(Undecided):
        pve.start_vm("pve1", 100)
    assert len(writes(wire)) == 1


# --- delete ----------------------------------------------------------------------------------------------------------


def test_delete_keeps_jobs_and_other_disks_and_waits_until_the_config_is_gone() -> None:
    pve, wire = proxmox({f"DELETE {VM}": UPID, CONFIG: Turns(MADE, MADE, GONE), **TASK_OK})
    pve.delete_vm("pve1", 100)
    assert wire.calls[0][1] == {"purge": 0, "destroy-unreferenced-disks": 0}


def test_delete_of_a_vm_that_is_gone_is_as_wanted() -> None:
    proxmox({f"DELETE {VM}": GONE, RESOURCES: [OTHER]})[0].delete_vm("pve1", 100)


def test_vm_that_has_moved_just_before_its_delete_is_not_gone() -> None:
    pve, _ = proxmox({f"DELETE {VM}": GONE, RESOURCES: [OTHER, {**OTHER, "vmid": 100}]})
    with pytest.raises(Refused, match="removal of VM 100 on pve1: it has moved to pve2"):
        pve.delete_vm("pve1", 100)


def test_vm_that_stays_after_its_delete_is_a_time_out() -> None:
    pve, _ = proxmox({f"DELETE {VM}": UPID, **TASK_OK, CONFIG: MADE})
    with pytest.raises(TimedOut, match="removal of VM 100"):
        pve.delete_vm("pve1", 100)


def test_delete_whose_answer_was_lost_is_decided_by_looking() -> None:
    pve, _ = proxmox({f"DELETE {VM}": LOST, TASKS: [], CONFIG: GONE})
    pve.delete_vm("pve1", 100)
    pve, wire = proxmox({f"DELETE {VM}": LOST, TASKS: [], CONFIG: MADE})
    with pytest.raises(Undecided):
        pve.delete_vm("pve1", 100)
    assert len(writes(wire)) == 1


def test_trouble_with_reading_is_never_taken_for_gone() -> None:
    pve, _ = proxmox({f"DELETE {VM}": UPID, **TASK_OK, CONFIG: Misunderstood("GET", "html")})
    with pytest.raises(Misunderstood):
        pve.delete_vm("pve1", 100)


# --- storages --------------------------------------------------------------------------------------------------------

VOLUME = "local:import/x.qcow2"
LISTED = [{"volid": VOLUME, "content": "import", "size": 5}]


def upload(tmp_path: Path) -> Upload:
    source = tmp_path / "x"
    source.write_bytes(b"12345")
    return Upload(source, "pve1", "local", "import", "x.qcow2", hashlib.sha256(b"12345").hexdigest())


def test_upload_is_seen_in_the_storage(tmp_path: Path) -> None:
    assert proxmox({CONTENT: LISTED})[0].upload(upload(tmp_path)) == VOLUME
    with pytest.raises(TaskFailed, match="it has 4 bytes, not 5"):
        proxmox({CONTENT: [{**LISTED[0], "size": 4}]})[0].upload(upload(tmp_path))


def test_upload_whose_answer_was_lost_is_decided_by_size(tmp_path: Path) -> None:
    assert proxmox({"put_file": LOST, CONTENT: LISTED})[0].upload(upload(tmp_path)) == VOLUME
    with pytest.raises(Undecided):
        proxmox({"put_file": LOST, CONTENT: []})[0].upload(upload(tmp_path))


def fetch(pve: Proxmox) -> str:
    return pve.download_url(Download("http://x/y", "pve1", "local", "import", "x.qcow2", "00"))


def test_download_by_the_node_is_checked_and_seen() -> None:
    post = "POST /nodes/pve1/storage/local/download-url"
    pve, wire = proxmox({post: UPID, CONTENT: LISTED, **TASK_OK})
    assert fetch(pve) == VOLUME
    assert (wire.calls[0][1]["checksum"], wire.calls[0][1]["checksum-algorithm"]) == ("00", "sha256")
    assert fetch(proxmox({post: LOST, CONTENT: LISTED})[0]) == VOLUME
    with pytest.raises(Undecided):
        fetch(proxmox({post: LOST, CONTENT: []})[0])
    with pytest.raises(TaskFailed, match="is not there"):
        fetch(proxmox({post: UPID, CONTENT: [], **TASK_OK})[0])


def test_snippet_is_written_by_root() -> None:
    pve, wire = proxmox({})
    wire.respond = lambda _: done(stderr="sha256sum: /store/...: No such file or directory", exit_code=1)
    assert pve.put_snippet("pve1", "local", "v.yaml", "#cloud-config\n") == "local:snippets/v.yaml"
    assert wire.commands[1:] == ["write /store/local:snippets/v.yaml #cloud-config\n"]


@pytest.mark.parametrize(("content", "is_right"), [("#cloud-config\n", True), ("#cloud-con", False), ("", False)])
def test_snippet_that_is_there_is_compared_and_written_anew_only_where_it_is_another(
    caplog: pytest.LogCaptureFixture, content: str, is_right: bool
) -> None:
    pve, wire = proxmox({})
    wire.respond = lambda _: done(f"{hashlib.sha256(content.encode()).hexdigest()}  /store/local:snippets/v.yaml\n")

    pve.put_snippet("pve1", "local", "v.yaml", "#cloud-config\n")

    assert wire.commands[0] == "sha256sum /store/local:snippets/v.yaml"
    assert [command.partition(" ")[0] for command in wire.commands[1:]] == ([] if is_right else ["write"])
    assert ("local:snippets/v.yaml holds something else than its name says" in caplog.text) != is_right


def test_path_and_checksum_are_asked_of_root() -> None:
    pve, wire = proxmox({})
    wire.respond = lambda _: done(f"{'00ff' * 16}  /x\n")
    assert pve.image_path("pve1", VOLUME) == f"/store/{VOLUME}"
    assert pve.file_sha256("pve1", "/x") == "00ff" * 16


# --- pools -----------------------------------------------------------------------------------------------------------


def test_pool_is_changed_by_the_first_node_that_is_reached() -> None:
    off = FakeTransport({"POST /pools": Unreachable("pve1", "off", "switch it on")})
    on = FakeTransport({"POST /pools": None})
    links = {name: Link(name, wire, None, Via.API, lambda *_: None) for name, wire in (("pve1", off), ("pve2", on))}

    Proxmox(links, SteppingClock()).create_pool("p", "c")

    assert on.calls == [("POST /pools", {"poolid": "p", "comment": "c"})]


def test_pool_that_no_node_can_be_asked_about_is_unreachable() -> None:
    pve, _ = proxmox({"DELETE /pools/p": Unreachable("pve1", "off", "switch it on")})

    with pytest.raises(Unreachable, match="off"):
        pve.delete_pool("p")


# --- the guest agent ---------------------------------------------------------------------------------------------

EXEC = f"{VM}/agent/exec"


def test_program_in_a_guest_is_waited_for() -> None:
    ended = {"exited": 1, "exitcode": 3, "out-data": "out", "err-data": "err"}
    pve, wire = proxmox({f"POST {EXEC}": {"pid": 7}, f"GET {EXEC}-status": Turns({"exited": 0}, ended)})

    result = pve.agent_exec("pve1", 100, ["hostname", "-f"])

    assert (result.exit_code, result.stdout, result.stderr) == (3, "out", "err")
    assert wire.calls[:2] == [(f"POST {EXEC}", {"command": ["hostname", "-f"]}), (f"GET {EXEC}-status", {"pid": 7})]


def test_program_in_a_guest_that_does_not_end_is_told_without_its_output() -> None:
    pve, _ = proxmox({f"POST {EXEC}": {"pid": 7}, f"GET {EXEC}-status": {"exited": 0, "out-data": "canary"}})

    with pytest.raises(TimedOut) as late:
        pve.agent_exec("pve1", 100, ["sleep", "1d"], timeout_s=5)

    assert late.value.what == "the guest agent of VM 100 on pve1, running sleep"
    assert "qm guest exec-status 100 7" in late.value.cure
    assert "canary" not in str(late.value)


def test_output_that_the_agent_cut_off_is_no_output() -> None:
    pve, _ = proxmox(
        {f"POST {EXEC}": {"pid": 7}, f"GET {EXEC}-status": {"exited": True, "exitcode": 0, "out-truncated": 1}}
    )

    with pytest.raises(Misunderstood):
        pve.agent_exec("pve1", 100, ["cat", "/dev/zero"])


CLOUD_INIT = "pve1/qemu-server/101.conf:[special:cloudinit]"


@pytest.mark.parametrize(
    ("lines", "is_shared", "is_named"),
    [
        ((), True, False),
        (("pve1/qemu-server/100.conf:cicustom: vendor=local:snippets/v.yaml",), True, False),
        (("pve1/qemu-server/1100.conf:cicustom: vendor=local:snippets/v.yaml",), False, True),
        (("pve2/qemu-server/1100.conf:cicustom: vendor=local:snippets/v.yaml",), True, True),
        (("pve2/qemu-server/1100.conf:cicustom: vendor=local:snippets/v.yaml",), False, False),
        (("pve1/qemu-server/101.conf:[before]", "pve1/qemu-server/101.conf:x: local:snippets/v.yaml"), False, True),
        ((CLOUD_INIT, "pve1/qemu-server/101.conf:x: local:snippets/v.yaml"), False, False),
        ((CLOUD_INIT, "pve1/qemu-server/102.conf:x: local:snippets/v.yaml"), False, True),
    ],
    ids=["nowhere", "itself", "own", "shared", "elsewhere", "snapshot", "drive-of-another", "another-file"],
)
def test_snippet_is_needed_while_the_config_of_another_vm_that_sees_it_names_it(
    lines: tuple[str, ...], is_shared: bool, is_named: bool
) -> None:
    storage = {"storage": "local", "type": "dir", "content": "snippets", "shared": int(is_shared)}
    pve, wire = proxmox({"GET /nodes/pve1/storage": [{**storage, "active": 1, "enabled": 1}]})
    wire.respond = lambda _command: done("\n".join(lines))
    assert pve.is_named_by_vms("pve1", "local:snippets/v.yaml", beside=100) is is_named


VANISHED = "grep: pve2/qemu-server/101.conf: No such file or directory"


def test_vm_that_goes_while_the_configs_are_searched_only_makes_it_look_again() -> None:
    pve, wire = proxmox({"GET /nodes/pve1/storage": []})
    answers = iter([done(stderr=VANISHED, exit_code=2), done(stderr=VANISHED, exit_code=2), done(exit_code=1)])
    wire.respond = lambda _command: next(answers)

    assert pve.is_named_by_vms("pve1", "local:snippets/v.yaml") is False


def test_configs_that_cannot_be_searched_at_all_are_not_taken_for_free_of_the_name() -> None:
    pve, wire = proxmox({"GET /nodes/pve1/storage": []})
    wire.respond = lambda _command: done(stderr="grep: pve2: Input/output error", exit_code=2)

    with pytest.raises(Refused, match="Input/output error"):
        pve.is_named_by_vms("pve1", "local:snippets/v.yaml")
