"""The journal: every write is on disk before it is sent, so that a run that is killed can be gone on with."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from typing import Any

from homelab import json_text
from homelab.errors import HomelabError
from homelab.runtime import Clock, Interruption

KEPT_S = 30 * 86_400
"""How long an entry is kept that nothing is left to do about."""
REWRITTEN_AT_BYTES = 1 << 18

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Intent:
    """A write that was begun and of which it is not known how it ended. `upid` is empty where no task is known."""

    number: int
    at: float
    node: str
    vmid: int
    what: str
    upid: str = ""


class Write:
    """One write on its way; its end is noted, and so is its task once that is known."""

    def __init__(self, journal: Journal, number: int) -> None:
        self._journal = journal
        self._number = number

    def sent(self, upid: str) -> None:
        """Proxmox carries it out as this task."""
        self._journal.note("sent", number=self._number, upid=upid)

    def ended(self, how: str = "done") -> None:
        """It is known how it came out; nothing is left to look for."""
        self._journal.note("ended", number=self._number, how=how)


class Journal:
    """Lines of JSON in one file, each flushed to disk before anything else happens. Thread-safe.

    Holds none of the configuration's secrets, since no request's parameters. What a replacement takes over stands in
    it, a person's notes on the VM too, which whoever may see the VM in Proxmox can read: so the file is its owner's
    alone. Lines that cannot be read (the last one of a killed run) count as not written.
    """

    def __init__(self, path: Path, clock: Clock, *, is_read_only: bool = False, owner: str = "") -> None:
        """Raises HomelabError where the file cannot be read. `interruption` keeps new writes from being begun.

        `owner` is what runs with this journal call themselves elsewhere.
        """
        self.owner = owner
        self._path = path
        self._clock = clock
        self._is_read_only = is_read_only
        self.interruption = Interruption()
        self._lock = threading.Lock()
        self._entries: list[Entry] = list(_read(path))
        self._last = max((one["number"] for one in self._entries if one["event"] == "intended"), default=0)
        if not is_read_only and self._is_long():
            self._rewrite()

    @property
    def is_read_only(self) -> bool:
        """Is this a dry run, which notes nothing?"""
        return self._is_read_only

    @property
    def now(self) -> float:
        """The time by which entries are noted, in Unix seconds."""
        return self._clock.now()

    def begin(self, what: str, node: str, vmid: int = 0) -> Write:
        """Note a write that is about to be sent; `vmid` is 0 where it is about no VM.

        Raises HomelabError where it cannot be noted, Interrupted where nothing new is to be begun.
        """
        self.interruption.check()
        with self._lock:
            self._last += 1
            number = self._last
        self.note("intended", number=number, what=what, node=node, vmid=vmid)
        return Write(self, number)

    def note(self, event: str, **fields: object) -> None:
        """Add an entry and have it on disk. Raises HomelabError where that fails: then nothing may be written."""
        noted = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
        entry: Entry = {"at": self._clock.now(), "event": event, **noted}
        with self._lock:
            self._entries.append(entry)
            if self._is_read_only:
                return
            try:
                _append(self._path, [entry])
            except OSError as error:
                raise _unusable(self._path, error) from error

    def unfinished(self) -> tuple[Intent, ...]:
        """Writes of earlier runs of which the end is not known, the oldest first."""
        with self._lock:
            ended = {entry["number"] for entry in self._entries if entry["event"] == "ended"}
            upids = {entry["number"]: str(entry["upid"]) for entry in self._entries if entry["event"] == "sent"}
            begun = [entry for entry in self._entries if entry["event"] == "intended" and entry["number"] not in ended]
        return tuple(
            Intent(one["number"], one["at"], one["node"], one["vmid"], one["what"], upids.get(one["number"], ""))
            for one in begun
        )

    def end(self, intent: Intent, how: str) -> None:
        """An earlier run's write has been looked after."""
        Write(self, intent.number).ended(how)

    def latest(
        self, events: Sequence[str], fits: Callable[[Entry], bool] = lambda _: True, **fields: object
    ) -> Entry | None:
        """The newest entry of one of these kinds with these fields, and that fits."""
        with self._lock:
            for entry in reversed(self._entries):
                is_meant = entry["event"] in events and all(entry.get(name) == value for name, value in fields.items())
                if is_meant and fits(entry):
                    return entry
        return None

    def is_done(self, what: str, since: float) -> bool:
        """Has a write of this kind, begun at that time or later, ended well?"""
        with self._lock:
            begun = {one["number"] for one in self._entries if one.get("what") == what and one["at"] >= since}
            return any(
                one["event"] == "ended" and one["number"] in begun and one.get("how") == "done" for one in self._entries
            )

    def _is_long(self) -> bool:
        return self._path.exists() and self._path.stat().st_size > REWRITTEN_AT_BYTES

    def _rewrite(self) -> None:
        """Drop what is old and done with, all of it or nothing."""
        since = self._clock.now() - KEPT_S
        open_numbers = {intent.number for intent in self.unfinished()}
        self._entries = [one for one in self._entries if one["at"] > since or one.get("number") in open_numbers]
        new = self._path.with_suffix(".new")
        try:
            new.unlink(missing_ok=True)
            _append(new, self._entries)
            new.replace(self._path)
        except OSError as error:
            raise _unusable(self._path, error) from error


def _append(path: Path, entries: Sequence[Entry]) -> None:
    """Have them on disk, whole. A line that was cut short stands before the newline of the next: only it is lost."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        data = "".join(f"\n{json.dumps(entry)}" for entry in entries).encode()
        if os.write(descriptor, data) < len(data):
            raise OSError(ENOSPC, os.strerror(ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> Iterator[Entry]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, error) from error
    for line in text.splitlines():
        try:
            entry = json_text.read(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and _is_sound(entry):
            yield entry


def _is_sound(entry: Entry) -> bool:
    """Does it have what its kind needs?"""
    needed: dict[str, type | tuple[type, ...]] = {"at": (int, float), "event": str}
    if entry.get("event") in ("intended", "sent", "ended"):
        needed["number"] = int
    if entry.get("event") == "intended":
        needed |= {"node": str, "vmid": int, "what": str}
    if entry.get("event") == "sent":
        needed["upid"] = str
    return all(isinstance(entry.get(name), kind) for name, kind in needed.items())


def _unusable(path: Path, error: OSError) -> HomelabError:
    return HomelabError(
        "the journal of the runs cannot be used",
        f"{path}: {error.strerror}",
        "see to that file and its directory; without it, nothing is written to Proxmox",
    )
