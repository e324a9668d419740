"""Storages: /etc/pve/storage.cfg, which nodes have them, and how full they are."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from pvelab.answers import refused
from pvelab.shell.entries import Folder
from pvelab.shell.files import Mounted
from pvelab.state import Capacity, Node, Storage, World

CONFIG = "/storage.cfg"
FOLDER_TYPES = ("dir", "nfs", "cifs", "btrfs", "cephfs")
SHARED_TYPES = ("nfs", "cifs", "cephfs", "rbd", "pbs", "iscsi")
_BLOCKS = frozenset({"images", "rootdir"})
_FILES = frozenset({"vztmpl", "iso", "backup", "snippets", "import"})
CONTENT_TYPES = {
    "dir": _BLOCKS | _FILES | {"none"},
    "btrfs": _BLOCKS | _FILES | {"none"},
    "nfs": _BLOCKS | _FILES,
    "cifs": _BLOCKS | _FILES,
    "cephfs": _FILES,
}
"""What a type of storage may hold; those not listed hold disks only."""
RELEASE_BEFORE_IMPORT = "8.2"
FLAGS = ("disable", "shared", "sparse")


@dataclass(frozen=True, slots=True)
class Room:
    """How full a storage is."""

    total_bytes: int
    used_bytes: int

    @property
    def available_bytes(self) -> int:
        """What is left."""
        return max(0, self.total_bytes - self.used_bytes)


def all_storages(world: World) -> dict[str, Storage]:
    """Every storage of storage.cfg by name, in the order of the file."""
    text = world.pve.read(CONFIG).decode() if world.pve.is_file(CONFIG) else ""
    return parse(text, world.profile.release)


def parse(text: str, release: str) -> dict[str, Storage]:
    """storage.cfg as storages."""
    found: dict[str, Storage] = {}
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
        if not lines or ":" not in lines[0]:
            continue
        kind, _, name = lines[0].partition(":")
        options = dict(_option(line) for line in lines[1:])
        found[name.strip()] = from_options(name.strip(), kind.strip(), options, release)
    return found


def from_options(name: str, kind: str, options: dict[str, str], release: str) -> Storage:
    """A storage as its section says; content types that its type does not have are left out."""
    possible = CONTENT_TYPES.get(kind, _BLOCKS) - ({"import"} if release == RELEASE_BEFORE_IMPORT else set())
    return Storage(
        name=name,
        type=kind,
        path=options.get("path", f"/mnt/pve/{name}" if kind in SHARED_TYPES else ""),
        content=tuple(one for one in options.get("content", "images,rootdir").split(",") if one in possible),
        possible=possible,
        nodes=frozenset(filter(None, options.get("nodes", "").split(","))),
        is_disabled=options.get("disable", "0") != "0",
        is_shared=kind in SHARED_TYPES or options.get("shared", "0") != "0",
        options=options,
    )


def write(world: World, storages: Iterable[Storage]) -> None:
    """Put storage.cfg in place."""
    world.pve.provide(CONFIG, "\n".join(_section(storage) for storage in storages).encode(), mode=0o640)


def find(world: World, name: str) -> Storage:
    """The storage of that name. Raises ApiError."""
    storage = all_storages(world).get(name)
    if storage is None:
        raise refused(f"storage '{name}' does not exist")
    return storage


def usable(world: World, name: str, node: Node) -> Storage:
    """The storage, if it is enabled and on that node. Raises ApiError."""
    storage = find(world, name)
    if storage.is_disabled:
        raise refused(f"storage '{name}' is disabled")
    if not is_on(storage, node):
        raise refused(f"storage '{name}' is not available on node '{node.hostname}'")
    if name in world.offline_storages:
        raise refused(f"storage '{name}' is not online")
    _mount_share(world, storage, node)
    return storage


def is_on(storage: Storage, node: Node) -> bool:
    """Is the storage meant for that node?"""
    return not storage.nodes or node.hostname in storage.nodes


def in_folder(storage: Storage) -> bool:
    """Does it keep its volumes as files?"""
    return storage.type in FOLDER_TYPES


def key(storage: Storage, node: Node) -> tuple[str, str]:
    """Where the world keeps its volumes and capacity: shared ones once, others per node."""
    return ("" if storage.is_shared else node.hostname, storage.name)


def room(world: World, storage: Storage, node: Node) -> Room:
    """How full it is on that node."""
    if in_folder(storage):
        _mount_share(world, storage, node)
        usage = node.files.usage(storage.path)
        return Room(usage.total_bytes, usage.used_bytes)
    capacity = world.capacities.setdefault(key(storage, node), Capacity())
    volumes = world.volumes.get(key(storage, node), {}).values()
    held = sum(volume.size_bytes if is_thick(storage) else volume.used_bytes for volume in volumes)
    return Room(capacity.total_bytes, min(capacity.total_bytes, capacity.other_bytes + held))


def is_thick(storage: Storage) -> bool:
    """Does a new volume take its whole size at once?"""
    return storage.type == "lvm" or (storage.type == "zfspool" and storage.options.get("sparse", "0") == "0")


def _mount_share(world: World, storage: Storage, node: Node) -> None:
    """Every node sees the same files of a shared storage, on a file system of its own."""
    if not (storage.is_shared and in_folder(storage)):
        return
    if storage.name not in world.shares:
        world.shares[storage.name] = Folder("root", 0o755, world.clock.now())
    share = world.shares[storage.name]
    if any(one.point == storage.path for one in node.files.mounted):
        return
    node.files.make_folder(storage.path, parents=True)
    above = node.files.entry(posixpath.dirname(storage.path))
    if isinstance(above, Folder):
        above.children[posixpath.basename(storage.path)] = share
    device = f"{storage.options.get('server', '')}:{storage.options.get('export', '')}"
    node.files.mounted.append(Mounted(device, storage.type, storage.path, Capacity().total_bytes))


def _option(line: str) -> tuple[str, str]:
    name, _, value = line.strip().partition(" ")
    return name, value.strip() or ("1" if name in FLAGS else "")


def _section(storage: Storage) -> str:
    lines = [f"{storage.type}: {storage.name}"]
    for name, value in storage.options.items():
        lines.append(f"\t{name}" if name == "disable" else f"\t{name} {value}")
    return "\n".join(lines) + "\n"
