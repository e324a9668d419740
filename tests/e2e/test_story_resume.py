"""Stories of runs that were cut off: whatever had been begun is finished or undone by the next one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from e2e.conftest import Homelab, Run
from e2e.world import ALL_MEMBERS, k3s, nodes_with_running_vm, ready_members, servers, uuid_of, uuids, vm_on
from homelab import memory
from homelab.memory import Journal
from homelab.models import CarriedOver
from homelab.proxmox import remote_files
from homelab.proxmox.api import Api
from homelab.proxmox.ssh import Ssh
from homelab.proxmox.transport import Root
from homelab.shell import Readable
from pvelab.interception import Arrival
from pvelab.lab import Lab
from pvelab.rules import configs, removal
from pvelab.state import Node, World
from support.clock import SteppingClock

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
"""A node's thread that is killed says so."""
NO_JOIN = {"K3S_EXISTING_NODE_IP": None}
NODES = ("pve1", "pve2", "pve3")
ONLY_PVE3 = {"NODE_ENABLED_1": "0", "NODE_ENABLED_2": "0"}


@contextmanager
def killed(method: str, path: str, *, after: bool = False) -> Iterator[None]:
    """Whoever sends METHOD path is gone just before it is sent, or just after it was taken, and handles no error."""

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def dies(self: object, asked: str, asked_path: str, *arguments: Any, **named: Any) -> Any:
            is_meant = asked == method and re.fullmatch(path, asked_path) is not None
            if is_meant and not after:
                raise SystemExit
            answer = call(self, asked, asked_path, *arguments, **named)
            if is_meant:
                raise SystemExit
            return answer

        return dies

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Api, "call", dying(Api.call))
        patch.setattr(Ssh, "call", dying(Ssh.call))
        yield


def left_over(lab: Lab) -> dict[str, list[str]]:
    """Volumes by storage that no VM's configuration names."""
    seen = lab.snapshot()
    named = " ".join(text for vm in seen["vms"].values() for text in vm["config"].values())
    return {
        where: lost
        for where, volumes in seen["volumes"].items()
        if (lost := [volume for volume in volumes if volume not in named])
    }


def tags(lab: Lab) -> dict[int, str]:
    return {vmid: vm["config"].get("tags", "") for vmid, vm in lab.snapshot()["vms"].items()}


def open_writes(homelab: Homelab) -> int:
    """How many writes the journal does not know the end of."""
    (journal,) = homelab.home.glob("state/homelab/*/journal.jsonl")
    text = journal.read_text()
    return text.count('"event": "intended"') - text.count('"event": "ended"')


# --- a creation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "after"),
    [
        ("POST", "/nodes/pve3/qemu", False),
        ("POST", "/nodes/pve3/qemu", True),
        ("PUT", "/nodes/pve3/qemu/[0-9]+/resize", True),
        ("PUT", "/nodes/pve3/qemu/[0-9]+/config", False),
        ("POST", "/nodes/pve3/qemu/[0-9]+/status/start", False),
        ("POST", "/nodes/pve3/qemu/[0-9]+/status/start", True),
    ],
    ids=["before-create", "create", "resize", "before-config", "before-start", "start"],
)
def test_creation_that_was_killed_is_finished_by_the_next_run(
    lab: Lab, homelab: Homelab, via: str, method: str, path: str, after: bool
) -> None:
    with killed(method, path, after=after):
        homelab("--via", via, **NO_JOIN)
    assert nodes_with_running_vm(lab) in (["pve1", "pve2"], ["pve1", "pve2", "pve3"])

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert tags(lab) == dict.fromkeys((100, 101, 102), "homelab")
    assert left_over(lab) == {}
    assert open_writes(homelab) == 0


