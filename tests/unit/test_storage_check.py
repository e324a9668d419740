"""The storage for a new VM's disk is there, takes disks, is active and has room, before anything is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homelab.errors import NodeFailed
from homelab.models import GIB
from homelab.vm_manager.preparing import check_storage
from unit.builders import STORAGE, node_config

LOCAL = replace(STORAGE, name="local", kind="dir", content=frozenset({"iso", "backup"}))
TANK = replace(STORAGE, name="tank", kind="dir")


@pytest.mark.parametrize(
    ("kind", "free_gib"),
    [("zfspool", 5), ("lvmthin", 5), ("dir", 5), ("lvm", 50)],
)
def test_a_storage_with_room_is_fine_where_thin_for_the_image_else_for_the_whole_disk(kind: str, free_gib: int) -> None:
    check_storage(node_config(), (LOCAL, replace(STORAGE, kind=kind, free_bytes=free_gib * GIB)))


@pytest.mark.parametrize(
    ("changes", "what", "why"),
    [
        ({"name": "local-256-gb-zfs"}, "storage local-zfs is not there", "storages for disks: local-256-gb-zfs, tank"),
        ({"is_enabled": False, "is_active": False}, "storage local-zfs is not there", "storages for disks: tank"),
        ({"content": frozenset({"iso", "backup"})}, "storage local-zfs takes no VM disks", "backup, iso"),
        ({"is_active": False}, "storage local-zfs is not active", "not active"),
        ({"free_bytes": 2 * GIB}, "storage local-zfs is full", "4.0 GiB are needed, 2.0 GiB are free"),
        ({"kind": "lvm", "free_bytes": 49 * GIB}, "storage local-zfs is full", "50.0 GiB are needed, 49.0 GiB"),
    ],
    ids=["missing", "disabled", "wrong-content", "inactive", "full", "full-for-a-thick-disk"],
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
