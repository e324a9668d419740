"""Tasks: workers with a UPID and a log, running until a lab time."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from pvelab.answers import ApiError, Who
from pvelab.state import Fate, Node, Task, World

POLL_S = 0.5
LOCK_TIMEOUT_S = 10.0
STUCK_LOOK_S = 5.0
CUT_OFF = "unexpected status"
"""What is read as the end of a task whose log breaks off. Source: pve-common, Tools.pm, upid_read_status."""
_fate: ContextVar[Fate | None] = ContextVar("fate", default=None)
UPID = re.compile(
    r"UPID:(?P<node>[A-Za-z0-9][A-Za-z0-9-]*):(?P<pid>[0-9A-F]{8}):(?P<pstart>[0-9A-F]{8,9}):"
    r"(?P<starttime>[0-9A-F]{8}):(?P<type>[^:\s]+):(?P<id>[^:\s]*):(?P<user>[^:\s]+):"
)

Steps = AsyncGenerator[float, None]
Worker = Callable[[Task], Steps]
"""What a task does: an asynchronous generator that yields the lab seconds its next step takes.

It fails by raising ApiError, whose reason becomes the exit status.
"""


@dataclass(frozen=True, slots=True)
class Job:
    """What kind of task, on which node, for whom; and the VM whose configuration it keeps locked meanwhile."""

    node: Node
    type: str
    id: str
    who: Who
    vmid: int = 0


class Interrupted(ApiError):
    """The task was stopped by somebody."""

    def __init__(self) -> None:
        super().__init__(500, "received interrupt")


@contextmanager
def fated(fate: Fate | None) -> Iterator[None]:
    """Give the tasks that are begun meanwhile a fate."""
    before = _fate.set(fate)
    try:
        yield
    finally:
        _fate.reset(before)


async def begin(world: World, job: Job, worker: Worker) -> str:
    """Start a task and return its UPID; what needs no time has happened by then."""
    task = _new_task(world, job)
    world.tasks[task.upid] = task
    await _Run(world, task, worker(task), job.vmid).start()
    return task.upid


async def wait(world: World, upid: str) -> Task:
    """Wait in lab time until a task has ended."""
    task = world.tasks[upid]
    while task.is_running:
        await world.clock.sleep(POLL_S)
    return task


async def until_free(world: World, vmid: int) -> None:
    """Wait until no task holds a VM's configuration. Raises ApiError after 10 s."""
    waited_s = 0.0
    while vmid in world.held:
        if waited_s >= LOCK_TIMEOUT_S:
            raise ApiError(500, _not_free(vmid))
        await world.clock.sleep(POLL_S)
        waited_s += POLL_S


def interrupt(task: Task) -> None:
    """Stop a running task; it ends at its next step."""
    task.interrupted = task.is_running


def cut_off(world: World, task: Task) -> None:
    """The task's node lost power: what it held is free, what it had begun stays as it is, its log has no last line."""
    if task.is_running:
        task.endtime = int(world.clock.now())
        task.exitstatus = CUT_OFF
        if task.id.isdigit():
            world.held.discard(int(task.id))


def upid_fields(upid: str) -> dict[str, str] | None:
    """The parts of a UPID, or None if it is not one."""
    match = UPID.fullmatch(upid)
    return match.groupdict() if match else None


def _not_free(vmid: int) -> str:
    return f"can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout"


def _new_task(world: World, job: Job) -> Task:
    now = world.clock.now()
    while True:
        pid = world.random.randrange(1000, 4_000_000)
        pstart = int(max(0.0, now - job.node.booted_at) * 100) & 0xFFFFFFFF
        upid = f"UPID:{job.node.hostname}:{pid:08X}:{pstart:08X}:{int(now):08X}:{job.type}:{job.id}:{job.who.authid}:"
        if upid not in world.tasks:
            return Task(
                upid=upid,
                node=job.node.hostname,
                pid=pid,
                pstart=pstart,
                starttime=int(now),
                type=job.type,
                id=job.id,
                user=job.who.user,
                tokenid=job.who.token,
                fate=_fate.get(),
            )


@dataclass(slots=True, eq=False)
class _Run:
    """A task under way."""

    world: World
    task: Task
    steps: Steps
    vmid: int
    waited_s: float = 0.0
    holds: bool = False

    async def start(self) -> None:
        """Begin as soon as nobody else holds the VM's lock."""
        if self.vmid in self.world.held and self.waited_s >= LOCK_TIMEOUT_S:
            self._finish(_not_free(self.vmid))
        elif self.vmid in self.world.held:
            self.waited_s += POLL_S
            self.world.clock.after(POLL_S, self.start)
        else:
            self.holds = bool(self.vmid)
            if self.holds:
                self.world.held.add(self.vmid)
            await self._advance(None)

    async def _next(self) -> None:
        if not self.task.is_running:
            await self.steps.aclose()
            return
        fate = self.task.fate
        fault = self.world.hooks.task_fault(self.task) or (fate.failure if fate else "")
        if self.task.interrupted:
            await self._advance(Interrupted())
        elif fate and not fault:
            self.world.clock.after(STUCK_LOOK_S, self._next)
        else:
            await self._advance(ApiError(500, fault) if fault else None)

    async def _advance(self, error: ApiError | None) -> None:
        try:
            delay_s = await (self.steps.athrow(error) if error else anext(self.steps))
        except StopAsyncIteration:
            self._finish("")
        except ApiError as failure:
            self._finish(failure.reason)
        else:
            self.world.clock.after(delay_s, self._next)

    def _finish(self, failure: str) -> None:
        if self.holds:
            self.world.held.discard(self.vmid)
        if failure and not self.task.tokenid:
            self.task.log.append("")
        self.task.log.append(f"TASK ERROR: {failure}" if failure else "TASK OK")
        self.task.endtime = int(self.world.clock.now())
        self.task.exitstatus = failure or "OK"
