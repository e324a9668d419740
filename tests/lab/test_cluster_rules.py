"""What no recording shows: several nodes, block storages, space, progress of tasks."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Literal

import pytest

from pvelab.answers import ApiError
from pvelab.shell.contents import Hole
from pvelab.state import GIB, Action, ApiRequest, Capacity, Profile
from replay.stage import Stage, new_node

STORAGE_CFG = """dir: local
\tpath /var/lib/vz
\tcontent iso,vztmpl,backup,snippets,import,images

lvmthin: local-lvm
\tthinpool data
\tvgname pve
\tcontent images,rootdir
\tnodes pve1

zfspool: local-zfs
\tpool rpool/data
\tcontent images,rootdir
\tnodes pve2

nfs: share
\tpath /mnt/pve/share
\tserver 192.0.2.9
\texport /srv
\tcontent iso,images
"""


@pytest.fixture
def stage(stage: Stage) -> Stage:
    world = stage.world
    for name in ("pve2", "pve3"):
        world.nodes[name] = new_node(stage.folder, world.clock, world.pve, name)
        world.nodes[name].nodeid = len(world.nodes)
    world.cluster_name = "home"
    world.pve.provide("/storage.cfg", STORAGE_CFG.encode())
    return stage


def create(stage: Stage, node: str = "pve1", **params: str) -> str:
    """Make VM 100 and return how the task ended."""
    reply = stage.ask("POST", f"/nodes/{node}/qemu", params={"vmid": "100", **params})
    assert reply.status == 200, reply.reason
    return str(stage.wait_for(reply.json["data"]).exitstatus)


def refusal(stage: Stage, method: str, path: str, **params: str) -> str:
    with pytest.raises(ApiError) as caught:
        stage.as_root(method, path, params)
    return caught.value.reason


def test_volume_on_lvmthin_has_neither_folder_nor_ending(stage: Stage) -> None:
    assert create(stage, scsi0="local-lvm:0,import-from=local:import/disk.qcow2", ide2="local-lvm:cloudinit") == "OK"
    assert stage.config()["scsi0"] == "local-lvm:vm-100-disk-0,size=64M"
    assert stage.config()["ide2"] == "local-lvm:vm-100-cloudinit,media=cdrom"


def test_thin_pool_may_promise_more_than_it_has(stage: Stage) -> None:
    stage.world.capacities["pve1", "local-lvm"] = Capacity(10 * GIB, 0)
    assert create(stage, scsi0="local-lvm:500") == "OK"


def test_failed_create_leaves_no_disk_behind(stage: Stage) -> None:
    assert create(stage, scsi0="local:4", scsi1="local:0,import-from=local:import/nope.qcow2") != "OK"
    content = stage.ask("GET", "/nodes/pve1/storage/local/content", params={"content": "images"})
    assert content.json["data"] == []


def test_image_that_does_not_fit_fails_the_create(stage: Stage) -> None:
    files = stage.world.nodes["pve1"].files
    files.mounted[0].other_bytes = files.usage("/").available_bytes - (32 << 10)
    assert "No space left on device" in create(stage, scsi0="local:0,import-from=local:import/disk.qcow2")


def test_request_for_another_node_is_passed_on(stage: Stage) -> None:
    assert create(stage, "pve3") == "OK"
    assert stage.ask("GET", "/nodes/pve3/qemu/100/status/current").json["data"]["status"] == "stopped"
    missing = "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist"
    assert stage.ask("GET", "/nodes/pve1/qemu/100/config").reason == missing


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [("off", 595, "No route to host"), ("refuses", 595, "Connection refused"), ("hangs", 596, "Connection timed out")],
)
def test_node_that_is_not_reached_gives_an_answer_of_the_proxy(
    stage: Stage, state: str, status: int, reason: str
) -> None:
    node = stage.world.nodes["pve3"]
    if state == "off":
        node.is_up = False
    elif state == "refuses":
        node.api = "refuses"
    else:
        node.api = "hangs"
    reply = stage.ask("GET", "/nodes/pve3/qemu")
    assert (reply.status, reply.reason, reply.body) == (status, reason, "")


def test_cluster_without_majority_takes_no_writes(stage: Stage) -> None:
    stage.world.nodes["pve2"].is_up = stage.world.nodes["pve3"].is_up = False
    assert refusal(stage, "POST", "/nodes/pve1/qemu", vmid="100") == "cluster not ready - no quorum?"
    head = stage.ask("GET", "/cluster/status").json["data"][0]
    assert (head["type"], head["quorate"], head["nodes"]) == ("cluster", 0, 3)


def test_node_that_is_off_is_offline_in_every_list(stage: Stage) -> None:
    stage.world.nodes["pve3"].is_up = False
    states = {item["node"]: item["status"] for item in stage.ask("GET", "/nodes").json["data"]}
    assert states == {"pve1": "online", "pve2": "online", "pve3": "offline"}
    members = stage.ask("GET", "/cluster/status").json["data"][1:]
    assert {item["name"]: item["online"] for item in members} == {"pve1": 1, "pve2": 1, "pve3": 0}


def test_vm_is_locked_while_it_is_made(stage: Stage) -> None:
    reply = stage.ask("POST", "/nodes/pve1/qemu", params={"vmid": "100", "name": "web"})
    upid = reply.json["data"]
    shown = stage.ask("GET", "/nodes/pve1/qemu/100/status/current").json["data"]
    assert (shown["lock"], shown["status"]) == ("create", "stopped")
    assert stage.ask("GET", f"/nodes/pve1/tasks/{upid}/status").json["data"]["status"] == "running"
    assert stage.ask("GET", "/nodes/pve1/tasks", params={"source": "active"}).json["data"][0]["upid"] == upid
    stage.wait_for(upid)
    assert "lock" not in stage.ask("GET", "/nodes/pve1/qemu/100/status/current").json["data"]


def test_import_takes_time_by_its_size(stage: Stage) -> None:
    stage.world.timings.import_bytes_per_s = 1000
    reply = stage.ask(
        "POST", "/nodes/pve1/qemu", params={"vmid": "100", "scsi0": "local:0,import-from=local:import/disk.qcow2"}
    )
    stage.clock.advance(100)
    assert stage.world.tasks[reply.json["data"]].is_running
    assert stage.wait_for(reply.json["data"]).exitstatus == "OK"


def test_qcow2_behind_an_iso_name_becomes_a_disk_of_its_virtual_size(stage: Stage) -> None:
    files = stage.world.nodes["pve1"].files
    files.provide("/var/lib/vz/template/iso/noble.img", files.read("/root/disk.qcow2"))
    source = "local-lvm:0,import-from=/var/lib/vz/template/iso/noble.img"
    stage.as_root("POST", "/nodes/pve1/qemu", {"vmid": "100", "scsi0": source})
    assert stage.config()["scsi0"] == "local-lvm:vm-100-disk-0,size=64M"


def test_file_written_behind_proxmox_is_a_volume(stage: Stage) -> None:
    stage.world.nodes["pve1"].files.provide("/var/lib/vz/template/iso/new.img", b"x" * 700)
    listed = stage.ask("GET", "/nodes/pve1/storage/local/content", params={"content": "iso"}).json["data"]
    assert [(item["volid"], item["size"]) for item in listed] == [("local:iso/new.img", 700)]


def test_disk_removed_behind_proxmox_is_gone(stage: Stage) -> None:
    create(stage, scsi0="local:4")
    stage.world.nodes["pve1"].files.remove("/var/lib/vz/images/100/vm-100-disk-0.raw")
    upid = stage.ask("POST", "/nodes/pve1/qemu/100/status/start").json["data"]
    assert stage.wait_for(upid).exitstatus == "volume 'local:100/vm-100-disk-0.raw' does not exist"


def test_running_vms_take_the_nodes_memory(stage: Stage) -> None:
    before = stage.ask("GET", "/nodes/pve1/status").json["data"]["memory"]["available"]
    create(stage, memory="4096", start="1")
    after = stage.ask("GET", "/nodes/pve1/status").json["data"]["memory"]["available"]
    assert before - after > 1 * GIB


def test_pending_memory_holds_after_a_stop(stage: Stage) -> None:
    create(stage, memory="512", start="1")
    stage.as_root("PUT", "/nodes/pve1/qemu/100/config", {"memory": "1024"})
    assert stage.world.vms[100].config["memory"] == "512"
    stage.as_root("POST", "/nodes/pve1/qemu/100/status/stop", {})
    assert stage.world.vms[100].config["memory"] == "1024"


def test_start_waits_for_the_stop_under_way(stage: Stage) -> None:
    create(stage, start="1")
    stop = stage.ask("POST", "/nodes/pve1/qemu/100/status/stop").json["data"]
    start = stage.ask("POST", "/nodes/pve1/qemu/100/status/start").json["data"]
    assert stage.wait_for(stop).exitstatus == stage.wait_for(start).exitstatus == "OK"
    assert stage.world.vms[100].qmp == "running"


def test_task_that_is_broken_by_a_fault_fails_with_its_text(stage: Stage) -> None:
    stage.world.hooks.task_fault = lambda task: "got no space" if task.type == "qmcreate" else None
    assert create(stage) == "unable to create VM 100 - got no space"
    assert 100 not in stage.world.vms


def test_interrupted_create_leaves_no_vm(stage: Stage) -> None:
    upid = stage.ask("POST", "/nodes/pve1/qemu", params={"vmid": "100"}).json["data"]
    assert stage.ask("DELETE", f"/nodes/pve1/tasks/{upid}").status == 200
    assert stage.wait_for(upid).exitstatus == "unable to create VM 100 - received interrupt"
    assert 100 not in stage.world.vms


def test_pool_is_made_once(stage: Stage) -> None:
    assert stage.ask("POST", "/pools", params={"poolid": "lock", "comment": "me"}).json == {"data": None}
    assert stage.ask("POST", "/pools", params={"poolid": "lock"}).reason == (
        "create pool failed: pool 'lock' already exists"
    )
    assert stage.ask("GET", "/pools/lock").json["data"] == {"comment": "me", "members": []}
    assert stage.ask("DELETE", "/pools/lock").status == 200


def test_vms_configuration_is_a_file_on_every_member(stage: Stage) -> None:
    create(stage, name="web", memory="256")
    text = stage.world.nodes["pve3"].files.read("/etc/pve/nodes/pve1/qemu-server/100.conf").decode()
    assert "memory: 256\n" in text and "name: web\n" in text


def test_upload_through_another_node_lands_on_the_target(stage: Stage) -> None:
    upload = {"filename": "a.iso", "data": "iso"}
    reply = stage.ask(
        "POST", "/nodes/pve2/storage/local/upload", params={"content": "iso", "filename": "@a.iso"}, upload=upload
    )
    task = stage.wait_for(reply.json["data"])
    assert (task.node, task.exitstatus) == ("pve1", "OK")
    assert any("scp -o BatchMode=yes -o HostKeyAlias=pve2" in line for line in task.log)
    assert stage.world.nodes["pve2"].files.read("/var/lib/vz/template/iso/a.iso") == b"iso"
    assert not stage.world.nodes["pve1"].files.exists("/var/lib/vz/template/iso/a.iso")


def test_upload_with_its_checksum_is_verified(stage: Stage) -> None:
    params = {"content": "iso", "checksum-algorithm": "md5", "checksum": "00", "filename": "@a.iso"}
    upload = {"filename": "a.iso", "data": "iso"}
    reply = stage.ask("POST", "/nodes/pve1/storage/local/upload", params=params, upload=upload)
    assert str(stage.wait_for(reply.json["data"]).exitstatus).startswith("checksum mismatch: got '")


def test_date_header_tells_the_nodes_own_time(stage: Stage) -> None:
    stage.world.nodes["pve1"].clock_skew_s = 3600
    sent = parsedate_to_datetime(stage.ask("GET", "/version").headers["Date"])
    assert abs(sent.timestamp() - stage.clock.now() - 3600) < 2


def test_big_file_counts_against_the_file_system(stage: Stage) -> None:
    node = stage.world.nodes["pve1"]
    before = stage.ask("GET", "/nodes/pve1/storage/local/status").json["data"]["used"]
    node.files.provide("/var/lib/vz/template/iso/big.iso", Hole(5 << 20))
    node.files.provide("/var/lib/vz/template/iso/full.iso", b"x" * (1 << 20))
    assert stage.ask("GET", "/nodes/pve1/storage/local/status").json["data"]["used"] - before == 1 << 20


@pytest.mark.parametrize("kind", ["reset", "reset-after"])
def test_connection_can_be_cut_before_or_after_the_work(stage: Stage, kind: Literal["reset", "reset-after"]) -> None:
    stage.world.hooks.intercept = lambda *_: Action(kind)
    seen: list[ApiRequest] = []
    stage.world.hooks.record = seen.append
    with pytest.raises(OSError):
        stage.ask("POST", "/nodes/pve1/qemu", params={"vmid": "100"})
    assert (100 in stage.world.vms) == (kind == "reset-after")
    assert [(one.method, one.path, one.params, one.status) for one in seen] == [
        ("POST", "/nodes/pve1/qemu", {"vmid": "100"}, 0)
    ]


def test_answer_can_be_replaced(stage: Stage) -> None:
    stage.world.hooks.intercept = lambda *_: Action("answer", 596, "Broken pipe")
    reply = stage.ask("POST", "/nodes/pve1/qemu", params={"vmid": "100"})
    assert (reply.status, reply.reason, reply.body) == (596, "Broken pipe", "")
    assert 100 not in stage.world.vms


def test_hanging_request_is_never_answered_and_costs_no_lab_time(stage: Stage) -> None:
    stage.world.hooks.intercept = lambda *_: Action("hang")
    before = stage.clock.now()
    with pytest.raises(TimeoutError):
        stage.ask("GET", "/version", timeout_s=0.15)
    assert stage.clock.now() == before


def test_earlier_release_knows_its_own_privileges_and_options(stage: Stage) -> None:
    stage.world.profile = Profile("8.4", "8.4.14", "b502d23c55afcba1", "9.2.0")
    assert stage.ask("GET", "/version").json["data"]["release"] == "8.4"
    create(stage, agent="1", start="1")
    assert stage.ask("POST", "/nodes/pve1/qemu/100/agent/ping").reason == "QEMU guest agent is not running"
    reply = stage.ask("PUT", "/nodes/pve1/qemu/100/config", params={"allow-ksm": "1"})
    assert list(reply.json["errors"]) == ["allow-ksm"]


def test_parameters_are_judged_by_their_formats(stage: Stage) -> None:
    wrong = {
        "name": "a_b",
        "cpu": "nosuch",
        "nameserver": "192.0.2.300 x!",
        "hotplug": "wheels",
        "watchdog": "none",
        "startup": "first",
    }
    errors = stage.ask("POST", "/nodes/pve1/qemu", params={"vmid": "100", **wrong}).json["errors"]
    assert errors["name"] == "invalid format - value does not look like a valid DNS name\n"
    assert errors["cpu"] == "invalid format - Built-in cputype 'nosuch' is not defined (missing 'custom-' prefix?)\n"
    assert errors.keys() == wrong.keys()


def test_shared_storage_holds_the_same_files_for_every_node(stage: Stage) -> None:
    upload = {"filename": "a.iso", "data": "iso"}
    path = "/nodes/pve1/storage/share/upload"
    reply = stage.ask("POST", path, params={"content": "iso", "filename": "@a.iso"}, upload=upload)
    assert stage.wait_for(reply.json["data"]).exitstatus == "OK"
    create(stage, scsi0="share:1,format=qcow2")
    seen = [stage.ask("GET", f"/nodes/{node}/storage/share/content").json["data"] for node in ("pve1", "pve2")]
    assert seen[0] == seen[1]
    assert {item["volid"] for item in seen[0]} == {"share:iso/a.iso", "share:100/vm-100-disk-0.qcow2"}


def test_snapshot_is_listed_until_it_is_removed(stage: Stage) -> None:
    create(stage, scsi0="local-lvm:1")
    base = "/nodes/pve1/qemu/100/snapshot"
    stage.as_root("POST", base, {"snapname": "before"})
    assert [item["name"] for item in stage.ask("GET", base).json["data"]] == ["before", "current"]
    assert stage.config()["parent"] == "before"
    stage.as_root("DELETE", f"{base}/before", {})
    assert [item["name"] for item in stage.ask("GET", base).json["data"]] == ["current"]
    assert "parent" not in stage.config()


def test_raw_disk_in_a_folder_takes_no_snapshot(stage: Stage) -> None:
    create(stage, scsi0="local:1")
    upid = stage.ask("POST", "/nodes/pve1/qemu/100/snapshot", params={"snapname": "before"}).json["data"]
    assert stage.wait_for(upid).exitstatus == "snapshot feature is not available"


def test_acls_are_listed_changed_and_obeyed(stage: Stage) -> None:
    change = {"path": "/nodes", "roles": "PVEAuditor", "users": "svc@pve", "tokens": "svc@pve!test"}
    assert stage.ask("GET", "/nodes/pve1/status", "svc-token").status == 403
    assert stage.ask("PUT", "/access/acl", params=change).status == 200
    assert stage.ask("GET", "/nodes/pve1/status", "svc-token").status == 200
    paths = {(item["path"], item["ugid"]) for item in stage.ask("GET", "/access/acl").json["data"]}
    assert ("/nodes", "svc@pve!test") in paths
    assert stage.ask("PUT", "/access/acl", params={**change, "delete": "1"}).status == 200
    assert stage.ask("GET", "/nodes/pve1/status", "svc-token").status == 403


def test_change_waits_for_the_task_that_holds_the_vm(stage: Stage) -> None:
    stage.ask("POST", "/nodes/pve1/qemu", params={"vmid": "100"})
    assert stage.ask("PUT", "/nodes/pve1/qemu/100/config", params={"name": "late"}).status == 200
    assert stage.config()["name"] == "late"


def test_change_gives_up_on_a_vm_that_is_held_too_long(stage: Stage) -> None:
    create(stage, start="1")
    stage.ask("POST", "/nodes/pve1/qemu/100/status/shutdown", params={"timeout": "60"})
    reply = stage.ask("PUT", "/nodes/pve1/qemu/100/config", params={"name": "late"})
    assert reply.reason == "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"
