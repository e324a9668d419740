"""Opens and closes the doors of machines that come and go: for each address in the order in which it was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pvelab.door import Door

PATIENCE_S = 1.0
"""Real seconds for which time stands still while doors are being opened."""


@dataclass(slots=True)
class Doorkeeper:
    """A machine's door may still be closing when the next machine at its address opens one."""

    _locks: dict[tuple[str, int], asyncio.Lock] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _opening: set[asyncio.Task[None]] = field(default_factory=set)

    def open(self, door: Door, is_wanted: Callable[[], bool], failed: Callable[[OSError], None]) -> None:
        """Open a door, unless it is not wanted any more when its turn comes; an address not to be had is told."""

        async def work() -> None:
            if is_wanted():
                try:
                    await door.open()
                except OSError as error:
                    failed(error)

        task = self._begin(door, work)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def close(self, door: Door) -> None:
        """Close a door."""
        self._begin(door, door.close)

    def hang(self, door: Door) -> None:
        """Leave those who come to a door without an answer."""
        self._begin(door, door.hang)

    async def opened(self) -> None:
        """Wait, though not for long, until the doors that are being opened are open."""
        if self._opening:
            await asyncio.wait(self._opening, timeout=PATIENCE_S)

    async def settled(self) -> None:
        """Wait until every door is as it was last asked to be."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _begin(self, door: Door, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        lock = self._locks.setdefault((door.address, door.port), asyncio.Lock())

        async def in_turn() -> None:
            async with lock:
                await work()

        task = asyncio.get_running_loop().create_task(in_turn())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
