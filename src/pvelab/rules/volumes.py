"""Volumes of a storage on a node: their files, sizes, allocation and removal."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pvelab.answers import refused
from pvelab.rules import storages, volume_names
from pvelab.rules.images import DiskImage, inspect
from pvelab.shell.contents import Content
from pvelab.state import Node, Storage, Volume, World

LISTED_WITHOUT_OWNER = ("import", "snippets")
METADATA_BYTES = 65_536
SIZE_UNITS = {"lvm": 4 << 20, "lvmthin": 4 << 20, "zfspool": 1 << 20}
"""Block storages give out whole extents."""
NUMBERED_BY_FORMAT = ("nfs", "cifs")
"""Here a raw and a qcow2 disk of a VM may have the same number."""
REFUSED_AT = {
    "lvmthin": ("LvmThinPlugin", {"9": 102, "8.4": 89, "8.2": 87}),
    "zfspool": ("ZFSPoolPlugin", {"9": 292, "8.4": 240, "8.2": 238}),
    "lvm": ("LVMPlugin", {"9": 696, "8.4": 429, "8.2": 366}),
}
"""The line of Proxmox's source that refuses a format, by release."""
FORMATS = {"dir": ("raw", "qcow2", "vmdk"), "nfs": ("raw", "qcow2", "vmdk"), "cifs": ("raw", "qcow2", "vmdk")}

Log = list[str]


@dataclass(frozen=True, slots=True)
class Place:
    """A storage as one node sees it."""

    world: World
    node: Node
    storage: Storage

    @property
    def volumes(self) -> dict[str, Volume]:
        """The disk images it holds, by name."""
        return self.world.volumes.setdefault(storages.key(self.storage, self.node), {})


@dataclass(frozen=True, slots=True)
class Listed:
    """One volume of a listing."""

    volid: str
    content: str
    format: str
    size_bytes: int
    created_at: float
    vmid: int = 0
    used_bytes: int = 0
    parent: str = ""


def at(world: World, node: Node, name: str) -> Place:
    """A storage that is enabled and on the node. Raises ApiError."""
    return Place(world, node, storages.usable(world, name, node))


def find(place: Place, name: str) -> Volume | None:
    """The disk image of that name, if it is there."""
    _notice_files(place)
    return place.volumes.get(name)


def held(world: World, node: Node, volid: str) -> tuple[Place, Volume]:
    """The disk image of that id, and the storage where it is. Raises ApiError."""
    storage, name = volume_names.split(volid)
    place = at(world, node, storage)
    if volume := find(place, name):
        return place, volume
    raise refused(f"volume '{volid}' does not exist")


def exists(place: Place, name: str) -> bool:
    """Is there a volume of that name?"""
    if volume_names.parse(place.storage, name).content == "images":
        return find(place, name) is not None
    return place.node.files.is_file(volume_names.path(place.storage, name))


def require(world: World, node: Node, volid: str) -> None:
    """Refuse unless the volume is there."""
    storage, name = volume_names.split(volid)
    if not exists(at(world, node, storage), name):
        raise refused(f"volume '{volid}' does not exist")


def listing(place: Place, vmid: int = 0) -> Iterator[Listed]:
    """All volumes of the content types that the storage is for; with vmid, what that VM may use."""
    _notice_files(place)
    prefix = f"{place.storage.name}:"
    for name, volume in sorted(place.volumes.items()):
        if not vmid or volume.vmid == vmid:
            yield Listed(
                prefix + name, "images", volume.format, volume.size_bytes, volume.created_at,
                volume.vmid, volume.used_bytes, volume.parent,
            )  # fmt: skip
    if storages.in_folder(place.storage):
        for content in place.storage.content:
            if content in volume_names.NAMES and (not vmid or content in LISTED_WITHOUT_OWNER):
                yield from _files(place, content)


def next_name(place: Place, vmid: int, form: str) -> str:
    """The name with the lowest free number for a new disk of a VM."""
    _notice_files(place)
    ending = re.escape(f".{form}") if place.storage.type in NUMBERED_BY_FORMAT else ""
    pattern = re.compile(rf"(?:vm|base|subvol|basevol)-{vmid}-disk-(\d+){ending}")
    taken = {int(found[1]) for name in place.volumes if (found := pattern.match(posixpath.basename(name)))}
    number = next(n for n in range(len(taken) + 1) if n not in taken)
    return full_name(place, vmid, f"vm-{vmid}-disk-{number}", form)


