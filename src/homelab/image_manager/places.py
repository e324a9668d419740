"""Where the image belongs on a node: the storage, the kind of content, the name that carries the checksum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from homelab.errors import NodeFailed, Unreachable
from homelab.models import MIB, StorageState, Wire
from homelab.proxmox.client import Proxmox
from homelab.settings import NodeConfig

EXTENSION = {"import": ".qcow2", "iso": ".img"}
RAW = ".raw"
SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Place:
    """Where the image belongs on one node."""

    storage: str
    content: str
    filename: str
    is_shared: bool

    @property
    def volume(self) -> str:
        return f"{self.storage}:{self.content}/{self.filename}"


def choose(pve: Proxmox, node: NodeConfig, there: Sequence[StorageState], name: str, sha256: str) -> Place:
    """The one of the node's storages for an image: `import` content serves any wire; `iso` needs root for the import.

    Raises NodeFailed before anything is brought in vain.
    """
    storages = [storage for storage in _candidates(node, there) if storage.is_active and storage.is_enabled]
    for content in ("iso", "import") if pve.wire(node.name) is Wire.SSH else ("import", "iso"):
        for storage in storages:
            if content in storage.content:
                filename = f"{PurePosixPath(name).stem}-{sha256[:SHOWN_DIGITS]}{_extension(name, content)}"
                place = Place(storage.name, content, filename, storage.is_shared)
                return place if content == "import" else _importable(pve, node, place)
    usable = ", ".join(s.name for s in there if s.content & set(EXTENSION)) or "none"
    folder = next((s for s in there if s.kind == "dir"), None)
    command = folder.allowing("import") if folder else "pvesm set local --content iso,import,..."
    allow = f"allow it: {command} (before 8.3: iso instead of import)"
    raise NodeFailed(
        f"{node.name}: no storage takes the image",
        f"storages with content iso or import: {usable}",
        allow if usable == "none" else f"set {node.key('ISO_STORAGE')} to one of them",
    )


def check_room(node: NodeConfig, there: Sequence[StorageState], place: Place, size_bytes: int) -> None:
    """Raise NodeFailed where the storage has no room for a file of this size (0: not known)."""
    free_bytes = next(one.free_bytes for one in there if one.name == place.storage)
    if free_bytes >= size_bytes:
        return
    raise NodeFailed(
        f"{node.name}: storage {place.storage} has no room for the image",
        f"{size_bytes / MIB:.1f} MiB are needed, {free_bytes / MIB:.1f} MiB are free",
        f"free some space on it, or set {node.key('ISO_STORAGE')} to another storage",
    )


def checksum_in(volume: str, place: Place) -> str:
    """The first digits of the checksum in the name of another image like the one at `place`; empty: it is none."""
    stem, extension = place.filename[: -len(_ending(place))], place.filename.rpartition(".")[2]
    pattern = rf"{re.escape(f'{place.storage}:{place.content}/{stem}')}([0-9a-f]{{{SHOWN_DIGITS}}})\.{extension}"
    found = re.fullmatch(pattern, volume)
    return found[1] if found and volume != place.volume else ""


def _ending(place: Place) -> str:
    """The digits of the checksum and the extension."""
    return place.filename[place.filename.rindex(".") - SHOWN_DIGITS :]


def _extension(name: str, content: str) -> str:
    """Proxmox goes by it: what `import` content calls .qcow2 has to be that."""
    return RAW if content == "import" and name.endswith(RAW) else EXTENSION[content]


def _importable(pve: Proxmox, node: NodeConfig, place: Place) -> Place:
    """From `iso` content only root imports."""
    try:
        pve.root(node.name)
    except Unreachable as error:
        raise NodeFailed(
            f"{node.name}: the image cannot be imported",
            f"no storage has content import, which the API needs for that; {error}",
            f"pvesm set local --content iso,vztmpl,backup,snippets,import; or {error.cure}",
        ) from error
    return place


def _candidates(node: NodeConfig, storages: Sequence[StorageState]) -> list[StorageState]:
    """ISO_STORAGE_n alone if set; else STORAGE_n before all others."""
    if node.image_storage:
        return [storage for storage in storages if storage.name == node.image_storage]
    return sorted(storages, key=lambda storage: (storage.name != node.storage, storage.name != "local"))
