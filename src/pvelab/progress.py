"""Tasks: workers with a UPID and a log, running until a lab time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pvelab.state import Task, World

POLL_S = 0.5


async def wait(world: World, upid: str) -> Task:
    """Wait in lab time until a task has ended."""
    task = world.tasks[upid]
    while task.is_running:
        await world.clock.sleep(POLL_S)
    return task
