"""Waiting: looked at ever more rarely, once more at the deadline, and never by sleeping behind the clock's back."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from homelab.errors import TimedOut
from homelab.runtime import Pace, SystemClock, Wait, wait_for
from support.clock import SteppingClock


def looking(clock: SteppingClock, looks: list[float], becomes: float) -> Callable[[], str]:
    """Something that is seen to be `up` from the time `becomes` on; every look is noted."""

    def look() -> str:
        looks.append(clock.now())
        return "up" if clock.now() >= becomes else "starting"

    return look


def wait(clock: SteppingClock, look: Callable[[], str], timeout_s: float, pace: Pace | None = None) -> str:
    return wait_for(
        look,
        lambda seen: seen == "up",
        Wait("VM 107 did not start", timeout_s, clock, "qm start 107", pace or Pace()),
    )


def test_what_is_there_already_is_returned_without_any_waiting() -> None:
    clock, looks = SteppingClock(0), list[float]()

    assert wait(clock, looking(clock, looks, 0), 60) == "up"
    assert looks == [0]


def test_the_time_between_looks_grows_up_to_the_longest() -> None:
    clock, looks = SteppingClock(0), list[float]()

    wait(clock, looking(clock, looks, 10), 60, Pace(first_s=1, longest_s=3))

    waits = [round(later - earlier, 3) for earlier, later in pairwise(looks)]
    assert waits == [1, 3, 3, 3]


def test_what_comes_just_at_the_deadline_is_still_seen() -> None:
    clock, looks = SteppingClock(0), list[float]()

    assert wait(clock, looking(clock, looks, 10), 10, Pace(first_s=4, longest_s=4)) == "up"
    assert looks == [0, 4, 8, 10]


def test_after_the_deadline_it_is_said_what_was_seen_last_and_what_to_do() -> None:
    clock, looks = SteppingClock(0), list[float]()

    with pytest.raises(TimedOut) as error:
        wait(clock, looking(clock, looks, 1000), 10)

    assert error.value.what == "VM 107 did not start"
    assert error.value.why == "not within 10 s; last seen: starting"
    assert error.value.cure == "qm start 107"
    assert 10 <= clock.now() < 10.1


def test_a_look_that_takes_longer_than_the_time_allowed_is_repeated_once() -> None:
    clock = SteppingClock(0)
    looks: list[str] = []

    def slow_look() -> str:
        looks.append("look")
        clock.advance(30)
        return "starting"

    with pytest.raises(TimedOut):
        wait(clock, slow_look, 10)

    assert len(looks) == 2


def test_real_time_passes_by_itself() -> None:
    clock = SystemClock()
    before = time.time()

    clock.sleep(0.01)

    assert before + 0.009 < clock.now() <= time.time()
