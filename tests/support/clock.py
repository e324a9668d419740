"""Time that moves only when somebody sleeps: one clock for the tool and, where there is one, its lab."""

from __future__ import annotations

import threading
from collections.abc import Callable

START = 1_760_000_000.0


class SteppingClock:
    """A clock that stands still between sleeps; a sleep moves it at once and tells every listener.

    It is homelab's Clock and the lab's SharedClock. Any thread may call it. Listeners run in the thread that moved the
    time, without a lock held, so that they (and those they wait for) may read the clock and move it again.
    """

    def __init__(self, now: float = START) -> None:
        self._now = now
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._lock = threading.Lock()

    def now(self) -> float:
        """Unix time in seconds."""
        with self._lock:
            return self._now

    def sleep(self, seconds: float) -> None:
        """Let the time pass without waiting for it; raises ValueError where time.sleep would."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move the time forward, then call the listeners, the oldest first."""
        if seconds < 0:
            raise ValueError("time does not go back")
        with self._lock:
            self._now += seconds
            listeners = self._listeners
        for listener in listeners:
            listener()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have the listener called after every move."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
