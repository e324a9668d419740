"""Whatever an answer holds or a command prints: no traceback, a cure for every error, no VM lost, none made twice."""

from __future__ import annotations

from random import Random

import pytest

from crash.arena import Arena
from crash.garble import Garbled, Garbler, endure
from crash.mishaps import tell
from crash.stories import STORIES, WIRES

GARBLED = 16
SEED = 4


@pytest.mark.parametrize("via", WIRES)
def test_a_run_that_cannot_understand_an_answer_deletes_and_doubles_nothing(arena: Arena, via: str) -> None:
    told = tell(arena, STORIES["stuck"], via)
    chance, problems = Random(SEED), []

    for kind in chance.sample(told.kinds, GARBLED):
        garbler = Garbler(kind, Garbled.drawn(chance), times=chance.randrange(2))
        problems += [f"{garbler}: {problem}" for problem in endure(arena, told, garbler)]

    assert not problems, "\n".join(problems)
