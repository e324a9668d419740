"""Disk images as files: their format and size, and how sizes are written."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pvelab.answers import refused
from pvelab.shell.contents import CHUNK_BYTES, Content

QCOW2_MAGIC = b"QFI\xfb"
QCOW2_EMPTY_BYTES = 196_624
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What qemu-img says of a file: its format, and the size of the disk in it."""

    format: str
    size_bytes: int


class DiskImage(Content):
    """The file of a VM's disk: a true header where the format has one, then zeros."""

    __slots__ = ("_head",)

    def __init__(self, form: str, size_bytes: int, used_bytes: int) -> None:
        self._head = _qcow2_head(size_bytes) if form == "qcow2" else b""
        length = size_bytes if form == "raw" else max(used_bytes, QCOW2_EMPTY_BYTES)
        super().__init__(length, allocated_bytes=used_bytes)

    def chunks(self) -> Iterator[bytes]:
        left_bytes = self.size_bytes
        head = self._head
        while left_bytes:
            chunk = (head + bytes(CHUNK_BYTES - len(head)))[:left_bytes]
            yield chunk
            left_bytes -= len(chunk)
            head = b""


def inspect(content: Content) -> ImageFacts:
    """Format and virtual size, read from the file's own header as qemu-img does."""
    head = next(content.chunks(), b"")[:32]
    if head.startswith(QCOW2_MAGIC) and len(head) == 32:
        return ImageFacts("qcow2", int.from_bytes(head[24:32], "big"))
    return ImageFacts("raw", -(-content.size_bytes // 512) * 512)


def format_size(size_bytes: int) -> str:
    """A size as it stands in a configuration: 1G, 1536M, or bytes."""
    for unit in ("", "K", "M"):
        if size_bytes % 1024:
            return f"{size_bytes}{unit}"
        size_bytes //= 1024
    return f"{size_bytes}G"


def parse_size(text: str) -> int:
    """Bytes of a size such as 1.5G; the sign of a relative one is left out."""
    number = text.lstrip("+")
    unit = number[-1:] if number[-1:].isalpha() else ""
    if unit not in UNITS:
        raise refused(f"unable to parse size '{text}'")
    return int(float(number.removesuffix(unit)) * UNITS[unit])


def shown_size(size_bytes: int) -> str:
    """A size as progress lines show it: 64.0 MiB."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _qcow2_head(size_bytes: int) -> bytes:
    return struct.pack(">4sIQIIQ", QCOW2_MAGIC, 3, 0, 0, 16, size_bytes)
