"""Brings the verified cloud image to the nodes that need it: known by checksum, fetched once, never a half file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from homelab.errors import HomelabError, Interrupted, NodeFailed, TimedOut, Undecided, Unreachable
from homelab.image_manager import freshness, leftovers, places
from homelab.image_manager.origin import Origin
from homelab.image_manager.places import Place
from homelab.image_manager.progress import Progress
from homelab.models import ImageOnNode, KnownImage, Plan, StorageState, Wire
from homelab.proxmox.client import Proxmox
from homelab.proxmox.transport import Download, Upload
from homelab.runtime import Clock
from homelab.settings import ImageConfig, NodeConfig

NOT_KNOWN = "0" * 64
"""Stands for a checksum that cannot be learned."""
FOR_NOTHING = (TimedOut, Undecided, Interrupted)
"""After these it is not known whether the image still comes, or nothing more is wanted: no other way is tried."""


@dataclass(slots=True)
class ImageManager:
    """One image for the whole run. `cache` is a folder of this machine that survives runs; `slots` limits transfers."""

    pve: Proxmox
    image: ImageConfig
    cache: Path
    clock: Clock
    say: Callable[[str], None]
    slots: threading.Semaphore = field(default_factory=threading.Semaphore)
    _origin: Origin = field(init=False)
    _places: dict[str, threading.Lock] = field(default_factory=dict)
    _places_lock: threading.Lock = field(default_factory=threading.Lock)
    _used: dict[str, tuple[str, Place]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._origin = Origin(self.image, self.cache, self.clock, self.say)

    def check_source(self) -> bool:
        """True; raises HomelabError unless somebody vouches for the image, or nobody has to."""
        return self.image.is_unverified or bool(self._origin.published())

    def check_place(self, node: NodeConfig, there: Sequence[StorageState]) -> Place:
        """Where the image belongs; raises HomelabError unless that has it, or has room for it and it is an image.

        Where its checksum, its kind or its size cannot be learned from here, that does not matter: a node may reach it.
        """
        sha256 = self._origin.known_sha256 or NOT_KNOWN
        place = places.choose(self.pve, node, there, self.image.name, sha256)
        rows = self.pve.storage_content(node.name, place.storage, content=place.content)
        if not any(row.volume == place.volume for row in rows):
            self._check_file(place)
            places.check_room(node, there, place, self._origin.size_bytes())
        return place

    def _check_file(self, place: Place) -> None:
        try:
            self._origin.check_kind(place.filename)
        except HomelabError as error:
            raise NodeFailed(error.what, error.why, error.cure) from error

    def size_bytes(self) -> int:
        """How large the file of the image is; 0 where this machine cannot learn it."""
        return self._origin.size_bytes()

    def note_age(self, plan: Plan, *, is_dry_run: bool) -> Plan:
        """The plan with a note on each VM that was made from another image than the one that is published now.

        Only runs that need the image ask its source, and dry runs: a run that has nothing to do does not.
        """
        if self.image.is_unverified or not (is_dry_run or any(node.makes_vm for node in plan.nodes)):
            return plan
        try:
            return freshness.noted(plan, self._origin.published(1))
        except HomelabError:
            return plan

    def ensure(self, node: NodeConfig) -> ImageOnNode:
        """Have the verified image on the node, and say how a VM there imports it.

        Raises HomelabError: no storage for it, source not reachable, checksum wrong, upload failed.
        """
        published = self._origin.published()
        there = self.pve.storages(node.name)
        place = places.choose(self.pve, node, there, self.image.name, published.sha256)
        with self._lock(place.volume if place.is_shared else f"{node.name}/{place.volume}"):
            if not self._is_there(node, place):
                with self.slots:
                    self._bring(node, place)
            self._used[place.volume if place.is_shared else node.name] = (node.name, place)
        known = KnownImage(published.sha256, published.at)
        size = self._disk_bytes(node, place)
        if place.content == "import" and self.pve.wire(node.name) is Wire.API:
            return ImageOnNode(place.volume, needs_root=False, disk_bytes=size, known=known)
        path = self.pve.image_path(node.name, place.volume)
        return ImageOnNode(path, needs_root=True, disk_bytes=size, known=known)

    def tidy(self) -> None:
        """At the end: take away the images of before where this run used another one, and nobody needs them."""
        for node, place in self._used.values():
            for volume in leftovers.remove_older(self.pve, node, place):
                self.say(f"{node}: {volume}, an image of before, is removed")

    def _disk_bytes(self, node: NodeConfig, place: Place) -> int:
        try:
            return self.pve.disk_bytes(node.name, place.volume)
        except HomelabError:
            return 0

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
            return self.pve.file_sha256(node.name, path) == self._origin.published().sha256
        except HomelabError:
            return False

    # --- bringing it -----------------------------------------------------------------------------------------

    def _bring(self, node: NodeConfig, place: Place) -> None:
        """By the node's own download with the checksum, else by an upload, else by a copy over SSH."""
        self._origin.check_kind(place.filename)
        if not self.image.is_unverified and self._node_fetches(node, place):
            return
        progress = Progress(self.say, self.clock).of(f"{node.name}: upload of {self.image.name}")
        upload = Upload(
            self._origin.local_copy(),
            node.name,
            place.storage,
            place.content,
            place.filename,
            self._origin.published().sha256,
            progress,
        )
        try:
            self.pve.upload(upload)
        except FOR_NOTHING:
            raise
        except HomelabError as refused:
            if self.pve.wire(node.name) is Wire.SSH:
                raise
            self._copy(upload, refused)
        self.say(f"{node.name}: image uploaded to {place.volume}")

    def _copy(self, upload: Upload, refused: HomelabError) -> None:
        """Raises why the upload was refused, where SSH does not answer."""
        try:
            self.pve.copy(upload)
        except Unreachable:
            raise refused from None

    def _node_fetches(self, node: NodeConfig, place: Place) -> bool:
        """Let the node download it by itself, with the checksum; False where it cannot.

        Over SSH the command would wait for a server that does not answer as long as wget does, so it is asked first.
        """
        if self.pve.wire(node.name) is Wire.SSH and not self.pve.reaches(node.name, self.image.url):
            return False
        sha256 = self._origin.published().sha256
        source = Download(self.image.url, node.name, place.storage, place.content, place.filename, sha256)
        try:
            self.pve.download_url(source)
        except FOR_NOTHING:
            raise
        except HomelabError:
            return False
        self.say(f"{node.name}: image downloaded by the node to {place.volume}")
        return True
