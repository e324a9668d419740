"""The lab's time: real at a pace, shared with a test, or at once in the past."""

from __future__ import annotations

import asyncio
import time

import pytest

from pvelab.clock import LabClock
from support.clock import SteppingClock


def test_at_a_pace_a_second_takes_a_hundredth() -> None:
    async def story() -> float:
        clock = LabClock(asyncio.get_running_loop(), pace=0.01)
        done = asyncio.Event()
        began = time.monotonic()
        clock.after(1.0, done.set)
        await asyncio.wait_for(done.wait(), timeout=1)
        return time.monotonic() - began

    assert 0.009 < asyncio.run(story()) < 0.2


def test_with_a_shared_clock_what_is_due_happens_in_order_while_somebody_sleeps() -> None:
    async def story() -> list[str]:
        clock = LabClock(asyncio.get_running_loop(), SteppingClock(1000.0))
        seen: list[str] = []
        clock.after(2.0, lambda: seen.append("second"))
        clock.after(1.0, lambda: seen.append("first"))
        clock.after(9.0, lambda: seen.append("never"))
        await clock.sleep(3.0)
        return seen

    assert asyncio.run(story()) == ["first", "second"]


@pytest.mark.parametrize("shared", [True, False])
def test_the_past_passes_at_once_and_leaves_the_present_where_it_was(shared: bool) -> None:
    async def story() -> tuple[float, list[float], float]:
        present = SteppingClock(50_000.0) if shared else None
        clock = LabClock(asyncio.get_running_loop(), present, pace=0.001)
        before = clock.now()
        seen: list[float] = []
        clock.rewind(3600.0)
        clock.after(20.0, lambda: seen.append(clock.now()))
        await clock.sleep(30.0)
        clock.catch_up()
        return before, seen, clock.now()

    before, seen, after = asyncio.run(story())
    assert seen == [pytest.approx(before - 3570.0, abs=10.5)]
    assert after == pytest.approx(before, abs=0.5)


@pytest.mark.parametrize("shared", [True, False])
def test_what_was_planned_in_the_past_keeps_its_distance_to_the_present(shared: bool) -> None:
    async def story() -> list[str]:
        clock = LabClock(asyncio.get_running_loop(), SteppingClock(50_000.0) if shared else None, pace=0.001)
        seen: list[str] = []
        clock.rewind(3600.0)
        clock.after(40.0, lambda: seen.append("later"))
        await clock.sleep(30.0)
        clock.catch_up()
        await clock.sleep(9.0)
        seen.append("9 s")
        await clock.sleep(30.0)
        return seen

    assert asyncio.run(story()) == ["9 s", "later"]


@pytest.mark.parametrize("shared", [True, False])
def test_what_was_forgotten_does_not_happen(shared: bool) -> None:
    async def story() -> list[str]:
        clock = LabClock(asyncio.get_running_loop(), SteppingClock(50_000.0) if shared else None, pace=0.001)
        seen: list[str] = []
        clock.after(1.0, lambda: seen.append("forgotten"))
        clock.forget()
        await clock.sleep(20.0)
        return seen

    assert asyncio.run(story()) == []
