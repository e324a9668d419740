"""What a node's storages have to be like for a VM: its disk, its snippet, its VMID. Read-only."""

from __future__ import annotations

from dataclasses import dataclass

from homelab.errors import NodeFailed, Problem
from homelab.models import GIB, StorageState, VmFacts, VolumeRow
from homelab.proxmox.client import Proxmox
from homelab.settings import NodeConfig

THIN_KINDS = frozenset({"lvmthin", "zfspool", "dir", "nfs", "cifs", "btrfs", "rbd"})
"""Here a disk takes what is written to it, not what it may grow to."""
UNSEEN_IMAGE_BYTES = 4 * GIB
"""What is taken for an image that is not on the node yet: the disk in Ubuntu's holds 3.5 GiB."""
SPARE = 1.1


@dataclass(frozen=True, slots=True)
class Room:
    """`reclaimed_bytes` go with the VM before; `image_bytes` is the size of the disk in the image, 0: not seen yet."""

    reclaimed_bytes: int = 0
    image_bytes: int = 0


def reclaimed_bytes(pve: Proxmox, storage: StorageState, old: VmFacts) -> int:
    """What the disks of a VM that is to go take on a storage; where Proxmox does not say, nothing."""
    is_thin = storage.kind in THIN_KINDS
    volumes = {drive.volume for drive in old.config.drives}
    rows = pve.storage_content(old.node, storage.name, vmid=old.vmid)
    return sum(row.used_bytes if is_thin else row.size_bytes for row in rows if row.volume in volumes)


def check_storage(node: NodeConfig, storages: tuple[StorageState, ...]) -> StorageState:
    """The storage for disks; raises NodeFailed unless it exists here, is active and takes disks."""
    usable = ", ".join(s.name for s in storages if "images" in s.content and s.is_active) or "none"
    cure = f"set {node.key('IMG_STORAGE')} (or {node.key('STORAGE')}) to one of: {usable}"
    storage = next((storage for storage in storages if storage.name == node.disk_storage), None)
    if storage is None or not storage.is_enabled:
        raise NodeFailed(
            f"{node.name}: storage {node.disk_storage} is not there", f"storages for disks: {usable}", cure
        )
    if "images" not in storage.content:
        content = ", ".join(sorted(storage.content))
        what = f"{node.name}: storage {storage.name} takes no VM disks"
        raise NodeFailed(what, f"its content is {content}", f"{storage.allowing('images')}; or {cure}")
    if not storage.is_active:
        why = "Proxmox shows it as not active"
        raise NodeFailed(f"{node.name}: storage {storage.name} is not active", why, f"pvesm status; or {cure}")
    return storage


def check_space(node: NodeConfig, storage: StorageState, room: Room) -> Problem | None:
    """Raise NodeFailed unless the disk has room there.

    What is to be said where it may outgrow the storage one day; None: nothing.
    """
    is_thin = storage.kind in THIN_KINDS
    needed = int(room.image_bytes * SPARE) or UNSEEN_IMAGE_BYTES if is_thin else node.disk_bytes
    free = storage.free_bytes + room.reclaimed_bytes
    if free < needed:
        raise NodeFailed(
            f"{node.name}: storage {storage.name} is full",
            f"{needed / GIB:.1f} GiB are needed, {free / GIB:.1f} GiB are free",
            f"free some space on it, or set {node.key('IMG_STORAGE')} (or {node.key('STORAGE')}) to another",
        )
    if not is_thin or node.disk_bytes <= free:
        return None
    return Problem(
        f"{node.name}: the VM's disk may grow to {node.disk_bytes / GIB:.0f} GiB, and storage {storage.name} has "
        f"{free / GIB:.1f} GiB free",
        "a VM whose storage is full stops",
        f"set {node.key('VM_DISK_SIZE')} to less, free some space, or set {node.key('IMG_STORAGE')} to another storage",
    )


def check_vmid(pve: Proxmox, node: NodeConfig, vmid: int, storages: tuple[StorageState, ...]) -> Problem | None:
    """What is to be said where volumes of a deleted VM bear the VMID that a new one is to have."""
    names = (one.name for one in storages if takes_disks(one))
    left = [row.volume for name in names for row in volumes_of(pve, node.name, name, vmid)]
    if not left:
        return None
    free = "; ".join(f"pvesm free {volume}" for volume in left)
    return Problem(
        f"{node.name}: volumes of a deleted VM bear {node.key('VMID')}={vmid}",
        f"{', '.join(left)}; the new VM is made beside them",
        f"look at them, then on {node.name}: {free}; or set another {node.key('VMID')}",
    )


def takes_disks(storage: StorageState) -> bool:
    """Can VM disks be looked for there now?"""
    return "images" in storage.content and storage.is_active


def volumes_of(pve: Proxmox, node: str, storage: str, vmid: int) -> tuple[VolumeRow, ...]:
    """The disks of a VMID, without its backups; Proxmox' own filter also lets files through that belong to no VM."""
    rows = pve.storage_content(node, storage, vmid=vmid)
    return tuple(row for row in rows if row.vmid == vmid and row.content == "images")


def snippet_storage(node: str, storages: tuple[StorageState, ...]) -> StorageState:
    """The first that takes snippets, one of the node's own before one that others share; raises NodeFailed."""
    usable = [one for one in storages if "snippets" in one.content and one.is_active]
    if usable:
        return min(usable, key=lambda one: one.is_shared)
    folder = next((one for one in storages if one.kind == "dir"), None)
    raise NodeFailed(
        f"{node}: no storage takes snippets",
        "so the guest agent is not installed",
        folder.allowing("snippets") if folder else "pvesm set local --content iso,vztmpl,backup,snippets,import",
    )
