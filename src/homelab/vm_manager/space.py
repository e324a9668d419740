"""Is there room on a storage for the disk of a VM? What the VM before it holds there counts as free."""

from __future__ import annotations

from dataclasses import dataclass

from homelab.errors import NodeFailed
from homelab.models import GIB, StorageState, VmFacts
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
        raise NodeFailed(f"{node.name}: storage {storage.name} takes no VM disks", f"its content is {content}", cure)
    if not storage.is_active:
        why = "Proxmox shows it as not active"
        raise NodeFailed(f"{node.name}: storage {storage.name} is not active", why, f"pvesm status; or {cure}")
    return storage


def check_space(node: NodeConfig, storage: StorageState, room: Room) -> str:
    """Raise NodeFailed unless the disk has room there.

    What is to be said where it may outgrow the storage one day; empty: nothing.
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
        return ""
    return (
        f"{node.name}: the VM's disk may grow to {node.disk_bytes / GIB:.0f} GiB, and storage {storage.name} has "
        f"{free / GIB:.1f} GiB free: a VM whose storage is full stops"
    )
