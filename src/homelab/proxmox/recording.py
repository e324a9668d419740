"""Each write is put on record before it is sent, and its end after it is known. The record itself is another room's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from homelab.errors import HomelabError, Misunderstood, TimedOut, Undecided
from homelab.proxmox.transport import Params


class WriteOnRecord(Protocol):
    """One write on its way."""

    def sent(self, upid: str) -> None:
        """Proxmox carries it out as this task."""
        ...

    def ended(self, how: str = "done") -> None:
        """Nothing is left to look for."""
        ...


class Record(Protocol):
    """Where writes are put on record; raises HomelabError where that is not possible, and then nothing is sent."""

    def begin(self, what: str, node: str, vmid: int = 0) -> WriteOnRecord: ...


class Unrecorded:
    """For work that leaves nothing to go on with, such as reading."""

    def begin(self, _what: str, _node: str, _vmid: int = 0) -> WriteOnRecord:
        return self

    def sent(self, _upid: str) -> None:
        """Nobody asks for it later."""

    def ended(self, _how: str = "done") -> None:
        """Nobody asks for it later."""


@contextmanager
def on_record(record: Record, what: str, node: str, vmid: int = 0) -> Iterator[WriteOnRecord]:
    """The time of one write. It stays open where its end is not known: answer lost, time over, program killed."""
    write = record.begin(what, node, vmid)
    try:
        yield write
    except (Undecided, Misunderstood, TimedOut):
        raise
    except HomelabError as error:
        write.ended(type(error).__name__)
        raise
    write.ended()


def node_of(path: str) -> str:
    """The node that a request is about; empty: the whole cluster."""
    parts = path.split("/")
    return parts[2] if parts[1] == "nodes" else ""


def vmid_of(path: str, params: Params | None) -> int:
    """The VM that a request is about: in its path, or in its parameters where it is made; 0: none."""
    parts = path.split("/")
    number = parts[4] if parts[3:4] == ["qemu"] and len(parts) > 4 else str((params or {}).get("vmid", ""))
    return int(number) if number.isdigit() else 0
