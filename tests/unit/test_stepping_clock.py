"""The clock of the tests: still between sleeps, told to all who listen, the same for every thread."""

from __future__ import annotations

import threading

import pytest

from support.clock import SteppingClock


def test_without_a_sleep_no_time_passes() -> None:
    clock = SteppingClock(1000.0)

    assert [clock.now(), clock.now()] == [1000.0, 1000.0]


def test_a_sleep_moves_the_time_at_once_and_then_tells_the_listeners_in_order() -> None:
    clock = SteppingClock(1000.0)
    seen: list[tuple[str, float]] = []
    clock.subscribe(lambda: seen.append(("first", clock.now())))
    clock.subscribe(lambda: seen.append(("second", clock.now())))

    clock.sleep(2.5)
    clock.advance(1)

    assert seen == [("first", 1002.5), ("second", 1002.5), ("first", 1003.5), ("second", 1003.5)]


def test_a_listener_may_move_the_time_again() -> None:
    clock = SteppingClock(0.0)

    def hurry() -> None:
        if clock.now() < 3:
            clock.sleep(1)

    clock.subscribe(hurry)
    clock.sleep(1)

    assert clock.now() == 3.0


def test_sleeps_of_many_threads_add_up() -> None:
    clock = SteppingClock(0.0)

    def sleep_often() -> None:
        for _ in range(200):
            clock.sleep(1)

    threads = [threading.Thread(target=sleep_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert clock.now() == 800.0


def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="go back"):
        SteppingClock().sleep(-1)