def full_name(place: Place, vmid: int, stem: str, form: str) -> str:
    """A volume's name as the storage writes it: with folder and ending only where it keeps files."""
    return f"{vmid}/{stem}.{form}" if storages.in_folder(place.storage) else stem


def default_format(storage: Storage, wanted: str = "") -> str:
    """The wanted format where the storage has it, else its own."""
    return wanted if wanted in FORMATS.get(storage.type, ("raw",)) else "raw"


def unsupported_format(place: Place, form: str) -> str:
    """How a storage refuses the format of a new disk."""
    text = f"unsupported format '{form}'"
    if place.storage.type not in REFUSED_AT:
        return text
    module, lines = REFUSED_AT[place.storage.type]
    line = next(line for release, line in lines.items() if place.world.profile.release.startswith(release))
    return f"{text} at /usr/share/perl5/PVE/Storage/{module}.pm line {line}."


def allocate(place: Place, vmid: int, name: str, size_bytes: int, log: Log, origin: Content | None = None) -> Volume:
    """Make a disk image of that name. Raises ApiError: name taken, format not possible, no space."""
    form = volume_names.parse(place.storage, name).format
    unit = SIZE_UNITS.get(place.storage.type, 1)
    size_bytes = -(-size_bytes // unit) * unit
    volume = Volume(place.storage.name, name, form, size_bytes, vmid, place.world.clock.now(), origin=origin)
    volume.used_bytes = _used_bytes(volume)
    where = volume_names.path(place.storage, name)
    if exists(place, name):
        raise refused(_taken_text(place.storage, where, name))
    if storages.in_folder(place.storage):
        _write_file(place, volume, where)
        log.append(f"Formatting '{where}', {creation_options(form, size_bytes)}")
    else:
        _reserve(place, volume)
        if place.storage.type in ("lvm", "lvmthin"):
            log.append(f'  Logical volume "{name}" created.')
    place.volumes[name] = volume
    return volume


def resize(place: Place, volume: Volume, size_bytes: int, log: Log) -> None:
    """Give a disk image its new size. Raises ApiError without space or on a template's disk."""
    where = volume_names.path(place.storage, volume.name)
    if volume.is_base and storages.in_folder(place.storage):
        log.append(f"qemu-img: Could not open '{where}': Could not open '{where}': Operation not permitted")
        command = f"/usr/bin/qemu-img resize '--preallocation=off' -f {volume.format} {where} {size_bytes}"
        raise refused(f"command '{command}' failed: exit code 1")
    if storages.is_thick(place.storage):
        _need_space(place, size_bytes - volume.size_bytes, volume.name)
    volume.size_bytes = size_bytes
    if storages.in_folder(place.storage):
        _write_file(place, volume, where)
        log.append("Image resized.")
    elif place.storage.type in ("lvm", "lvmthin"):
        log.append(f"  Logical volume {place.storage.options.get('vgname', 'pve')}/{volume.name} successfully resized.")


def remove(place: Place, name: str, log: Log) -> None:
    """Remove a volume; one that is not there is no error for a storage in a folder. Raises ApiError."""
    parsed = volume_names.parse(place.storage, name)
    where = volume_names.path(place.storage, name)
    if parsed.content == "images":
        _remove_image(place, name, where, log)
    elif place.node.files.is_file(where):
        place.node.files.remove(where)


def rename(place: Place, volume: Volume, name: str) -> None:
    """Give a disk image another name, as a template's disks get."""
    if storages.in_folder(place.storage):
        place.node.files.rename(volume_names.path(place.storage, volume.name), volume_names.path(place.storage, name))
    del place.volumes[volume.name]
    volume.name = name
    place.volumes[name] = volume


def creation_options(form: str, size_bytes: int) -> str:
    """What qemu-img says of the image it makes."""
    if form == "vmdk":
        return f"fmt=vmdk size={size_bytes} compat6=off hwversion=undefined"
    if form == "qcow2":
        return (
            "fmt=qcow2 cluster_size=65536 extended_l2=off preallocation=metadata compression_type=zlib"
            f" size={size_bytes} lazy_refcounts=off refcount_bits=16"
        )
    return f"fmt={form} size={size_bytes} preallocation=off"


def _files(place: Place, content: str) -> Iterator[Listed]:
    folder = posixpath.join(place.storage.path, volume_names.FOLDERS[content])
    if not place.node.files.is_folder(folder):
        return
    for file in place.node.files.names(folder):
        where = posixpath.join(folder, file)
        if place.node.files.is_file(where) and volume_names.NAMES[content].fullmatch(f"{content}/{file}"):
            yield Listed(
                volid=f"{place.storage.name}:{content}/{file}",
                content=content,
                format=volume_names.file_format(content, file),
                size_bytes=place.node.files.content(where).size_bytes,
                created_at=place.node.files.entry(where).modified,
            )


def _notice_files(place: Place) -> None:
    """Take account of images that were put or removed behind Proxmox's back, through the shell."""
    if not storages.in_folder(place.storage):
        return
    files = place.node.files
    for name in [name for name in place.volumes if not files.is_file(volume_names.path(place.storage, name))]:
        del place.volumes[name]
    folder = posixpath.join(place.storage.path, "images")
    owners = [one for one in files.names(folder) if one.isdigit()] if files.is_folder(folder) else []
    known = {posixpath.join(str(volume.vmid), posixpath.basename(name)) for name, volume in place.volumes.items()}
    for owner in owners:
        for file in files.names(posixpath.join(folder, owner)):
            if volume_names.IMAGE_NAME.fullmatch(file) and f"{owner}/{file}" not in known:
                _adopt(place, int(owner), file)


def _adopt(place: Place, vmid: int, file: str) -> None:
    where = posixpath.join(place.storage.path, "images", str(vmid), file)
    content = place.node.files.content(where)
    facts = inspect(content)
    created_at = place.node.files.entry(where).modified
    name = f"{vmid}/{file}"
    volume = Volume(place.storage.name, name, facts.format, facts.size_bytes, vmid, created_at, origin=content)
    volume.used_bytes = content.allocated_bytes
    place.volumes[name] = volume


def _used_bytes(volume: Volume) -> int:
    copied = volume.origin.allocated_bytes if volume.origin else 0
    return max(copied, METADATA_BYTES if volume.format == "qcow2" else 0)


def _write_file(place: Place, volume: Volume, where: str) -> None:
    try:
        place.node.files.make_folder(posixpath.dirname(where), parents=True)
        place.node.files.write(where, DiskImage(volume.format, volume.size_bytes, volume.used_bytes), mode=0o640)
    except OSError as error:
        raise refused(f"unable to create image: qemu-img: {where}: Could not write: {error.strerror}") from error


def _reserve(place: Place, volume: Volume) -> None:
    """A thin volume needs no more than that its pool is not full."""
    needed = volume.size_bytes if storages.is_thick(place.storage) else max(1, volume.used_bytes)
    _need_space(place, needed, volume.name)


def _need_space(place: Place, needed_bytes: int, name: str) -> None:
    if needed_bytes <= storages.room(place.world, place.storage, place.node).available_bytes:
        return
    options = place.storage.options
    if place.storage.type == "zfspool":
        raise refused(f"zfs error: cannot create '{options.get('pool', 'rpool/data')}/{name}': out of space")
    group = options.get("vgname", "pve")
    if place.storage.type == "lvm":
        text = f'Volume group "{group}" has insufficient free space'
    else:
        pool = f"{group}/{options.get('thinpool', 'data')}"
        text = f"Cannot create new thin volume, free space in thin pool {pool} reached threshold."
    raise refused(f"lvcreate '{group}/{name}' error:   {text}")


def _taken_text(storage: Storage, where: str, name: str) -> str:
    if storages.in_folder(storage):
        return f"disk image '{where}' already exists"
    if storage.type == "zfspool":
        return f"zfs error: cannot create '{storage.options.get('pool', 'rpool/data')}/{name}': dataset already exists"
    group = storage.options.get("vgname", "pve")
    return f'lvcreate \'{group}/{name}\' error:   Logical Volume "{name}" already exists in volume group "{group}"'


def _remove_image(place: Place, name: str, where: str, log: Log) -> None:
    volume = find(place, name)
    clones = [one for one in place.volumes.values() if one.parent and one.name.startswith(f"{name}/")]
    if clones:
        raise refused(f"base volume '{name}' is still in use by linked clones")
    if volume is None:
        if place.storage.type == "lvm":
            group = place.storage.options.get("vgname", "pve")
            raise refused(f"lvremove '{group}/{name}' error:   Failed to find logical volume \"{group}/{name}\"")
        if storages.in_folder(place.storage):
            log.append(f"disk image '{where}' does not exist")
        return
    del place.volumes[name]
    if storages.in_folder(place.storage):
        place.node.files.remove(where)
        folder = posixpath.dirname(where)
        if not place.node.files.names(folder):
            place.node.files.remove_folder(folder)
    elif place.storage.type in ("lvm", "lvmthin"):
        log.append(f'  Logical volume "{name}" successfully removed.')
