"""Stories of what runs leave on nodes: files, snippets, disks, and the room that they take."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.conftest import Homelab
from e2e.interruptions import NODES, Meanwhile, tags
from e2e.world import NO_JOIN, ONLY_PVE3, uuids
from homelab import cloud_init
from homelab.proxmox import remote_files
from homelab.proxmox.transport import Root
from homelab.shell import Readable
from pvelab.interception import Arrival
from pvelab.lab import Lab
from pvelab.rules import removal
from pvelab.state import Node, World

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
"""A node's thread that is killed says so."""


def files(lab: Lab, node: str, folder: str) -> list[str]:
    """Names in a folder of a node, hidden ones too; none where it is not there."""
    return lab.shell(node, f"ls -A {folder} 2>/dev/null || true").split()


SNIPPETS = "/var/lib/vz/snippets"
MINE = "user=local:snippets/mine.yaml"


def test_snippet_of_the_first_boot_is_gone_when_every_vm_has_booted(lab: Lab, homelab: Homelab, via: str) -> None:
    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert [files(lab, node, SNIPPETS) for node in NODES] == [[], [], []]


def test_snippet_that_another_vm_names_stays(lab: Lab, homelab: Homelab, via: str) -> None:
    name = cloud_init.snippet_name(cloud_init.vendor_data())
    lab.shell("pve3", f"qm create 300 --name theirs --cicustom vendor=local:snippets/{name}")

    assert homelab("--via", via, **ONLY_PVE3).exit_code == 0

    assert files(lab, "pve3", SNIPPETS) == [name]
    assert "cicustom" not in lab.snapshot()["vms"][100]["config"]


def test_snippet_of_our_name_that_a_power_loss_left_in_half_is_written_anew(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    name = cloud_init.snippet_name(cloud_init.vendor_data())
    lab.shell("pve3", f"mkdir -p {SNIPPETS} && printf '#cloud-config\\npackage_up' > {SNIPPETS}/{name}")

    run = homelab("--via", via, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert (
        f"warning: pve3: local:snippets/{name} holds something else than its name says, and is written anew" in run.err
    )
    assert lab.shell("k3s-vm-pve3", "systemctl is-active qemu-guest-agent") == "active\n"
    assert files(lab, "pve3", SNIPPETS) == []


def test_what_a_person_gives_a_new_vm_before_its_first_start_stays_and_the_agent_is_lost(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    def is_about_snippet(arrival: Arrival) -> bool:
        return arrival.command_line.startswith("pvesm path local:snippets/")

    lab.shell("pve3", f"mkdir -p {SNIPPETS}; printf '#cloud-config\\n' > {SNIPPETS}/mine.yaml")
    Meanwhile(lab, is_about_snippet, lambda world: world.vms[100].config.update(cicustom=MINE))

    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert lab.snapshot()["vms"][100]["config"]["cicustom"] == MINE
    assert "VM 100 on pve3 has snippets of its own: user=local:snippets/mine.yaml" in run.out


@pytest.mark.parametrize("joins", [True, False], ids=["join", "no-join"])
def test_snippet_that_cannot_be_removed_now_is_removed_by_the_next_run(
    lab: Lab, homelab: Homelab, via: str, joins: bool
) -> None:
    settings = ONLY_PVE3 if joins else {**ONLY_PVE3, **NO_JOIN}
    lab.fault("on", do="error", command="pvesm free")

    run = homelab("--via", via, **settings)

    assert run.exit_code == 3, run.text
    assert "error: VM k3s-vm-pve3 still has the snippet of its first boot: local:snippets/homelab-vendor-" in run.err
    assert len(files(lab, "pve3", SNIPPETS)) == 1
    lab.clear_faults()
    if joins:
        shutil.rmtree(homelab.home / "state")
    assert homelab("--via", via, **settings).exit_code == 0
    assert files(lab, "pve3", SNIPPETS) == []
    assert tags(lab) == {100: "homelab;homelab-agent" if joins else "homelab"}


def test_what_a_person_put_in_the_place_of_the_snippet_during_the_first_boot_stays(lab: Lab, homelab: Homelab) -> None:
    def is_about_cloud_init(arrival: Arrival) -> bool:
        return arrival.command_line.startswith("cloud-init status")

    Meanwhile(lab, is_about_cloud_init, lambda world: world.vms[100].config.update(cicustom=MINE))

    run = homelab(**ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert lab.snapshot()["vms"][100]["config"]["cicustom"] == MINE


def test_failed_creation_leaves_no_snippet(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.fault("task-fails", kind="qmstart", node="pve3")

    assert homelab("--via", via, **ONLY_PVE3, **NO_JOIN).exit_code == 1

    assert files(lab, "pve3", SNIPPETS) == []
    assert lab.snapshot()["vms"] == {}


@contextmanager
def killed_while_writing(path: str) -> Iterator[None]:
    """Whoever writes a file of that kind on a node over SSH is gone when it is written."""
    stream = remote_files._stream

    def dies(root: Root, target: str, source: Readable, timeout_s: float, *, before: str = "") -> None:
        stream(root, target, source, timeout_s, before=before)
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
        ("/run/homelab-sshkeys", "/run"),
    ],
    ids=["image", "snippet", "keys"],
)
def test_file_that_a_killed_run_was_writing_is_removed(lab: Lab, homelab: Homelab, path: str, folder: str) -> None:
    lab.fault("task-fails", kind="download")
    with killed_while_writing(path):
        homelab("--via", "ssh", **ONLY_PVE3, **NO_JOIN)
    assert [name for name in files(lab, "pve3", folder) if name.endswith(".part") or "homelab-sshkeys" in name]
    lab.shell("pve3", f"touch {folder}/.mine.part")

    assert homelab("--via", "ssh", **ONLY_PVE3, **NO_JOIN).exit_code == 0

    left = set(files(lab, "pve3", folder))
    assert {name for name in left if name.endswith(".part") or "homelab-sshkeys" in name} == {".mine.part"}
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
