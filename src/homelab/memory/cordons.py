"""Nodes that a run has cordoned to drain them: where it was killed meanwhile, the next one lets pods there again."""

from __future__ import annotations

from dataclasses import dataclass

from homelab.memory.journal import Journal

BEGUN, ENDED = "cordoned", "uncordoned"


@dataclass(frozen=True, slots=True)
class Cordons:
    """`uuid` is the machine's system UUID."""

    journal: Journal

    def begin(self, uuid: str) -> None:
        """Before a Node is cordoned that no person had cordoned."""
        self.journal.note(BEGUN, uuid=uuid)

    def end(self, uuid: str) -> None:
        """It takes pods again."""
        self.journal.note(ENDED, uuid=uuid)

    def is_open(self, uuid: str) -> bool:
        """Was it cordoned by a run, and not given back since?"""
        entry = self.journal.latest((BEGUN, ENDED), uuid=uuid)
        return entry is not None and entry["event"] == BEGUN
