"""One run at a time, between machines too: a resource pool of a fixed name, its comment with an owner and an end."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from homelab.errors import HomelabError, Locked, Misunderstood, Refused, TimedOut, Undecided, Unreachable
from homelab.memory import Journal, read_stamp, stamp
from homelab.proxmox.client import Proxmox
from homelab.proxmox.recording import Record, WriteOnRecord
from homelab.runtime import Clock

POOL = "homelab-run"
MADE, REMOVED = "marked", "unmarked"
LASTS_S = 1800
RENEWED_AFTER_S = 600
COMMENT = re.compile(r"run of (?P<owner>\S+) until (?P<until>[0-9TZ:-]+)")


@dataclass(slots=True)
class RunMarker:
    """`owner` is the same for all runs from this state directory. `pve` is one whose writes are not put on record."""

    pve: Proxmox
    clock: Clock
    owner: str
    say: Callable[[str], None]
    journal: Journal
    _renewed_at: float | None = None
    _is_there: bool = False
    _is_seen: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> None:
        """Before the first write, and now and then later. Raises Locked while a run from another machine goes on.

        Where the pool cannot be made, that is said, and the run goes on without.
        """
        with self._lock:
            if self._renewed_at is None:
                self._begin()
            elif self._is_there and self.clock.now() > self._renewed_at + RENEWED_AFTER_S:
                self._renew()

    def notice(self, pools: frozenset[str]) -> None:
        """These are there. A mark among them that was not made by this run may be one that a killed run has left."""
        self._is_seen = POOL in pools

    def give_back(self) -> None:
        """At the end of a run, however it ended; also what a killed run of any machine left. Others' stay until out
        of date."""
        if not self._is_there and not self._is_seen and not self._was_left():
            return
        self._is_there = False
        with suppress(HomelabError):
            if self._is_free(self.pve.pool_comment(POOL) or ""):
                self.pve.delete_pool(POOL)
            self.journal.note(REMOVED)

    def _was_left(self) -> bool:
        """Has an earlier run from here made one, and not removed it?"""
        latest = self.journal.latest((MADE, REMOVED))
        return latest is not None and latest["event"] == MADE

    def _begin(self) -> None:
        self.journal.note(MADE)
        try:
            self._place()
            self._is_there = True
        except Locked:
            raise
        except HomelabError as error:
            self.say(f"runs from other machines at the same time are not noticed: {error}")
        self._renewed_at = self.clock.now()

    def _place(self) -> None:
        if self.pve.pool_comment(POOL) is None and self._is_made():
            self._require_to_see_it()
            return
        comment = self.pve.pool_comment(POOL) or ""
        if not self._is_free(comment):
            raise Locked(
                "another run is going on",
                f"from another machine: pool {POOL} says: {comment or '(not visible)'}",
                f"wait until it has ended; if it was killed, its mark ends by itself, or: pvesh delete /pools/{POOL}",
            )
        self.pve.set_pool_comment(POOL, self._comment())

    def _is_made(self) -> bool:
        """False where somebody was faster, or where the answer was lost and it is there now."""
        try:
            self.pve.create_pool(POOL, self._comment())
        except Refused as error:
            if "already exists" not in error.why:
                raise
            return False
        except (Undecided, Misunderstood):
            if self.pve.pool_comment(POOL) is None:
                raise
            return False
        return True

    def _require_to_see_it(self) -> None:
        """Raises Refused, and takes it away again: whoever sees no pools would take his own mark for another's."""
        if self.pve.pool_comment(POOL) is None:
            self.pve.delete_pool(POOL)
            raise Refused(
                f"pool {POOL}", "the token may make it, but not see it", "give it Pool.Audit on /pool", status=403
            )

    def _renew(self) -> None:
        """Raises Locked where another machine has taken it over: ours had gone out of date in a long wait."""
        with suppress(Refused, Unreachable, Undecided, Misunderstood, TimedOut):
            self._place()
        self._renewed_at = self.clock.now()

    def _comment(self) -> str:
        return f"homelab: run of {self.owner} until {stamp(self.clock.now() + LASTS_S)}"

    def _is_ours(self, comment: str) -> bool:
        found = COMMENT.search(comment)
        return found is not None and found["owner"] == self.owner

    def _is_free(self, comment: str) -> bool:
        """Is it of an earlier run from here, which was killed, or out of date? What cannot be read is not."""
        found = COMMENT.search(comment)
        if found is None:
            return False
        if self._is_ours(comment):
            return True
        until = read_stamp(found["until"])
        return until is not None and self.clock.now() > until


@dataclass(frozen=True, slots=True)
class MarkedRecord:
    """A record that takes the mark before the first write and keeps it during the others."""

    record: Record
    marker: RunMarker

    def begin(self, what: str, node: str, vmid: int = 0) -> WriteOnRecord:
        self.marker.take()
        return self.record.begin(what, node, vmid)
