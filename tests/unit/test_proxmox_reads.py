"""Reading from Proxmox: types out of JSON, other links when the own one is down, and what may be missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from homelab.errors import ChangedIdentity, Misunderstood, NotThere, Refused, Unreachable
from homelab.models import (
    MIB,
    BridgeState,
    HostStatus,
    Member,
    StorageState,
    TaskRow,
    VmRow,
    VmStatus,
    VolumeRow,
    Wire,
)
from homelab.proxmox import answers
from homelab.proxmox.answers import AgentInterface
from homelab.proxmox.client import Proxmox
from homelab.proxmox.transport import Link, TargetUnreachable
from homelab.settings import Via
from support.clock import SteppingClock
from support.fake_shell import done
from support.fake_transport import Answers, FakeTransport

RECORDINGS = Path(__file__).parents[1] / "recordings"
DOWN = Unreachable("API", "connection refused", "look")
NOT_IMPLEMENTED = Refused("GET", "not implemented", status=501)


PLACEHOLDERS = {'"<N>"': "7", '"<TIME>"': "9", "<LINK-LOCAL>": "fe80::7"}
"""What recordings leave out, and something of its kind."""


def recorded(file: str, case: str) -> Any:
    for line in (RECORDINGS / file).read_text().splitlines():
        entry = json.loads(line)
        if entry["id"] == case:
            written = json.dumps(entry["response"]["json"]["data"])
            for placeholder, value in PLACEHOLDERS.items():
                written = written.replace(placeholder, value)
            return json.loads(written)
    raise AssertionError(case)


def proxmox(answers: Answers, via: Via = Via.API, **others: Answers) -> tuple[Proxmox, FakeTransport]:
    """Node pve1 with these answers on both wires, and perhaps others."""
    wires = {name: FakeTransport(them) for name, them in {"pve1": answers, **others}.items()}
    links = {name: Link(name, wire, wire, via, lambda *_: None) for name, wire in wires.items()}
    return Proxmox(links, SteppingClock()), wires["pve1"]


def read(path: str, data: Any) -> Proxmox:
    return proxmox({f"GET {path}": data})[0]


def test_status_of_a_single_node_counts_as_quorate() -> None:
    status = answers.cluster_status(recorded("cluster.jsonl", "cluster.status"))
    assert status.members == (Member("pve1", "192.0.2.10", is_online=True, is_local=True),)
    assert status.is_quorate


def test_cluster_without_quorum_says_so() -> None:
    data = [{"type": "cluster", "quorate": 0}, {"type": "node", "name": "pve1", "ip": "192.0.2.1", "online": 0}]
    assert not answers.cluster_status(data).is_quorate


@pytest.mark.parametrize("data", [None, {}, ["x"], [{"type": "cluster"}]])
def test_status_that_makes_no_sense_is_misunderstood(data: Any) -> None:
    with pytest.raises(Misunderstood):
        answers.cluster_status(data)


def test_cluster_lists_vms_and_containers_and_nothing_else() -> None:
    data = [
        {"type": "qemu", "vmid": 100, "node": "pve1", "name": "a"},
        {"type": "qemu", "vmid": "101", "node": "pve2"},
        {"type": "lxc", "vmid": 102, "node": "pve1", "name": "c", "pool": "prod"},
        {"type": "storage", "node": "pve1"},
    ]
    assert read("/cluster/resources", data).cluster_vms() == (
        VmRow(100, "pve1", "a"),
        VmRow(101, "pve2", ""),
        VmRow(102, "pve1", "c", is_container=True, pool="prod"),
    )


def test_host_as_recorded() -> None:
    pve = read("/nodes/pve1/status", recorded("node.jsonl", "node.status"))
    assert pve.host("pve1") == HostStatus(7, 7, 7, 7, "9.2.11", 7)


def test_host_of_older_releases_has_free_memory_only() -> None:
    data = {"uptime": "5", "cpuinfo": {"cpus": 4}, "memory": {"total": 9, "free": 3}, "pveversion": "9"}
    assert read("/nodes/pve1/status", data).host("pve1") == HostStatus(5, 4, 9, 3, "9")


def test_number_that_is_none_is_misunderstood() -> None:
    with pytest.raises(Misunderstood, match="'time'"):
        read("/nodes/pve1/time", {"time": "noon"}).host_time("pve1")
    assert read("/nodes/pve1/time", {"time": 1700000000}).host_time("pve1") == 1700000000


def test_list_of_vms() -> None:
    pve = read("/nodes/pve1/qemu", recorded("qemu-list.jsonl", "qemu.list.full"))
    assert set(pve.vms("pve1")) == {VmRow(101, "pve1", "vm101"), VmRow(100, "pve1", "vm100")}


def test_paused_vm_shows_in_qmpstatus_only() -> None:
    path = "/nodes/pve1/qemu/100/status/current"
    paused = read(path, recorded("qemu-status.jsonl", "qemu.status.paused")).vm_status("pve1", 100)
    assert (paused.status, paused.qmpstatus, paused.lock, paused.is_ha_managed) == ("running", "paused", "", False)
    locked = read(path, recorded("qemu-status.jsonl", "qemu.status.locked_backup")).vm_status("pve1", 100)
    assert locked == VmStatus("vm100", "stopped", "stopped", "backup", 0, False, 0)


def test_status_without_a_status_is_misunderstood() -> None:
    with pytest.raises(Misunderstood, match="no field 'status'"):
        read("/nodes/pve1/qemu/100/status/current", {}).vm_status("pve1", 100)


def test_config_keeps_its_digest_apart() -> None:
    pve = read("/nodes/pve1/qemu/100/config", {"digest": "abc", "cores": 2, "name": "x"})
    config = pve.vm_config("pve1", 100)
    assert (config.digest, config.values) == ("abc", {"cores": "2", "name": "x"})


def test_snapshots_are_all_but_the_current_state() -> None:
    path = "/nodes/pve1/qemu/100/snapshot"
    assert not read(path, [{"name": "current"}]).has_snapshots("pve1", 100)
    assert read(path, [{"name": "before"}, {"name": "current"}]).has_snapshots("pve1", 100)


FIREWALL = "/nodes/pve1/qemu/100/firewall"


def test_what_this_proxmox_does_not_have_is_none() -> None:
    pve, _ = proxmox(
        {
            **{f"GET {FIREWALL}/{name}": NOT_IMPLEMENTED for name in ("rules", "aliases", "ipset")},
            f"GET {FIREWALL}/options": {"digest": "da39", "enable": 0},
            "GET /cluster/replication": NOT_IMPLEMENTED,
            "GET /access/acl": NOT_IMPLEMENTED,
        }
    )
    assert pve.own_firewall("pve1", 100) == ()
    assert pve.replication_jobs("pve1", 100) == ()
    assert pve.vm_acl_paths(100) == ()


def test_what_we_may_not_see_is_not_none() -> None:
    with pytest.raises(Refused):
        read("/access/acl", Refused("GET", "denied", status=403)).vm_acl_paths(100)


def test_rules_jobs_and_rights_of_this_vm_are_counted() -> None:
    pve, _ = proxmox(
        {
            f"GET {FIREWALL}/rules": [{"pos": 0, "type": "group", "action": "web"}],
            f"GET {FIREWALL}/aliases": [],
            f"GET {FIREWALL}/ipset": [{"name": "trusted"}],
            f"GET {FIREWALL}/options": {"digest": "da39", "policy_in": "DROP", "enable": 1},
            "GET /cluster/replication": [{"id": "100-0", "guest": 100}, {"id": "101-0", "guest": 101}],
            "GET /access/acl": [{"path": "/vms/100"}, {"path": "/vms"}],
        }
    )
    assert pve.own_firewall("pve1", 100) == ("rules", "IP sets", "enable", "policy_in")
    assert pve.replication_jobs("pve1", 100) == ("100-0",)
    assert pve.vm_acl_paths(100) == ("/vms/100",)


def test_storages_volumes_and_bridges_as_recorded() -> None:
    pve, wire = proxmox(
        {
            "GET /nodes/pve1/storage": recorded("node.jsonl", "node.storage.list"),
            "GET /nodes/pve1/storage/local/content": recorded("content.jsonl", "content.list.images"),
            "GET /nodes/pve1/network": recorded("node.jsonl", "node.network.any_bridge"),
        }
    )
    kinds = frozenset({"backup", "rootdir", "snippets", "vztmpl", "images", "iso", "import"})
    assert pve.storages("pve1") == (StorageState("local", "dir", kinds, True, True, False, 7),)
    assert pve.storage_content("pve1", "local", content="images", vmid=100) == (
        VolumeRow("local:100/vm-100-disk-0.raw", "images", 1073741824, 100, used_bytes=7),
    )
    assert wire.calls[-1][1] == {"content": "images", "vmid": 100}
    pve.storage_content("pve1", "local")
    assert wire.calls[-1][1] == {}
    assert pve.bridges("pve1") == (BridgeState("vmbr0", True),)


def test_size_of_the_disk_in_an_image_is_not_that_of_the_file() -> None:
    pve, _ = proxmox(
        {
            "GET /nodes/pve1/storage/local/content/local:import/d.qcow2": recorded(
                "content.jsonl", "content.volume.import"
            ),
            "GET /nodes/pve1/storage/local/content/local:iso/d.img": recorded("content.jsonl", "content.volume.iso"),
        }
    )
    assert pve.disk_bytes("pve1", "local:import/d.qcow2") == 64 << 20
    assert pve.disk_bytes("pve1", "local:iso/d.img") == 0


def test_task_that_is_not_known_any_more_does_not_run() -> None:
    path = "/nodes/pve1/tasks/UPID:x/status"
    assert read(path, {"status": "running"}).is_running("pve1", "UPID:x")
    assert not read(path, {"status": "stopped", "exitstatus": "OK"}).is_running("pve1", "UPID:x")
    assert not read(path, Refused("GET", "no such task", status=400)).is_running("pve1", "UPID:x")


def test_tasks_come_newest_first_and_active_ones_are_those_without_an_end() -> None:
    ended = {
        "upid": "a",
        "type": "qmstart",
        "id": "100",
        "user": "root@pam",
        "starttime": 5,
        "endtime": 6,
        "status": "OK",
    }
    running = {"upid": "b", "type": "qmstop", "id": "100", "user": "x@pve", "starttime": 9}
    pve, wire = proxmox({"GET /nodes/pve1/tasks": [ended, running]})
    newest = TaskRow("b", "qmstop", "100", "x@pve", 9, None, "")
    assert pve.tasks("pve1", vmid=100, limit=3) == (newest, TaskRow("a", "qmstart", "100", "root@pam", 5, 6, "OK"))
    assert pve.tasks("pve1", is_active=True) == (newest,)
    assert [params for _, params in wire.calls] == [{"limit": 3, "vmid": 100}, {"limit": 50, "source": "active"}]


def test_next_vmid_is_a_number() -> None:
    assert read("/cluster/nextid", "101").next_vmid() == 101


def test_other_link_answers_for_a_node_whose_own_is_down() -> None:
    key = "GET /nodes/pve1/qemu"
    pve, _ = proxmox({key: DOWN}, pve2={key: DOWN}, pve3={key: []})
    assert pve.vms("pve1") == ()


def test_node_that_the_others_do_not_reach_either_is_unreachable_at_once() -> None:
    key = "GET /nodes/pve1/qemu"
    pve, _ = proxmox({key: DOWN}, pve2={key: TargetUnreachable("GET", "595", "on?")}, pve3={key: []})
    with pytest.raises(TargetUnreachable):
        pve.vms("pve1")


def test_nobody_answers_for_a_node_that_may_be_another_machine_now() -> None:
    changed = ChangedIdentity("API", "its certificate has changed", "trust")
    pve, _ = proxmox({"GET /nodes/pve1/qemu": changed}, pve2={"GET /nodes/pve1/qemu": []})
    with pytest.raises(ChangedIdentity):
        pve.vms("pve1")


def test_other_node_answers_for_the_cluster_where_the_first_may_be_another_machine_now() -> None:
    changed = ChangedIdentity("API", "its certificate has changed", "trust")
    pve, _ = proxmox({"GET /cluster/nextid": changed}, pve2={"GET /cluster/nextid": "101"})
    assert pve.next_vmid() == 101


def test_no_answer_anywhere_gives_the_last_reason() -> None:
    with pytest.raises(Unreachable, match="connection refused"):
        read("/nodes/pve1/qemu", DOWN).vms("pve1")
    with pytest.raises(Unreachable, match="no node is reached"):
        Proxmox({}, SteppingClock()).cluster_vms()


def test_node_without_a_link_is_named() -> None:
    pve, wire = proxmox({})
    assert pve.wire("pve1") is Wire.API
    assert pve.root("pve1") is wire
    with pytest.raises(Unreachable, match="node pve9"):
        pve.link("pve9")


def test_vms_of_an_offline_node_are_read_from_the_cluster_files() -> None:
    pve, wire = proxmox({})
    folder = "/etc/pve/nodes/pve2/qemu-server"
    found = f"{folder}/100.conf:name: k3s-vm-pve2\n{folder}/100.conf:name: snapshot\n"
    wire.respond = lambda line: done("100.conf\n101.conf\nx.tmp\n" if line.startswith("ls") else found)
    assert pve.offline_vms("pve2") == (VmRow(100, "pve2", "k3s-vm-pve2"), VmRow(101, "pve2", ""))
    wire.respond = lambda _: done("")
    assert pve.offline_vms("pve2") == ()
    wire.respond = lambda _: done("", "No such file or directory", 2)
    with pytest.raises(Refused, match="No such file"):
        pve.offline_vms("pve2")
    wire.unreachable = DOWN
    with pytest.raises(Unreachable, match="connection refused"):
        pve.offline_vms("pve2")


AGENT = "/nodes/pve1/qemu/100/agent"


def test_interfaces_of_the_guest_as_recorded() -> None:
    pve = read(f"{AGENT}/network-get-interfaces", recorded("agent.jsonl", "agent.network-get-interfaces.live"))
    loopback, nic = pve.agent_interfaces("pve1", 100)
    assert loopback == AgentInterface("lo", "00:00:00:00:00:00", ("127.0.0.1", "::1"))
    assert (nic.name, nic.addresses[0]) == ("eth0", "192.0.2.2")


def test_silent_agent_is_refused_with_its_words() -> None:
    refused = Refused("GET", "QEMU guest agent is not running", status=500)
    with pytest.raises(Refused, match="not running"):
        read(f"{AGENT}/network-get-interfaces", refused).agent_interfaces("pve1", 100)


def test_guest_file_is_read() -> None:
    assert read(f"{AGENT}/file-read", {"content": "text"}).agent_file_read("pve1", 100, "/etc/hostname") == "text"


def test_missing_vm_stays_not_there() -> None:
    with pytest.raises(NotThere):
        read("/nodes/pve1/qemu/9/config", NotThere("GET", "does not exist", status=500)).vm_config("pve1", 9)


def test_memory_that_a_guest_has_from_boot() -> None:
    container = VmRow(102, "pve1", "ct", is_container=True, memory_bytes=5)

    def of_vm(**config: str) -> int:
        return read("/nodes/pve1/qemu/101/config", config).memory_from_boot(VmRow(101, "pve1", "vm"))

    assert of_vm(onboot="1", memory="4096") == 4096 * MIB
    assert of_vm(onboot="1", memory="current=2048") == 2048 * MIB
    assert of_vm(onboot="1") == 512 * MIB
    assert of_vm(memory="4096") == 0
    assert read("/nodes/pve1/lxc/102/config", {"onboot": 1}).memory_from_boot(container) == 5
    assert read("/nodes/pve1/lxc/102/config", {}).memory_from_boot(container) == 0
