"""Joins that were begun: until the VM bears its role's tag, a run that is killed leaves them for the next one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from homelab.memory.journal import Journal

BEGUN, ENDED = "joining", "joined"


@dataclass(frozen=True, slots=True)
class Joins:
    """`uuid` is the VM's system UUID: a VM made anew is another machine. `mark` tells other machines of this run."""

    journal: Journal
    mark: Callable[[], None]

    def begin(self, uuid: str, tag: str) -> None:
        """Before anything is installed; `tag` is what the VM is to bear as a member.

        Raises Locked as `mark` does, Interrupted where nothing new is to be begun.
        """
        self.journal.interruption.check()
        self.mark()
        self.journal.note(BEGUN, uuid=uuid, tag=tag)

    def end(self, uuid: str) -> None:
        """The VM bears its tag."""
        self.journal.note(ENDED, uuid=uuid)

    def tag_due(self, uuid: str) -> str:
        """The tag that is still to be written; empty: none."""
        entry = self.journal.latest((BEGUN, ENDED), uuid=uuid)
        return str(entry.get("tag", "")) if entry and entry["event"] == BEGUN else ""
