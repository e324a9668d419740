"""Making a VM's disks from its options: new ones, imports, cloud-init drives, and those that exist."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from errno import ENOSPC

from pvelab.answers import refused
from pvelab.rules import drives, storages, volume_names, volumes
from pvelab.rules.drives import NEW_DISK, Drive
from pvelab.rules.images import ImageFacts, format_size, inspect, shown_size
from pvelab.rules.volumes import Log, Place
from pvelab.shell.contents import Content
from pvelab.state import GIB, Node, Volume, World

CLOUDINIT_BYTES = 4 << 20
EFI_BYTES = {"2m": 128 << 10, "4m": 528 << 10}
TPM_BYTES = 4 << 20
SECTOR_BYTES = 512
IMAGE_ENDING = re.compile(r"\.(raw|qcow2?|qed|vmdk|cloop)$")


@dataclass(frozen=True, slots=True)
class Source:
    """What is imported: a file with an image in it, or a VM's disk."""

    facts: ImageFacts
    content: Content | None
    path: str
    volid: str = ""
    drive: str = ""

    @property
    def intro(self) -> str:
        """What is said of the copy of a volume; nothing of that of a file."""
        return f"create full clone of drive {self.drive}({self.volid})" if self.volid else ""

    @property
    def needed_bytes(self) -> int:
        """How much is written when it is copied."""
        return self.content.allocated_bytes if self.content else 0


@dataclass(slots=True)
class DiskMaker:
    """Makes the disks of one VM and remembers which, so that they can be removed again."""

    world: World
    node: Node
    vmid: int
    log: Log
    made: list[tuple[Place, str]] = field(default_factory=list)

    def make(self, wanted: Mapping[str, Drive], present: Mapping[str, str]) -> dict[str, str]:
        """The options with volumes in place of wishes. Raises ApiError, with nothing left behind."""
        done: dict[str, str] = {}
        for option in sorted(wanted):
            done[option] = self._one(option, dict(wanted[option]), {**present, **done})
        return done

    def undo(self) -> None:
        """Remove what was made."""
        for place, name in reversed(self.made):
            volumes.remove(place, name, [])
        self.made.clear()

    def _one(self, option: str, drive: Drive, present: Mapping[str, str]) -> str:
        file = drive["file"]
        new = NEW_DISK.fullmatch(file)
        if file in ("none", "cdrom") or file.startswith("/dev/"):
            return drives.show(self.world, option, drive)
        if file.endswith(":cloudinit"):
            return self._cloudinit(option, file.removesuffix(":cloudinit"), present)
        if new:
            return self._new(option, drive, new[1] or "", float(new[2]))
        return self._existing(option, drive)

    def _cloudinit(self, option: str, storage: str, present: Mapping[str, str]) -> str:
        for other, text in present.items():
            if (
                other != option
                and drives.is_drive(other)
                and drives.is_cloudinit(drives.parse(self.world, other, text))
            ):
                raise refused(f"{option} - cloud-init drive is already attached at '{other}'")
        place = volumes.at(self.world, self.node, storage)
        form = volumes.default_format(place.storage, "qcow2")
        name = volumes.full_name(place, self.vmid, f"vm-{self.vmid}-cloudinit", form)
        self._allocate(place, name, CLOUDINIT_BYTES)
        return self._result(option, {"file": f"{storage}:{name}", "media": "cdrom"})

    def _new(self, option: str, drive: Drive, storage: str, size_gib: float) -> str:
        place = volumes.at(self.world, self.node, storage)
        wanted = drive.pop("format", "")
        source = self._source(drive.pop("import-from", ""))
        if source:
            volume = self._import(place, self._target_format(place, wanted, source), source)
        else:
            form = wanted or "raw"
            volume = self._allocate_next(place, form, _size_bytes(option, drive, size_gib))
            if option == "efidisk0":
                self.log.extend(transfer_lines(volume.size_bytes))
        drive["file"] = volume.volid
        drive["size"] = format_size(volume.size_bytes)
        return self._result(option, drive)

    def _import(self, place: Place, form: str, source: Source) -> Volume:
        if source.intro:
            self.log.append(source.intro)
        room = storages.room(self.world, place.storage, place.node)
        fits = source.needed_bytes <= room.available_bytes
        volume = self._allocate_next(place, form, source.facts.size_bytes, source.content if fits else None)
        if source.intro:
            self.log.append(f"allocated target volume '{volume.volid}'")
        if not fits:
            position = room.available_bytes - room.available_bytes % SECTOR_BYTES
            self.log.append(f"qemu-img: error while writing at byte {position}: {os.strerror(ENOSPC)}")
            raise refused(_copy_failed(place, volume, source))
        self.log.extend(transfer_lines(volume.size_bytes))
        return volume

    def _target_format(self, place: Place, wanted: str, source: Source) -> str:
        form = volumes.default_format(place.storage, wanted or (source.facts.format if source.volid else ""))
        if wanted and form != wanted:
            which = f"the target storage '{place.storage.name}'" if source.volid else "the target storage"
            self.log.append(f"format '{wanted}' is not supported by {which} - using '{form}' instead")
        return form

    def _source(self, text: str) -> Source | None:
        if not text:
            return None
        if text.startswith("/"):
            content = source_file(self.node, text)
            return Source(inspect(content), content, posixpath.normpath(text))
        return volume_source(self.world, self.node, text)

    def _existing(self, option: str, drive: Drive) -> str:
        storage, name = volume_names.split(drive["file"])
        place = volumes.at(self.world, self.node, storage)
        if not volumes.exists(place, name):
            raise refused(f"volume '{drive['file']}' does not exist")
        volume = volumes.find(place, name) if not drives.is_cdrom(drive) else None
        if volume:
            drive["size"] = format_size(volume.size_bytes)
        elif drives.is_cdrom(drive) and not drives.is_cloudinit(drive):
            drive["size"] = format_size(self.node.files.content(volume_names.path(place.storage, name)).size_bytes)
        return drives.show(self.world, option, drive)

    def _allocate_next(self, place: Place, form: str, size_bytes: int, origin: Content | None = None) -> Volume:
        if form not in volumes.FORMATS.get(place.storage.type, ("raw",)):
            raise refused(volumes.unsupported_format(place, form))
        return self._allocate(place, volumes.next_name(place, self.vmid, form), size_bytes, origin)

    def _allocate(self, place: Place, name: str, size_bytes: int, origin: Content | None = None) -> Volume:
        volume = volumes.allocate(place, self.vmid, name, size_bytes, self.log, origin)
        self.made.append((place, name))
        return volume

    def _result(self, option: str, drive: Drive) -> str:
        text = drives.show(self.world, option, drive)
        self.log.append(f"{option}: successfully created disk '{text}'")
        return text


