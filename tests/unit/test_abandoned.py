"""What is told of writes on nodes that the configuration names no more, and when they are forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab import memory
from homelab.errors import NotThere, Unreachable
from homelab.memory import Journal
from homelab.models import Creation
from homelab.proxmox.client import Proxmox
from homelab.proxmox.transport import Link
from homelab.settings import Via
from homelab.vm_manager.abandoned import Abandoned
from support.clock import SteppingClock
from support.fake_transport import Answers, FakeTransport

CREATION = "POST /nodes/pve9/qemu"
CONFIG = "GET /nodes/pve9/qemu/107/config"
CONTENT = "GET /nodes/pve9/storage/local/content"
TASKS = "GET /nodes/pve9/tasks"
GONE = NotThere("GET", "Configuration file does not exist", status=500)
RUNNING = {"upid": "UPID:x", "type": "qmcreate", "id": "107", "user": "root@pam", "starttime": 1}
MEMBERS = [{"type": "node", "name": "pve1", "ip": "192.0.2.1", "online": 1, "local": 1}]
WITH_PVE9 = [*MEMBERS, {"type": "node", "name": "pve9", "ip": "192.0.2.9", "online": 1, "local": 0}]


def disk(volume: str) -> dict[str, object]:
    return {"volid": volume, "content": "images", "size": 1, "vmid": 107}


def looked_at(path: Path, answers: Answers, what: str, vmid: int = 107, upid: str = "") -> tuple[list[str], bool]:
    """What is told of an open write on pve9, and whether it is still open afterwards."""
    clock = SteppingClock()
    journal = Journal(path, clock)
    write = journal.begin(what, "pve9", vmid)
    if upid:
        write.sent(upid)
    journal.begin("PUT /nodes/pve1/qemu/100/config", "pve1", 100)
    memory.note_creating(journal, Creation("pve9", 107, "local", ("local:107/mine.raw",)))
    wire = FakeTransport({"GET /cluster/status": WITH_PVE9, TASKS: [], **answers})
    pve = Proxmox({"pve1": Link("pve1", wire, wire, Via.API, lambda *_: None)}, clock)
    told: list[str] = []
    Abandoned(pve, journal, told.append, frozenset({"pve1"})).run()
    assert "pve1" in {intent.node for intent in journal.unfinished()}
    return told, "pve9" in {intent.node for intent in journal.unfinished()}


@pytest.mark.parametrize(
    ("answers", "what", "vmid"),
    [
        ({"GET /cluster/status": MEMBERS}, CREATION, 107),
        ({CONFIG: {"name": "k3s-vm-pve9", "tags": "homelab"}}, "PUT /nodes/pve9/qemu/107/config", 107),
        ({CONFIG: GONE}, "DELETE /nodes/pve9/qemu/107", 107),
        ({CONFIG: GONE, CONTENT: [disk("local:107/mine.raw")]}, CREATION, 107),
        ({}, "POST /nodes/pve9/storage/local/download-url", 0),
    ],
    ids=["no-such-node", "vm-is-whole", "vm-is-gone", "nothing-left", "download"],
)
def test_what_proxmox_shows_to_be_over_is_forgotten(tmp_path: Path, answers: Answers, what: str, vmid: int) -> None:
    assert looked_at(tmp_path / "journal.jsonl", answers, what, vmid) == ([], False)


@pytest.mark.parametrize(
    ("answers", "upid", "said"),
    [
        ({TASKS: [RUNNING]}, "", "wait for it to end: pvesh get /nodes/pve9/tasks --source active"),
        ({"GET /nodes/pve9/tasks/UPID:x/status": {"status": "running"}}, "UPID:x", "wait for it to end"),
        ({CONFIG: {"lock": "create"}}, "", "set NODE_n=pve9 and run again, or on pve9: qm unlock 107; qm destroy 107"),
        ({CONFIG: GONE, CONTENT: [disk("local:107/x.raw")]}, "", "it left disks; on pve9: pvesm free local:107/x.raw"),
        (
            {TASKS: Unreachable("pve9", "no route", "")},
            "",
            "no route; if the node is gone for good: pvecm delnode pve9",
        ),
    ],
    ids=["task", "known-task", "half-made", "disks", "off"],
)
def test_what_is_not_over_is_told_with_its_cure(tmp_path: Path, answers: Answers, upid: str, said: str) -> None:
    (told,), is_open = looked_at(tmp_path / "journal.jsonl", answers, CREATION, upid=upid)

    assert told.startswith(
        f"pve9: {CREATION} of VM 107, begun by an earlier run, is open, and no NODE_n names that node"
    )
    assert said in told
    assert is_open


def test_file_that_may_be_left_in_part_is_told_of_once(tmp_path: Path) -> None:
    (told,), is_open = looked_at(tmp_path / "journal.jsonl", {}, "upload of local:import/noble.qcow2", 0)

    assert "on pve9: ls -A $(dirname $(pvesm path local:import/noble.qcow2))" in told
    assert not is_open
