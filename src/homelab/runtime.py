"""The clock, the only way this program waits or asks the time; and how it is told to end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from homelab.errors import Interrupted, TimedOut

Seen = TypeVar("Seen")
_CALLS_AWAY: list[int] = []


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


class Interruption:
    """Whether the run is to end. Writes in flight are finished; whoever would begin one, or wait, asks here first."""

    def __init__(self) -> None:
        self._is_wanted = threading.Event()

    @property
    def is_wanted(self) -> bool:
        return self._is_wanted.is_set()

    def check(self) -> None:
        """Raises Interrupted once the run is to end."""
        if self.is_wanted:
            raise Interrupted("interrupted", "nothing new is begun", "run again to go on from here")

    def wait_for(self, ended: Sequence[threading.Event], on_ending: Callable[[], None]) -> None:
        """Wait for all; after Ctrl-C until what was begun has ended, after the second one no longer.

        By events, since a Thread.join that Ctrl-C breaks off takes its thread for ended (Python 3.11).
        """
        try:
            _wait(ended)
        except KeyboardInterrupt:
            self._is_wanted.set()
            on_ending()
            _wait(ended)

    def see_through(self, work: Callable[[], None], on_ending: Callable[[], None]) -> None:
        """Do it where Ctrl-C does not break it off, and wait as `wait_for` does; raises what it raises."""
        raised: list[BaseException] = []

        def kept() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001
                raised.append(error)

        self.wait_for([begun(kept, "work")], on_ending)
        for error in raised:
            raise error


def begun(work: Callable[[], None], name: str) -> threading.Event:
    """Begin it in a thread of its own, which ends with the program; the event is set when it has ended."""
    ended = threading.Event()

    def to_its_end() -> None:
        try:
            work()
        finally:
            ended.set()

    threading.Thread(target=to_its_end, name=name, daemon=True).start()
    return ended


def _wait(ended: Sequence[threading.Event]) -> None:
    for event in ended:
        event.wait()


@dataclass(frozen=True, slots=True)
class InterruptibleClock:
    """A clock on which nobody waits any longer once the run is to end. Writes in flight go by the clock within."""

    clock: Clock
    interruption: Interruption

    def now(self) -> float:
        """Unix time in seconds."""
        return self.clock.now()

    def sleep(self, seconds: float) -> None:
        """Raises Interrupted."""
        self.interruption.check()
        self.clock.sleep(seconds)
        self.interruption.check()


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """SIGTERM, as a shutdown or systemd sends it, is taken as Ctrl-C is. In the main thread only."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    woken_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _CALLS_AWAY.append(reader)
    try:
        yield
    finally:
        _CALLS_AWAY.remove(reader)
        signal.set_wakeup_fd(woken_before)
        for end in (reader, writer):
            os.close(end)
        signal.signal(signal.SIGTERM, before)


def calls_away() -> Sequence[int]:
    """Files that can be read from once Ctrl-C or SIGTERM has come: a thread that waits for a person waits for them too.

    The signal itself reaches the main thread alone.
    """
    return tuple(_CALLS_AWAY)


def day_of(seconds: float) -> str:
    """The day of a Unix time, such as 2026-09-26, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often something is looked at: after `first_s`, then after four times as long, and so on up to `longest_s`."""

    first_s: float = 0.05
    longest_s: float = 2.0

    def after(self, delay_s: float) -> float:
        return min(delay_s * 4, self.longest_s)


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