def volume_source(world: World, node: Node, volid: str) -> Source:
    """An import volume, or a disk of some VM, as something to copy. Raises ApiError."""
    storage, name = volume_names.split(volid)
    place = volumes.at(world, node, storage)
    if volume_names.parse(place.storage, name).content == "images":
        volume = volumes.find(place, name)
        if volume is None:
            raise refused(f"volume '{volid}' does not exist")
        facts = ImageFacts(volume.format, volume.size_bytes)
        where = volume_names.path(place.storage, name)
        return Source(facts, volume.origin, where, volid, _drive_holding(world, volume))
    where = volume_names.path(place.storage, name)
    if not node.files.is_file(where):
        raise refused(f"failed to stat '{where}'")
    content = node.files.content(where)
    facts = inspect(content)
    if where.endswith(".qcow2") and facts.format != "qcow2":
        raise refused(f"qemu-img: Could not open '{where}': Image is not in qcow2 format")
    return Source(facts, content, where, volid)


def source_file(node: Node, path: str) -> Content:
    """A file of the node to import. Raises ApiError."""
    if not node.files.is_file(path):
        raise refused(f"{posixpath.normpath(path)}: non-existent or non-regular file")
    return node.files.content(path)


def source_bytes(world: World, node: Node, wanted: Mapping[str, Drive]) -> int:
    """How much there is to copy; 0 where the source is not there."""
    total = 0
    for drive in wanted.values():
        source = drive.get("import-from", "")
        path = source if source.startswith("/") else _volume_path(world, source)
        if path and node.files.is_file(path):
            total += node.files.content(path).allocated_bytes
    return total


def transfer_lines(size_bytes: int) -> list[str]:
    """The progress that a copy prints."""
    size = shown_size(size_bytes)
    return [f"transferred 0.0 B of {size} (0.00%)", f"transferred {size} of {size} (100.00%)"]


def _copy_failed(place: Place, volume: Volume, source: Source) -> str:
    """What is said of a copy that qemu-img broke off; the reason stands in the log."""
    words = ["/usr/bin/qemu-img", "convert", "-p", "-n"]
    if place.storage.type == "zfspool":
        words += ["-t", "none"]
    ending = IMAGE_ENDING.search(source.path)
    if source.volid or ending:
        words += ["-f", source.facts.format if source.volid or not ending else ending[1]]
    target = volume_names.path(place.storage, volume.name)
    command = " ".join([*words, "-O", volume.format, source.path, f"zeroinit:{target}"])
    origin = f"cannot import from '{source.volid}' - " if source.volid else ""
    return f"{origin}copy failed: command '{command}' failed: exit code 1"


def _volume_path(world: World, volid: str) -> str:
    if ":" not in volid:
        return ""
    storage, name = volume_names.split(volid)
    return volume_names.path(storages.find(world, storage), name)


def _size_bytes(option: str, drive: Drive, size_gib: float) -> int:
    if option == "efidisk0":
        return EFI_BYTES[drive.get("efitype", "2m")]
    if option == "tpmstate0":
        return TPM_BYTES
    return int(size_gib * GIB)


def _drive_holding(world: World, volume: Volume) -> str:
    vm = world.vms.get(volume.vmid)
    for option, drive in drives.of_config(world, vm.config if vm else {}):
        if drive["file"] == volume.volid:
            return f"{option} "
    return ""
