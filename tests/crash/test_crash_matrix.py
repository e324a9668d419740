"""A run that is killed at any write heals when it is run again: the same end as if it had never been killed."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from crash.arena import Arena
from crash.matrix import Reference, crash, one_of_each_kind, tell
from crash.not_yet import listed, reason_for
from crash.points import CrashPoint, Moment
from crash.stories import STORIES, WIRES

KNOWN = listed()
ELSEWHERE = ("stuck-server", "fresh", "paused", "power-cut", "new-node", "half-built", "delete", "join-fails")


def _unhealed(arena: Arena, points: Iterable[tuple[Reference, CrashPoint]], *, is_other_machine: bool = False) -> str:
    """The points after which the end is another one, each with what is wrong, as one text."""
    wrong = []
    for told, point in points:
        name = f"{'elsewhere ' if is_other_machine else ''}{told.story.name} {told.via} {point}"
        if not reason_for(name, KNOWN):
            problems = crash(arena, told, point, is_other_machine=is_other_machine)
            wrong += ["\n    ".join((name, *problems))] if problems else []
    return "\n".join(wrong)


@pytest.mark.parametrize("moment", list(Moment), ids=lambda moment: moment.value)
@pytest.mark.parametrize("via", WIRES)
def test_replacement_that_was_killed_at_any_write_ends_as_if_it_had_not_been(
    arena: Arena, via: str, moment: Moment
) -> None:
    told = tell(arena, STORIES["stuck"], via)
    points = [(told, point) for point in told.points if point.moment is moment]

    assert points
    assert not (wrong := _unhealed(arena, points)), wrong


@pytest.mark.parametrize("via", WIRES)
def test_stories_that_were_killed_at_one_write_of_each_kind_end_as_if_they_had_not_been(arena: Arena, via: str) -> None:
    """Writes to guests and to k3s go the same way whatever the wire to Proxmox, so that one wire is enough for them."""
    told = [tell(arena, STORIES[name], via) for name in ELSEWHERE]
    points = [(one, point) for one, point in one_of_each_kind(told) if via == "api" or point.write.is_on_proxmox]

    assert len(points) > len(ELSEWHERE)
    assert not (wrong := _unhealed(arena, points)), wrong


@pytest.mark.parametrize("via", WIRES)
def test_replacement_that_was_killed_is_finished_by_another_machine_too(arena: Arena, via: str) -> None:
    told = tell(arena, STORIES["stuck"], via)
    points = [(told, point) for point in told.points if "qemu" in point.write.what or "qm " in point.write.what]

    assert points
    assert not (wrong := _unhealed(arena, points[::3], is_other_machine=True)), wrong


def test_every_line_on_the_list_of_what_does_not_heal_yet_has_a_reason() -> None:
    assert all(one.pattern and one.reason for one in KNOWN)
