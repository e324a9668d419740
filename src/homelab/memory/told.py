"""What a person has been told of: a standing trouble is said once, then daily, and forgotten when it is over."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence

from homelab.memory.journal import Journal
from homelab.models import DAY_S, Matter

TOLD = "told"
EARLY_S = 1800
"""A run of the same time on the next day may begin a little earlier."""

Standing = dict[str, dict[str, float]]
"""When each matter that still stands was told last, by node and by what identifies the matter."""


def news(
    journal: Journal, matters: Sequence[Matter], looked_at: Collection[str], *, is_told: bool
) -> tuple[Matter, ...]:
    """Those of the matters that a person does not know yet; with `is_told` they are told now, and that is noted.

    `looked_at` are the nodes of which all is known that there is now: what else was told of them is over.
    Raises HomelabError where that cannot be noted.
    """
    before = _standing(journal)
    new = tuple(matter for matter in matters if _is_due(matter, before, journal.now))
    now: Standing = {node: told for node, told in before.items() if node not in looked_at}
    for matter in matters:
        told_at = before.get(matter.node, {}).get(_sameness(matter))
        if matter in new and is_told:
            told_at = journal.now
        if told_at is not None:
            now.setdefault(matter.node, {})[_sameness(matter)] = told_at
    if now != before:
        journal.note(TOLD, standing=now)
    return new


def _is_due(matter: Matter, standing: Standing, now: float) -> bool:
    told_at = standing.get(matter.node, {}).get(_sameness(matter))
    return told_at is None or (matter.is_trouble and now - told_at >= DAY_S - EARLY_S)


def _sameness(matter: Matter) -> str:
    """The same while only numbers in the text change: times, counts, sizes."""
    text = re.sub(r"\d+(?:\.\d+)?", "#", matter.text)
    return hashlib.sha256(f"{matter.node}\n{text}".encode()).hexdigest()[:16]


def _standing(journal: Journal) -> Standing:
    """As noted last; what is not understood there counts as not told."""
    entry = journal.latest((TOLD,))
    noted = entry.get("standing") if entry else None
    if not isinstance(noted, Mapping):
        return {}
    return {
        str(node): {str(what): float(when) for what, when in told.items() if isinstance(when, int | float)}
        for node, told in noted.items()
        if isinstance(told, Mapping)
    }
