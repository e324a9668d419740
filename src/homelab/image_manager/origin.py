"""Where the image comes from: one published checksum and one copy on this machine for the whole run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from homelab import download
from homelab.download import Beginning
from homelab.errors import HomelabError
from homelab.image_manager import medium, sums
from homelab.image_manager.places import SHOWN_DIGITS
from homelab.image_manager.progress import Progress
from homelab.image_manager.sums import Published
from homelab.runtime import Clock
from homelab.settings import ImageConfig

CURE = (
    "set ISO_URL to the publisher's cloud image, such as https://cloud-images.ubuntu.com/noble/current/"
    "noble-server-cloudimg-amd64.img, and ISO_NAME to a name that says what it is"
)


@dataclass(slots=True)
class Origin:
    """`cache` is a folder of this machine that survives runs. Where the source failed once in a run, it has failed."""

    image: ImageConfig
    cache: Path
    clock: Clock
    say: Callable[[str], None]
    _published: Published | None = None
    _local: Path | None = None
    _head: Beginning | None = None
    _failure: HomelabError | None = None
    _once: threading.RLock = field(default_factory=threading.RLock)

    @property
    def known_sha256(self) -> str:
        """The checksum, where it is known by now; else empty."""
        return self._published.sha256 if self._published else ""

    def published(self, attempts: int = download.ATTEMPTS) -> Published:
        """The checksum that the image must have: IMAGE_SHA256, or what a list says that can be believed."""
        if self._published:
            return self._published
        with self._one_at_a_time():
            self._published = self._published or self._looked_up(attempts)
            return self._published

    def _looked_up(self, attempts: int) -> Published:
        if self.image.sha256:
            return Published(self.image.sha256)
        if self.image.is_unverified:
            return Published(download.sha256_of(self._fetched(None)))
        return sums.published(self.image, self.clock, attempts)

    def check_kind(self, filename: str) -> None:
        """See by its first bytes that it is a disk image of the kind that the name says. Raises HomelabError.

        Whether this machine reaches the source does not matter here: a node may.
        """
        head = self._beginning().content
        flaw = medium.flaw_of(head, filename, goes_by_name=not filename.endswith(".img")) if head else ""
        if flaw:
            raise HomelabError(f"{self.image.url} is no usable image", flaw, CURE)

    def size_bytes(self) -> int:
        """How large the file is; 0 where this machine cannot learn it, which need not stop a node."""
        try:
            return self._beginning().total_bytes
        except HomelabError:
            return 0

    def _beginning(self) -> Beginning:
        """Looked at once, before anything is downloaded here; empty where that failed."""
        if self._head is not None:
            return self._head
        with self._one_at_a_time():
            self._head = self._looked_at() if self._head is None else self._head
            return self._head

    def _looked_at(self) -> Beginning:
        try:
            return download.first_bytes(self.image.url, medium.HEAD_BYTES)
        except download.NotNow:
            return Beginning(b"", 0)

    def local_copy(self) -> Path:
        """The image on this machine, whole and with the right checksum; downloaded if need be."""
        sha256 = self.published().sha256
        with self._one_at_a_time():
            return self._local or self._fetched(sha256)

    def _fetched(self, sha256: str | None) -> Path:
        """A copy of another checksum of this image goes, so that the cache does not grow from month to month."""
        target = self.cache / (f"{sha256[:SHOWN_DIGITS]}-{self.image.name}" if sha256 else self.image.name)
        if sha256 is None or not download.is_whole(target, sha256):
            progress = Progress(self.say, self.clock).of(f"download of {self.image.name}")
            source = download.Source(self.image.url)
            download.fetch(source, target, sha256=sha256, clock=self.clock, on_progress=progress)
            self.say(f"downloaded {self.image.url}")
            download.remove_others(target, f"{'[0-9a-f]' * SHOWN_DIGITS}-{self.image.name}", self.clock)
        self._local = target
        return target

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Where the source failed once in a run, it has failed for all nodes."""
        with self._once:
            if self._failure:
                raise self._failure
            try:
                yield
            except HomelabError as error:
                self._failure = error
                raise