def cut_off_creation(lab: Lab, homelab: Homelab, via: str, **settings: str | None) -> Run:
    """The third node loses power while it copies the image into the disk of its VM, and comes back."""
    lab.look(lambda world: setattr(world.timings, "import_bytes_per_s", 100.0))
    lab.fault(
        "on", do="power-loss", method="POST", path="/nodes/pve3/qemu", command="qm create", node="pve3", seconds=9
    )
    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN, **settings)
    lab.clear_faults()
    lab.look(lambda world: setattr(world.timings, "import_bytes_per_s", 1e9))
    assert lab.snapshot()["vms"][100]["config"] == {"lock": "create"}
    assert left_over(lab) != {}
    return run


def test_creation_that_a_power_cut_stopped_is_cleared_and_made_again(lab: Lab, homelab: Homelab, via: str) -> None:
    first = cut_off_creation(lab, homelab, via)
    assert first.exit_code == 1, first.text

    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert "pve3: VM 100 was cut off in the making; it is removed" in run.err
    assert tags(lab) == {100: "homelab"}
    assert left_over(lab) == {}
    assert open_writes(homelab) == 0


def test_creation_that_a_power_cut_stopped_is_reported_where_only_the_api_answers(lab: Lab, homelab: Homelab) -> None:
    cut_off_creation(lab, homelab, "api")
    lab.fault("ssh-refused", node="pve3")

    for arguments in (["--dry-run"], []):
        run = homelab("--via", "api", *arguments, **ONLY_PVE3, **NO_JOIN)

        assert run.exit_code == 1, run.text
        assert "pve3: VM 100 was cut off in the making: an earlier run began it" in run.err
        assert "on pve3: qm unlock 100 && qm destroy 100" in run.err
        assert lab.snapshot()["vms"][100]["config"] == {"lock": "create"}
        assert list(lab.snapshot()["vms"]) == [100]

    lab.clear_faults()
    assert homelab("--via", "api", **ONLY_PVE3, **NO_JOIN).exit_code == 0
    assert tags(lab) == {100: "homelab"}


def test_dry_run_plans_as_if_what_a_power_cut_stopped_were_cleared(lab: Lab, homelab: Homelab, via: str) -> None:
    cut_off_creation(lab, homelab, via)
    before = lab.snapshot()

    run = homelab("--via", via, "--dry-run", **ONLY_PVE3, **NO_JOIN)

    assert "create" in run.out
    assert lab.snapshot() == before


def test_lock_of_somebody_elses_creation_is_left_alone(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.shell("pve3", "qm create 100 --name theirs && qm set 100 --lock create")

    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert lab.snapshot()["vms"][100]["config"]["lock"] == "create"


def test_unfinished_vm_with_the_lock_of_its_creation_is_unlocked(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("half-built")
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"qm set {vmid} --lock create")

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert tags(lab)[vmid] == "homelab"
    assert "lock" not in lab.snapshot()["vms"][vmid]["config"]


def test_unfinished_vm_cannot_be_unlocked_by_the_api_alone(lab: Lab, homelab: Homelab) -> None:
    lab.reset("half-built")
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"qm set {vmid} --lock create")
    lab.fault("ssh-refused", node="pve3")

    run = homelab("--via", "api", **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert f"VM k3s-vm-pve3 (vmid={vmid}) is not finished: it is locked (create), and stays so: SSH to node" in run.err
    assert f"on pve3: qm unlock {vmid}" in run.err


@pytest.mark.parametrize("kind", ["qmcreate", "resize", "qmstart"])
def test_creation_that_fails_leaves_no_vm_and_no_disk(lab: Lab, homelab: Homelab, via: str, kind: str) -> None:
    lab.fault("task-fails", kind=kind, node="pve3")

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2"]
    assert sorted(tags(lab)) == [100, 101]
    assert left_over(lab) == {}
    lab.clear_faults()
    assert homelab("--via", via, **NO_JOIN).exit_code == 0
    assert sorted(tags(lab)) == [100, 101, 102]


# --- a replacement -----------------------------------------------------------------------------------------------


def dress(lab: Lab) -> tuple[int, dict[str, str]]:
    """Give the VM of the third node what a replacement keeps; its VMID and settings."""
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"qm set {vmid} --description 'rack 2' --startup order=3 --tags 'homelab;homelab-agent;mine'")
    lab.shell("pve1", "pvesh create /pools --poolid lab")
    lab.shell("pve1", f"pvesh set /pools/lab --vms {vmid}")
    _, vm = vm_on(lab, "pve3")
    return vmid, dict(vm["config"])


