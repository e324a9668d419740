"""The list of crash points that do not heal yet, each with its reason; to become empty."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

LIST = Path(__file__).with_name("not_yet.txt")
BETWEEN = " :: "


@dataclass(frozen=True, slots=True)
class NotYet:
    """Names that fit `pattern` are left out, for this reason."""

    pattern: str
    reason: str


def listed(path: Path = LIST) -> list[NotYet]:
    """The lines of the list; empty ones and those that begin with # say nothing."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [NotYet(*line.split(BETWEEN, 1)) for line in lines if line and not line.startswith("#")]


def reason_for(name: str, known: list[NotYet]) -> str:
    """Why a case is left out; empty when it is not."""
    return next((one.reason for one in known if fnmatchcase(name, one.pattern)), "")
