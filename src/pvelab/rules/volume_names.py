"""What a volume's name says, and where its node finds it."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from pvelab.answers import refused
from pvelab.formats import VOLUME_ID
from pvelab.rules import storages
from pvelab.state import Storage

FOLDERS = {
    "images": "images",
    "iso": "template/iso",
    "vztmpl": "template/cache",
    "backup": "dump",
    "snippets": "snippets",
    "import": "import",
}
NAMES = {
    "iso": re.compile(r"iso/[^/]+\.(?:iso|img)", re.I),
    "vztmpl": re.compile(r"vztmpl/[^/]+\.(?:tar\.(?:gz|xz|zst|bz2)|tgz)"),
    "backup": re.compile(r"backup/[^/]+\.(?:tgz|(?:tar|vma)(?:\.(?:gz|lzo|zst|bz2))?)"),
    "snippets": re.compile(r"snippets/[^/]+"),
    "import": re.compile(r"import/[a-zA-Z0-9\-.+=_]+\.(?:ova|ovf|qcow2|raw|vmdk)"),
}
IMAGE_NAME = re.compile(r"[^/\s]+\.(raw|qcow2|vmdk|subvol)")
BLOCK_NAME = re.compile(r"(?:vm|base)-(\d+)-\S+")
BACKED_UP = re.compile(r"vzdump-(?:openvz|lxc|qemu)-(\d+)-.")
"""How the file of a backup begins, with the VMID."""


@dataclass(frozen=True, slots=True)
class VolumeName:
    """What a volume's name says."""

    name: str
    content: str
    format: str
    vmid: int = 0
    base: str = ""


def split(volid: str) -> tuple[str, str]:
    """Storage and name of a volume id. Raises ApiError."""
    match = VOLUME_ID.fullmatch(volid)
    if not match:
        raise refused(f"unable to parse volume ID '{volid}'")
    return match[1], match[2]


def parse(storage: Storage, name: str) -> VolumeName:
    """A volume's name as the storage understands it. Raises ApiError."""
    if not storages.in_folder(storage):
        return _parse_block_name(storage, name)
    match = re.fullmatch(r"(?:(\d+/\S+)/)?(\d+)/(\S+)", name)
    if match:
        form = IMAGE_NAME.fullmatch(match[3])
        if not form:
            raise refused(f"unable to parse volume filename '{match[3]}'")
        return VolumeName(match[3], "images", form[1], int(match[2]), match[1] or "")
    for content, pattern in NAMES.items():
        if content in storage.possible and pattern.fullmatch(name):
            file = posixpath.basename(name)
            backed_up = BACKED_UP.match(file) if content == "backup" else None
            return VolumeName(file, content, file_format(content, file), int(backed_up[1]) if backed_up else 0)
    raise refused(f"unable to parse directory volume name '{name}'")


def path(storage: Storage, name: str) -> str:
    """Where the node finds a volume. Raises ApiError."""
    parsed = parse(storage, name)
    if storage.type == "zfspool":
        return f"/dev/zvol/{storage.options.get('pool', 'rpool/data')}/{parsed.name}"
    if not storages.in_folder(storage):
        return f"/dev/{storage.options.get('vgname', 'pve')}/{parsed.name}"
    below = f"images/{parsed.vmid}" if parsed.content == "images" else FOLDERS[parsed.content]
    return posixpath.join(storage.path, below, parsed.name)


def file_format(content: str, file: str) -> str:
    """The format that a listing shows for a file of that content type."""
    if content == "iso":
        return "iso"
    if content == "snippets":
        return "snippet"
    if content == "vztmpl":
        return "t" + file.rpartition(".")[2].removeprefix("t")
    return file.partition(".")[2] if content == "backup" else file.rpartition(".")[2]


def _parse_block_name(storage: Storage, name: str) -> VolumeName:
    own = name.rpartition("/")[2]
    match = BLOCK_NAME.fullmatch(own)
    if not match:
        kind = "zfs" if storage.type == "zfspool" else "lvm"
        raise refused(f"unable to parse {kind} volume name '{name}'")
    return VolumeName(own, "images", "raw", int(match[1]), name.rpartition("/")[0])