CUTS = [
    ("DELETE", "/nodes/pve3/qemu/[0-9]+", False),
    ("DELETE", "/nodes/pve3/qemu/[0-9]+", True),
    ("POST", "/nodes/pve3/qemu", False),
    ("POST", "/nodes/pve3/qemu", True),
    ("POST", "/nodes/pve3/qemu/[0-9]+/status/start", True),
]


@pytest.mark.parametrize(
    ("method", "path", "after"), CUTS, ids=["before-destroy", "destroy", "before-create", "create", "start"]
)
def test_replacement_that_was_killed_goes_on_where_it_was(
    lab: Lab, homelab: Homelab, via: str, method: str, path: str, after: bool
) -> None:
    lab.reset("stopped")
    vmid, before = dress(lab)
    with killed(method, path, after=after):
        homelab("--via", via)

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    found, vm = vm_on(lab, "pve3")
    config = vm["config"]
    assert found == vmid
    assert uuid_of(vm) not in before["smbios1"]
    assert (config["net0"], config["startup"]) == (before["net0"], before["startup"])
    assert config["tags"] == "homelab;homelab-agent;mine"
    assert config["description"].startswith("rack 2\n\nhomelab: replaced 20")
    assert lab.look(lambda world: world.pools["lab"].vmids) == {vmid}
    assert ready_members(lab) == ALL_MEMBERS
    assert "k3s-vm-pve3" not in servers(lab)
    assert k3s(lab)["nodes"]["k3s-vm-pve3"]["uuid"] == uuid_of(vm)
    assert left_over(lab) == {}
    assert open_writes(homelab) == 0


