"""The storage for a new VM's disk is there, takes disks, is active and has room, before anything is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from homelab.errors import NodeFailed, Problem
from homelab.models import GIB, VolumeRow
from homelab.preflight.storages import Room, check_space, check_storage, reclaimed_bytes
from homelab.proxmox.client import Proxmox
from unit.builders import STORAGE, node_config, vm

LOCAL = replace(STORAGE, name="local", kind="dir", content=frozenset({"iso", "backup"}))
TANK = replace(STORAGE, name="tank", kind="dir")


@pytest.mark.parametrize(
    ("kind", "free_gib"),
    [("zfspool", 5), ("lvmthin", 5), ("dir", 5), ("lvm", 50)],
)
def test_a_storage_with_room_is_fine_where_thin_for_the_image_else_for_the_whole_disk(kind: str, free_gib: int) -> None:
    storage = replace(STORAGE, kind=kind, free_bytes=free_gib * GIB)

    assert check_storage(node_config(), (LOCAL, storage)) == storage
    check_space(node_config(), storage, Room())


@pytest.mark.parametrize(("kind", "free_gib", "needed"), [("zfspool", 2, "4.0"), ("lvm", 49, "50.0")])
def test_a_full_storage_is_refused(kind: str, free_gib: int, needed: str) -> None:
    with pytest.raises(NodeFailed) as refusal:
        check_space(node_config(2), replace(STORAGE, kind=kind, free_bytes=free_gib * GIB), Room())

    assert refusal.value.what == "pve2: storage local-zfs is full"
    assert refusal.value.why == f"{needed} GiB are needed, {free_gib}.0 GiB are free"
    assert "IMG_STORAGE_2" in refusal.value.cure


@pytest.mark.parametrize(("kind", "held_bytes"), [("lvmthin", 5), ("lvm", 50)])
def test_only_disks_that_go_with_the_vm_are_reclaimed(kind: str, held_bytes: int) -> None:
    class Volumes:
        def storage_content(self, node: str, storage: str, *, vmid: int) -> tuple[VolumeRow, ...]:
            assert (node, storage, vmid) == ("pve1", "local-zfs", 107)
            ours = VolumeRow("local-zfs:vm-107-disk-0", "images", 50, 107, used_bytes=5)
            return ours, replace(ours, volume="local-zfs:vm-107-disk-9")

    assert reclaimed_bytes(cast(Proxmox, Volumes()), replace(STORAGE, kind=kind), vm()) == held_bytes


@pytest.mark.parametrize(("image_gib", "free_gib", "fits"), [(10, 11, True), (10, 10.9, False), (2, 2.2, True)])
def test_a_thin_storage_needs_room_for_the_disk_in_the_image_and_a_tenth_more(
    image_gib: float, free_gib: float, fits: bool
) -> None:
    storage = replace(STORAGE, free_bytes=int(free_gib * GIB) + 1)
    room = Room(image_bytes=int(image_gib * GIB))
    if fits:
        check_space(node_config(), storage, room)
    else:
        with pytest.raises(NodeFailed, match=r"storage local-zfs is full: 11\.0 GiB are needed"):
            check_space(node_config(), storage, room)


@pytest.mark.parametrize(("kind", "held_gib"), [("zfspool", 4), ("lvm", 50)])
def test_what_the_vm_before_holds_counts_as_free(kind: str, held_gib: int) -> None:
    storage = replace(STORAGE, kind=kind, free_bytes=0)

    check_space(node_config(), storage, Room(reclaimed_bytes=held_gib * GIB))
    with pytest.raises(NodeFailed, match="is full"):
        check_space(node_config(), storage, Room(reclaimed_bytes=held_gib * GIB - 1))


def test_a_disk_that_may_outgrow_a_thin_storage_is_told() -> None:
    def told(free_gib: int) -> Problem | None:
        return check_space(node_config(), replace(STORAGE, free_bytes=free_gib * GIB), Room())

    assert told(50) is None
    assert "pve1: the VM's disk may grow to 50 GiB, and storage local-zfs has 49.0 GiB free" in str(told(49))


@pytest.mark.parametrize(
    ("changes", "what", "why"),
    [
        ({"name": "local-256-gb-zfs"}, "storage local-zfs is not there", "storages for disks: local-256-gb-zfs, tank"),
        ({"is_enabled": False, "is_active": False}, "storage local-zfs is not there", "storages for disks: tank"),
        ({"content": frozenset({"iso", "backup"})}, "storage local-zfs takes no VM disks", "backup, iso"),
        ({"is_active": False}, "storage local-zfs is not active", "not active"),
    ],
    ids=["missing", "disabled", "wrong-content", "inactive"],
)
def test_a_storage_that_cannot_hold_the_disk_is_refused_with_those_that_can(
    changes: dict[str, Any], what: str, why: str
) -> None:
    with pytest.raises(NodeFailed) as refusal:
        check_storage(node_config(2), (LOCAL, replace(STORAGE, **changes), TANK))

    assert refusal.value.what == f"pve2: {what}"
    assert why in refusal.value.why
    assert "IMG_STORAGE_2" in refusal.value.cure
    assert "tank" in refusal.value.cure


def test_a_node_without_any_storage_for_disks_says_so() -> None:
    with pytest.raises(NodeFailed) as refusal:
        check_storage(node_config(), (LOCAL,))

    assert refusal.value.why == "storages for disks: none"
