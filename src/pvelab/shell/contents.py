"""What a file holds: bytes in memory, a real file on disk, or a hole that reads as zeros."""

from __future__ import annotations

import hashlib
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 20
IN_MEMORY_BYTES = 1 << 20


class Content(ABC):
    """Immutable data of a known size; copies of a file share it."""

    __slots__ = ("__weakref__", "_digests", "allocated_bytes", "size_bytes")

    def __init__(self, size_bytes: int, allocated_bytes: int | None = None) -> None:
        self.size_bytes = size_bytes
        self.allocated_bytes = size_bytes if allocated_bytes is None else allocated_bytes
        self._digests: dict[str, str] = {}

    @abstractmethod
    def chunks(self) -> Iterator[bytes]:
        """The data in pieces of at most CHUNK_BYTES."""

    def data(self) -> bytes:
        """The whole data at once; for files known to be small."""
        return b"".join(self.chunks())

    def digest(self, algorithm: str = "sha256") -> str:
        """The hexadecimal checksum; computed once. Reads the whole file: call it in a thread when it may be big."""
        if algorithm not in self._digests:
            total = hashlib.new(algorithm)
            for chunk in self.chunks():
                total.update(chunk)
            self._digests[algorithm] = total.hexdigest()
        return self._digests[algorithm]


class Memory(Content):
    """Bytes held in memory."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        super().__init__(len(data))
        self._data = data

    def chunks(self) -> Iterator[bytes]:
        if self._data:
            yield self._data


class OnDisk(Content):
    """A real file; if owned, it is deleted when the last file that holds it is gone."""

    __slots__ = ("path",)

    def __init__(self, path: Path, *, owned: bool) -> None:
        super().__init__(path.stat().st_size)
        self.path = path
        if owned:
            weakref.finalize(self, path.unlink, missing_ok=True)

    def chunks(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


class Hole(Content):
    """A sparse file with nothing written to it, such as a new raw disk."""

    __slots__ = ()

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes, allocated_bytes=0)

    def chunks(self) -> Iterator[bytes]:
        zeros = bytes(min(CHUNK_BYTES, self.size_bytes))
        left_bytes = self.size_bytes
        while left_bytes:
            yield zeros[:left_bytes]
            left_bytes -= min(len(zeros), left_bytes)


class Spool:
    """Collects written data, in memory at first, then in a file of its own inside folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Add data at the end."""
        self.size_bytes += len(data)
        if self._file:
            self._file.write(data)
        else:
            self._memory += data
            if len(self._memory) > IN_MEMORY_BYTES:
                self._spill()

    def finish(self) -> Content:
        """Close, and give what was written."""
        if self._file and self._path:
            self._file.close()
            return OnDisk(self._path, owned=True)
        return Memory(bytes(self._memory))

    def _spill(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as made:
            self._path = Path(made.name)
        self._file = self._path.open("wb", buffering=0)
        self._file.write(self._memory)
        self._memory.clear()