def test_server_that_was_taken_out_of_the_cluster_and_not_deleted_yet_is_replaced_by_a_server(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("stopped-server")
    (vmid, before), *_ = lab.snapshot()["vms"].items()
    folder = memory.find_folder(homelab.home / "state" / "homelab", NODES)
    memory.make_folder(folder, NODES)
    carried = CarriedOver(vmid, uuid_of(before), role="homelab-server")
    memory.note_replacing(Journal(folder / "journal.jsonl", SteppingClock()), "k3s-vm-pve1", "pve1", carried)
    lab.shell("k3s-server", "kubectl delete node k3s-vm-pve1")
    lab.wait_until(lambda _: "k3s-vm-pve1" not in str(k3s(lab)["members"]))

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert uuids(lab)[vmid] != uuid_of(before)
    assert "k3s-vm-pve1" in servers(lab)
    assert ready_members(lab) == ALL_MEMBERS
    assert tags(lab)[vmid] == "homelab;homelab-server"


def test_replacement_that_was_given_up_is_forgotten_once_the_old_vm_runs(lab: Lab, homelab: Homelab) -> None:
    lab.reset("stopped")
    before = uuids(lab)
    with killed("DELETE", "/nodes/pve3/qemu/[0-9]+"):
        homelab(**NO_JOIN)
    lab.shell("pve3", "qm start 102")

    assert homelab(**NO_JOIN).exit_code == 0

    assert uuids(lab) == before
    (journal,) = homelab.home.glob("state/homelab/*/journal.jsonl")
    assert journal.read_text().count('"given-up"') == 1


# --- what is left on nodes ---------------------------------------------------------------------------------------


def files(lab: Lab, node: str, folder: str) -> list[str]:
    """Names in a folder of a node, hidden ones too; none where it is not there."""
    return lab.shell(node, f"ls -A {folder} 2>/dev/null || true").split()


SNIPPETS = "/var/lib/vz/snippets"


def test_snippet_of_the_first_boot_is_gone_when_every_vm_has_booted(lab: Lab, homelab: Homelab, via: str) -> None:
    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert [files(lab, node, SNIPPETS) for node in NODES] == [[], [], []]


def test_snippet_stays_while_a_vm_anywhere_names_it_and_goes_when_none_does(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.fault("join-fails", how="token-unreadable")
    homelab("--via", via, **ONLY_PVE3)
    (name,) = files(lab, "pve3", SNIPPETS)
    lab.clear_faults()
    lab.shell("pve1", f"qm create 300 --name theirs --cicustom vendor=local:snippets/{name}")

    assert homelab("--via", via, **ONLY_PVE3).exit_code == 0
    assert files(lab, "pve3", SNIPPETS) == [name]
    lab.shell("pve1", "qm set 300 --delete cicustom")
    assert homelab("--via", via, **ONLY_PVE3).exit_code == 0
    assert files(lab, "pve3", SNIPPETS) == []


def test_snippet_that_cannot_be_removed_now_is_removed_by_the_next_run(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.fault("on", do="error", command="pvesm free")

    assert homelab("--via", via, **ONLY_PVE3).exit_code == 0
    assert len(files(lab, "pve3", SNIPPETS)) == 1
    lab.clear_faults()
    assert homelab("--via", via, **ONLY_PVE3).exit_code == 0
    assert files(lab, "pve3", SNIPPETS) == []


def test_failed_creation_leaves_no_snippet(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.fault("task-fails", kind="qmstart", node="pve3")

    assert homelab("--via", via, **ONLY_PVE3, **NO_JOIN).exit_code == 1

    assert files(lab, "pve3", SNIPPETS) == []
    assert lab.snapshot()["vms"] == {}


@contextmanager
def killed_while_writing(path: str) -> Iterator[None]:
    """Whoever writes a file of that kind on a node over SSH is gone when it is written."""
    stream = remote_files._stream

    def dies(root: Root, target: str, source: Readable, timeout_s: float) -> None:
        stream(root, target, source, timeout_s)
        if re.fullmatch(path, target):
            raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote_files, "_stream", dies)
        patch.setattr(remote_files, "_remove", lambda _root, _path: None)
        yield


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        (r"/var/lib/vz/template/iso/\..*\.part", "/var/lib/vz/template/iso"),
        (rf"{SNIPPETS}/\..*\.part", SNIPPETS),
        (r"/tmp/homelab\..*", "/tmp"),
    ],
    ids=["image", "snippet", "keys"],
)
def test_file_that_a_killed_run_was_writing_is_removed(lab: Lab, homelab: Homelab, path: str, folder: str) -> None:
    with killed_while_writing(path):
        homelab("--via", "ssh", **ONLY_PVE3, **NO_JOIN)
    assert [name for name in files(lab, "pve3", folder) if name.endswith(".part") or name.startswith("homelab.")]
    lab.shell("pve3", f"touch {folder}/.mine.part {folder}/homelab.conf")

    assert homelab("--via", "ssh", **ONLY_PVE3, **NO_JOIN).exit_code == 0

    left = set(files(lab, "pve3", folder))
    assert {name for name in left if name.endswith(".part") or "homelab." in name} == {".mine.part", "homelab.conf"}
    assert tags(lab) == {100: "homelab"}


def test_disk_that_proxmox_could_not_remove_is_named(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    free = removal._free

    def fails_once(world: World, node: Node, volid: str, log: list[str]) -> None:
        if not re.fullmatch(r"local:102/vm-102-disk-0\.\w+", volid):
            free(world, node, volid, log)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(removal, "_free", fails_once)
        run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert "warning: VM k3s-vm-pve3: disks of the VM before it are left: local:102/vm-102-disk-0" in run.err
    assert "on pve3: pvesm free local:102/vm-102-disk-0" in run.err


def test_vmid_that_a_volume_on_any_storage_bears_is_not_used(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.shell("pve1", "pvesm alloc local 100 vm-100-disk-7.raw 1M && pvesm alloc local-lvm 101 vm-101-disk-7 1M")

    run = homelab("--via", via, NODE_ENABLED_2="0", NODE_ENABLED_3="0", **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert list(lab.snapshot()["vms"]) == [102]


# --- room --------------------------------------------------------------------------------------------------------


def test_disk_of_the_vm_that_is_replaced_counts_as_free_space(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    before = uuids(lab)

    def fill(world: World) -> None:
        for volume in (volume for held in world.volumes.values() for volume in held.values()):
            volume.used_bytes = 5 << 30 if "vm-102-disk" in volume.name else volume.used_bytes

    lab.look(fill)
    lab.fault("storage-full", node="pve3", storage="local")

    run = homelab("--via", via, "--dry-run", **NO_JOIN)

    assert "pve3: storage local is full" not in run.text
    assert "replace" in run.out
    assert "warning: pve3: the VM's disk may grow to" in run.err
    assert uuids(lab) == before


# --- what is not known to be so is not acted on ------------------------------------------------------------------


class Meanwhile:
    """Something that happens just before a request comes in, once."""

    def __init__(self, lab: Lab, fits: Callable[[Arrival], bool], happens: Callable[[World], None]) -> None:
        self._fits, self._happens, self._is_over = fits, happens, False
        self._lab = lab
        lab.trap(self)

    def take(self, arrival: Arrival) -> None:
        if not self._is_over and self._fits(arrival):
            self._is_over = True
            self._lab.look(self._happens)


def change_notes(world: World) -> None:
    """A person writes into the notes of the third node's VM."""
    (vm,) = (vm for vm in world.vms.values() if vm.node == "pve3")
    vm.config["description"] = "do not delete, Bob"
    configs.save(world, vm)


def test_vm_that_changes_while_it_leaves_the_cluster_is_not_deleted(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    before = uuids(lab)
    Meanwhile(lab, lambda arrival: "delete node" in arrival.command_line, change_notes)

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert "VM k3s-vm-pve3 (vmid=102) is not deleted: it has changed since it was looked at" in run.err
    assert uuids(lab) == before
    assert homelab("--via", via).exit_code == 0
    assert lab.snapshot()["vms"][102]["config"]["description"].startswith("do not delete, Bob")
    assert ready_members(lab) == ALL_MEMBERS


def test_setting_is_not_written_over_a_change_that_came_in_between(lab: Lab, homelab: Homelab, via: str) -> None:
    def takes_mark_away(arrival: Arrival) -> bool:
        is_by_api = (arrival.method, arrival.path) == ("PUT", "/nodes/pve3/qemu/100/config")
        is_by_command = arrival.command_line.startswith("qm set 100 ") and "--tags" in arrival.command_line
        return is_by_command or (is_by_api and lab.look(lambda world: world.vms[100].is_running))

    Meanwhile(lab, takes_mark_away, change_notes)

    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert "checksum mismatch" in run.err
    assert tags(lab) == {100: "homelab;homelab-unfinished"}
    assert homelab("--via", via, **ONLY_PVE3, **NO_JOIN).exit_code == 0
    assert tags(lab) == {100: "homelab"}
    assert lab.snapshot()["vms"][100]["config"]["description"] == "do not delete, Bob"


def test_what_was_begun_on_a_node_that_is_away_is_looked_after_later(lab: Lab, homelab: Homelab, via: str) -> None:
    with killed("POST", "/nodes/pve3/qemu/[0-9]+/status/start"):
        homelab("--via", via, **NO_JOIN)
    lab.fault("node-down", node="pve3")

    away = homelab("--via", via, **NO_JOIN)

    assert away.exit_code == 3, away.text
    assert "of VM 102, begun by an earlier run, is not looked after yet" in away.err
    assert open_writes(homelab) == 1
    lab.clear_faults()
    assert homelab("--via", via, **NO_JOIN).exit_code == 0
    assert open_writes(homelab) == 0
