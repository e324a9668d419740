"""The clock: the only way this program waits or asks the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from homelab.errors import TimedOut

Seen = TypeVar("Seen")


class Clock(Protocol):
    """Time as the program knows it; tests hand in one that moves only when somebody sleeps."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """Real time."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often something is looked at: from `first_s`, half as long again each time, up to `longest_s`."""

    first_s: float = 0.05
    longest_s: float = 2.0

    def after(self, delay_s: float) -> float:
        return min(delay_s * 1.5, self.longest_s)


@dataclass(frozen=True, slots=True)
class Wait:
    """How long is waited, by which clock; `what` and `cure` are said when it was in vain."""

    what: str
    timeout_s: float
    clock: Clock
    cure: str = ""
    pace: Pace = Pace()


def wait_for(
    look: Callable[[], Seen],
    is_there: Callable[[Seen], bool],
    wait: Wait,
    describe: Callable[[Seen], object] = lambda seen: seen,
) -> Seen:
    """Look until it is there; return what was seen.

    Raises TimedOut after timeout_s with the last thing seen, as `describe` says it. Looks once more at the deadline.
    """
    clock = wait.clock
    deadline = clock.now() + wait.timeout_s
    delay_s = wait.pace.first_s
    while True:
        is_last = clock.now() >= deadline
        seen = look()
        if is_there(seen):
            return seen
        if is_last:
            why = f"not within {wait.timeout_s:.0f} s; last seen: {describe(seen)}"
            raise TimedOut(wait.what, why, wait.cure)
        clock.sleep(min(delay_s, max(deadline - clock.now(), 0.01)))
        delay_s = wait.pace.after(delay_s)
