"""Answers that nobody can understand, made of those that the lab gives."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from crash.arena import Arena
from crash.mishaps import LONGEST_LAB_S, Kind, Told, kind_of, machines, wrong
from pvelab.interception import Arrival
from pvelab.state import Action

HUGE = 3_000_000
WHOLE: dict[str, Callable[[bytes], bytes]] = {
    "a web page": lambda _: b"<!DOCTYPE html><html><body><h1>It works!</h1></body></html>",
    "nothing": lambda _: b"",
    "null": lambda _: b"null",
    "no object": lambda _: b"[[]]",
    "a text": lambda _: b'"yes"',
    "huge": lambda _: b"x" * HUGE,
    "no UTF-8": lambda answer: answer[:20] + b"\xff\xfe\x80" + answer[20:],
    "deep": lambda _: b"[" * 50_000,
    "twice": lambda answer: answer + answer,
    "noise before": lambda answer: b"perl: warning: Setting locale failed.\n\x00" + answer,
}
ODD: tuple[Any, ...] = (
    None,
    [],
    {},
    [[1]],
    {"a": {}},
    "",
    "-",
    "x" * 100_000,
    -1,
    1e300,
    True,
    "1e9",
    "\u0000",
    "\ud800",
)
"""What stands in the place of a value; some of it is of the right type, and senseless."""


@dataclass(frozen=True, slots=True)
class Garbled:
    """What is done to an answer: a way for all of it, or an odd value at a place, or a place that is missing."""

    whole: str = ""
    place: int = 0
    odd: int = -1

    def __call__(self, answer: bytes) -> bytes:
        if self.whole:
            return WHOLE[self.whole](answer)
        try:
            document = json.loads(answer)
        except ValueError:
            return self._in_text(answer)
        root = {"": document}
        places = list(_places(root))
        holder, key = places[self.place % len(places)]
        if self.odd < 0:
            del holder[key]
        else:
            holder[key] = ODD[self.odd]
        return json.dumps(root.get("")).encode("utf-8", "surrogatepass")

    def _in_text(self, answer: bytes) -> bytes:
        """A word is another, or missing."""
        words = answer.split(b" ")
        words[self.place % len(words)] = b"" if self.odd < 0 else str(ODD[self.odd]).encode("utf-8", "surrogatepass")
        return b" ".join(words)

    def __str__(self) -> str:
        return self.whole or f"place {self.place} {'missing' if self.odd < 0 else f'odd {self.odd}'}"

    @staticmethod
    def drawn(chance: Random) -> Garbled:
        """One in four is wrong as a whole."""
        if chance.random() < 0.25:
            return Garbled(chance.choice(sorted(WHOLE)))
        return Garbled("", chance.randrange(10_000), chance.randrange(-1, len(ODD)))


@dataclass(slots=True)
class Garbler:
    """Garbles the answers to a kind of request, `times` of them or with 0 all; whatever else is asked goes its way."""

    kind: Kind
    garbled: Garbled
    times: int
    hit: int = field(default=0)

    def take(self, arrival: Arrival) -> Action | None:
        """As the lab's traps."""
        if kind_of(arrival) != self.kind or (self.times and self.hit >= self.times):
            return None
        self.hit += 1
        return Action("altered", alter=self.garbled)

    def __str__(self) -> str:
        return f"{'once' if self.times else 'always'} at {self.kind}: {self.garbled}"


def endure(arena: Arena, told: Told, garbler: Garbler) -> Iterator[str]:
    """Tell a story once with such answers; what was not as it has to be."""
    told.story.begin(arena)
    before = machines(arena)
    arena.lab.trap(garbler)
    run = told.story.run(arena, told.via)
    arena.lab.clear_faults()
    after = machines(arena)
    yield from wrong(run)
    yield from (f"{count} VMs are called {name}" for name, count in Counter(after.values()).items() if count > 1)
    yield from (f"{before[uuid]} was deleted" for uuid in set(before) - set(after) - told.deleted)
    if run.lab_s > LONGEST_LAB_S:
        yield f"it took {run.lab_s / 3600:.1f} h"


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document, as what holds it and where it is there."""
    if isinstance(value, dict):
        for key, one in list(value.items()):
            yield value, key
            yield from _places(one)
    elif isinstance(value, list):
        for number, one in list(enumerate(value)):
            yield value, number
            yield from _places(one)
