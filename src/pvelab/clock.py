"""The lab's time: real seconds at a pace, or a clock shared with the program under test."""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Protocol

Callback = Callable[[], Awaitable[None] | None]
in_background: ContextVar[bool] = ContextVar("in_background", default=False)
"""Set in a task that nobody waits for: its sleeping does not move time, it ends when time has passed."""


class SharedClock(Protocol):
    """A clock that moves only when somebody waits; made by a test and given to the lab and to the tool."""

    def now(self) -> float: ...

    def advance(self, seconds: float) -> None: ...

    def subscribe(self, listener: Callable[[], None]) -> None: ...


class LabClock:
    """Runs what the lab has planned (a boot stage, the end of a task) on the lab's own event loop.

    Real time: a planned delay is multiplied by `pace` (0.01: a boot of 20 s takes 0.2 s).
    Shared time: delays are taken as they are, and pass as soon as anybody waits.
    The past (between `rewind` and `catch_up`): time passes at once, and only by `sleep`; a seed builds its world there.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, shared: SharedClock | None = None, pace: float = 1.0) -> None:
        self._loop = loop
        self._shared = shared
        self._pace = pace
        self._planned: list[tuple[float, int, Callback]] = []
        self._order = itertools.count()
        self._thread = threading.get_ident()
        self._running: set[asyncio.Task[None]] = set()
        self._handles: set[asyncio.TimerHandle] = set()
        self._is_in_past = False
        self.failures: list[Exception] = []
        """What callbacks raised; the fault is the lab's own."""
        self.behind_s = 0.0
        """How long ago the lab lives now; 0 but in the past."""
        self.settled: Callable[[], Awaitable[None]] | None = None
        """Waits for what takes real time although the lab's time is shared."""
        if shared:
            shared.subscribe(self._moved_elsewhere)

    def now(self) -> float:
        """Unix time in seconds."""
        present = self._shared.now() if self._shared else time.time()
        return present - self.behind_s

    def after(self, delay_s: float, callback: Callback) -> None:
        """Run callback (plain or async) on the lab's loop when delay_s lab seconds have passed."""
        if self._shared or self._is_in_past:
            heapq.heappush(self._planned, (self.now() + delay_s, next(self._order), callback))
        else:
            self._call_later(delay_s * self._pace, callback)

    async def sleep(self, delay_s: float) -> None:
        """Wait inside a lab request or command."""
        if in_background.get():
            passed = asyncio.Event()
            self.after(delay_s, passed.set)
            await passed.wait()
            return
        if self._is_in_past:
            self.behind_s -= delay_s
        elif self._shared:
            self._shared.advance(delay_s)
        else:
            await asyncio.sleep(delay_s * self._pace)
            return
        await self.run_due()
        await asyncio.sleep(0)

    def rewind(self, seconds: float) -> None:
        """Live that long ago; nothing may be planned yet."""
        self._is_in_past, self.behind_s = True, seconds

    def catch_up(self) -> None:
        """Live in the present again; what is still planned keeps its distance."""
        planned, past = self._planned, self.now()
        self._planned, self._is_in_past, self.behind_s = [], False, 0.0
        for due, _, callback in sorted(planned):
            self.after(due - past, callback)

    async def run_due(self) -> None:
        """Run everything planned up to now, in order of its time."""
        while self._planned and self._planned[0][0] <= self.now():
            await self._call(heapq.heappop(self._planned)[2])

    def forget(self) -> None:
        """Drop everything planned or under way (the lab is being reset)."""
        self._planned.clear()
        self._is_in_past, self.behind_s = False, 0.0
        for handle in self._handles:
            handle.cancel()
        for task in self._running:
            task.cancel()
        self._handles.clear()

    def _call_later(self, delay_s: float, callback: Callback) -> None:
        def start() -> None:
            self._handles.discard(handle)
            self._start(callback)

        handle = self._loop.call_later(delay_s, start)
        self._handles.add(handle)

    def _start(self, callback: Callback) -> None:
        task = self._loop.create_task(self._call(callback))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _call(self, callback: Callback) -> None:
        try:
            result = callback()
            if inspect.isawaitable(result):
                await result
        except Exception as failure:
            self.failures.append(failure)
            raise

    def _moved_elsewhere(self) -> None:
        if threading.get_ident() != self._thread and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._catch_up_with_others(), self._loop).result(timeout=30)

    async def _catch_up_with_others(self) -> None:
        """What is due happens, and the sockets it opens are open, before those who moved the time go on."""
        await self.run_due()
        if self.settled:
            await self.settled()
