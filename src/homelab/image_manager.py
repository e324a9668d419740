"""Brings the verified cloud image to the nodes that need it: known by checksum, fetched once, never a half file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from homelab import download
from homelab.errors import HomelabError, NodeFailed, TimedOut, Undecided, Unreachable
from homelab.models import ImageOnNode, StorageState, Wire
from homelab.proxmox.client import Proxmox
from homelab.proxmox.transport import Download, Upload
from homelab.runtime import Clock
from homelab.settings import ImageConfig, NodeConfig

EXTENSION = {"import": ".qcow2", "iso": ".img"}
RAW = ".raw"
SUMS = "SHA256SUMS"
VOUCH = "set IMAGE_SHA256 to the image's checksum, or IMAGE_UNVERIFIED=1 to use it unchecked"


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


@dataclass(slots=True)
class ImageManager:
    """One image for the whole run. `cache` is a folder of this machine that survives runs; `slots` limits transfers."""

    pve: Proxmox
    image: ImageConfig
    cache: Path
    clock: Clock
    on_fetched: Callable[[str], None]
    slots: threading.Semaphore = field(default_factory=threading.Semaphore)
    _sha256: str = ""
    _local: Path | None = None
    _failure: HomelabError | None = None
    _once: threading.RLock = field(default_factory=threading.RLock)
    _places: dict[str, threading.Lock] = field(default_factory=dict)
    _places_lock: threading.Lock = field(default_factory=threading.Lock)

    def ensure(self, node: NodeConfig) -> ImageOnNode:
        """Have the verified image on the node, and say how a VM there imports it.

        Raises HomelabError: no storage for it, source not reachable, checksum wrong, upload failed.
        """
        place = self._place(node)
        if place.content == "iso":
            self._check_root(node)
        with self._lock(place.volume if place.is_shared else f"{node.name}/{place.volume}"):
            if not self._is_there(node, place):
                with self.slots:
                    self._bring(node, place)
        size = self._disk_bytes(node, place)
        if place.content == "import" and self.pve.wire(node.name) is Wire.API:
            return ImageOnNode(place.volume, needs_root=False, disk_bytes=size)
        return ImageOnNode(self.pve.image_path(node.name, place.volume), needs_root=True, disk_bytes=size)

    def _disk_bytes(self, node: NodeConfig, place: Place) -> int:
        try:
            return self.pve.disk_bytes(node.name, place.volume)
        except HomelabError:
            return 0

    def sha256(self) -> str:
        """The checksum that the image must have: IMAGE_SHA256, or the line in SHA256SUMS beside ISO_URL."""
        if self._sha256:
            return self._sha256
        with self._source():
            if not self._sha256:
                if self.image.sha256:
                    self._sha256 = self.image.sha256
                elif self.image.is_unverified:
                    self._sha256 = download.sha256_of(self._fetch(None))
                else:
                    self._sha256 = published_sha256(self.image, self.clock)
            return self._sha256

    @contextmanager
    def _source(self) -> Iterator[None]:
        """One at a time at the image's source; where it failed once in a run, it has failed for all nodes."""
        with self._once:
            if self._failure:
                raise self._failure
            try:
                yield
            except HomelabError as error:
                self._failure = error
                raise

    # --- where it belongs ------------------------------------------------------------------------------------

    def _place(self, node: NodeConfig) -> Place:
        """Choose the storage: `import` content serves any wire; `iso` content needs root over SSH for the import."""
        storages = [storage for storage in self._candidates(node) if storage.is_active and storage.is_enabled]
        stem = f"{Path(self.image.name).stem}-{self.sha256()[:12]}"
        for content in ("iso", "import") if self.pve.wire(node.name) is Wire.SSH else ("import", "iso"):
            for storage in storages:
                if content in storage.content:
                    return Place(storage.name, content, f"{stem}{self._extension(content)}", storage.is_shared)
        usable = ", ".join(s.name for s in self.pve.storages(node.name) if s.content & set(EXTENSION)) or "none"
        raise NodeFailed(
            f"{node.name}: no storage takes the image",
            f"storages with content iso or import: {usable}",
            f"set {node.key('ISO_STORAGE')} to one of them, or allow it: pvesm set local --content iso,import,...",
        )

    def _extension(self, content: str) -> str:
        """Proxmox goes by it: what `import` content calls .qcow2 has to be that."""
        return RAW if content == "import" and self.image.name.endswith(RAW) else EXTENSION[content]

    def _check_root(self, node: NodeConfig) -> None:
        """From `iso` content only root imports; raises NodeFailed before anything is brought in vain."""
        try:
            self.pve.root(node.name)
        except Unreachable as error:
            raise NodeFailed(
                f"{node.name}: the image cannot be imported",
                f"no storage has content import, which the API needs for that; {error}",
                f"pvesm set local --content iso,vztmpl,backup,snippets,import; or {error.cure}",
            ) from error

    def _candidates(self, node: NodeConfig) -> list[StorageState]:
        """ISO_STORAGE_n alone if set; else STORAGE_n before all others."""
        storages = self.pve.storages(node.name)
        if node.image_storage:
            return [storage for storage in storages if storage.name == node.image_storage]
        return sorted(storages, key=lambda storage: (storage.name != node.storage, storage.name != "local"))

    def _lock(self, key: str) -> threading.Lock:
        with self._places_lock:
            return self._places.setdefault(key, threading.Lock())

    # --- is it there, and is it whole ------------------------------------------------------------------------

    def _is_there(self, node: NodeConfig, place: Place) -> bool:
        """The name carries the checksum; its content is hashed again on the node before it is believed."""
        rows = self.pve.storage_content(node.name, place.storage, content=place.content)
        if not any(row.volume == place.volume for row in rows):
            return False
        try:
            path = self.pve.image_path(node.name, place.volume)
            return self.pve.file_sha256(node.name, path) == self.sha256()
        except HomelabError:
            return False

    # --- bringing it -----------------------------------------------------------------------------------------

    def _bring(self, node: NodeConfig, place: Place) -> None:
        if self.pve.wire(node.name) is Wire.API and not self.image.is_unverified and self._node_fetches(node, place):
            return
        local = self._local_copy()
        upload = Upload(local, node.name, place.storage, place.content, place.filename, self.sha256())
        self.pve.upload(upload)
        self.on_fetched(f"{node.name}: image uploaded to {place.volume}")

    def _node_fetches(self, node: NodeConfig, place: Place) -> bool:
        """Let the node download it by itself, with the checksum; False where it cannot."""
        source = Download(self.image.url, node.name, place.storage, place.content, place.filename, self.sha256())
        try:
            self.pve.download_url(source)
        except (TimedOut, Undecided):
            raise
        except HomelabError:
            return False
        self.on_fetched(f"{node.name}: image downloaded by the node to {place.volume}")
        return True

    def _local_copy(self) -> Path:
        with self._source():
            return self._local or self._fetch(self.sha256())

    def _fetch(self, sha256: str | None) -> Path:
        target = self.cache / (f"{sha256[:12]}-{self.image.name}" if sha256 else self.image.name)
        if sha256 is None or not download.is_whole(target, sha256):
            download.fetch(self.image.url, target, sha256=sha256, clock=self.clock)
            self.on_fetched(f"downloaded {self.image.url}")
        self._local = target
        return target


def published_sha256(image: ImageConfig, clock: Clock) -> str:
    """The checksum of the image in the SHA256SUMS beside its URL (lines `<sha256> *<name>`)."""
    folder, _, name = image.url.rpartition("/")
    try:
        text = download.fetch_text(f"{folder}/{SUMS}", clock=clock)
    except download.NotFetched as error:
        raise HomelabError(error.what, error.why, f"{error.cure}; or {VOUCH}") from error
    for line in text.splitlines():
        checksum, _, listed = line.partition(" ")
        if listed.lstrip(" *") == name and len(checksum) == 64:
            return checksum.lower()
    raise HomelabError(
        f"no checksum for {name}",
        f"it is not listed in {folder}/{SUMS}",
        VOUCH,
    )
