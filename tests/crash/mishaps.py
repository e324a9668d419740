"""Every kind of request of a run, and every fault that can happen to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from crash.arena import Arena
from crash.matrix import SETTLED_S, last_lines, never_said
from crash.points import without_prefix
from crash.processes import Ended, Endless
from crash.soundness import unsound
from crash.stories import Story
from pvelab import progress
from pvelab.interception import Arrival
from pvelab.request_faults import DOINGS
from pvelab.state import Action, World

ON_TASKS = ("task-error", "task-never-ends")
LONGEST_LAB_S = 3 * 3600.0
PATIENCE = {"hang": 0.04, "task-never-ends": 0.002}
"""Of the real time that a request may take, this part is waited. A command waits for its task, up to many minutes."""
COMES_WITHIN_S = {"power-loss": 31.0}
"""What happens later than the request that brings it on may come when the run has ended."""
_CLUSTER_WIDE = re.compile(r"/(cluster|access|pools)\b")
_STARTS_TASK = re.compile(r"(POST|PUT|DELETE) /nodes/.*|(qm|pvesh) (create|destroy|start|stop|resume|resize|set)\b.*")
_PLAIN_WORD = re.compile(r"[a-z][\w-]*")


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """A kind of request to one machine, in the words of the lab's fault `on`."""

    machine: str
    method: str = ""
    path: str = ""
    command: str = ""

    def __str__(self) -> str:
        return f"{self.machine} {self.method} {self.path}" if self.method else f"{self.machine} {self.command}"

    @property
    def doings(self) -> Iterator[str]:
        """What can happen to it."""
        wire = "api" if self.method else "ssh"
        for name, doing in DOINGS.items():
            is_task = bool(_STARTS_TASK.fullmatch(f"{self.method} {self.path}" if self.method else self.command))
            is_upload = self.path.endswith("/upload")
            if (
                doing.wire in ("all", wire)
                and (name not in ON_TASKS or is_task)
                and (name != "upload-drop" or is_upload)
            ):
                yield name

    @property
    def options(self) -> dict[str, Any]:
        """The options of the fault that aim at it."""
        aim = {"method": self.method, "path": self.path, "command": self.command}
        return {"node": self.machine, **{name: value for name, value in aim.items() if value}}


def kind_of(arrival: Arrival) -> Kind:
    """The kind that a request is of."""
    if arrival.method:
        path = re.sub(r"UPID:[^/]+", "*", arrival.path)
        return Kind(
            arrival.machine, arrival.method, re.sub(r"(?<=/qemu/)\d+|(?<=/storage/)[^/]+|(?<=/content/).+", "*", path)
        )
    words = without_prefix(arrival.command_line).split()
    plain = 0
    while plain < min(3, len(words)) and _PLAIN_WORD.fullmatch(words[plain]):
        plain += 1
    command = words[: max(plain, 1)]
    if words[0] == "pvesh":
        command = [*words[:2], re.sub(r"UPID:[^/]+|(?<=/qemu/)\d+", "*", words[2])]
    return Kind(arrival.machine, command=" ".join(command))


@dataclass(slots=True)
class Kinds:
    """Notes the kinds of requests of a run; lets them all through."""

    seen: dict[Kind, None] = field(default_factory=dict)

    def take(self, arrival: Arrival) -> Action | None:
        """As the lab's traps."""
        self.seen.setdefault(kind_of(arrival))
        return None


@dataclass(frozen=True, slots=True)
class Mishap:
    """A fault at a kind of request: `times` it is hit, 0 for always."""

    kind: Kind
    do: str
    times: int

    def __str__(self) -> str:
        return f"{self.do} {'once' if self.times else 'always'} at {self.kind}"


@dataclass(frozen=True, slots=True)
class Told:
    """A story without mishaps: the kinds of its requests, and the VMs that it deletes."""

    story: Story
    via: str
    kinds: tuple[Kind, ...]
    deleted: frozenset[str]

    @property
    def mishaps(self) -> Iterator[Mishap]:
        """All there are."""
        for kind in self.kinds:
            for do in kind.doings:
                yield from (Mishap(kind, do, 1), Mishap(kind, do, 0))


def tell(arena: Arena, story: Story, via: str) -> Told:
    """Tell a story without mishaps."""
    story.begin(arena)
    before, kinds = machines(arena), Kinds()
    arena.lab.trap(kinds)
    run = story.run(arena, via)
    assert run.exit_code in story.ends_in, run.text
    deleted = frozenset(before) - frozenset(machines(arena))
    arena.lab.clear_faults()
    return Told(story, via, tuple(kinds.seen), deleted)


def suffer(arena: Arena, told: Told, mishap: Mishap) -> list[str]:
    """Tell the story with a mishap, then again without; what was not as it has to be."""
    told.story.begin(arena)
    before = machines(arena)
    try:
        problems = [f"in trouble: {problem}" for problem in _in_trouble(arena, told, mishap)]
    except Endless as endless:
        problems = [f"in trouble: {endless}"]
    lost = set(before) - set(machines(arena)) - told.deleted
    problems += [f"in trouble: {before[uuid]} was deleted" for uuid in sorted(lost)]
    arena.pass_time(COMES_WITHIN_S.get(mishap.do, 0.0))
    return problems + [f"afterwards: {problem}" for problem in _afterwards(arena, told)]


def _in_trouble(arena: Arena, told: Told, mishap: Mishap) -> Iterator[str]:
    arena.lab.fault("on", do=mishap.do, times=mishap.times, **mishap.kind.options)
    arena.patience = PATIENCE.get(mishap.do, 1.0)
    try:
        run = told.story.run(arena, told.via)
    finally:
        arena.patience = 1.0
    yield from wrong(run)
    if run.lab_s > LONGEST_LAB_S and mishap.do not in PATIENCE:
        yield f"it took {run.lab_s / 3600:.1f} h"
    if not _CLUSTER_WIDE.search(str(mishap.kind)):
        yield from (f"the VM of {node} does not run" for node in _unfinished(arena, mishap.kind.machine))


def _afterwards(arena: Arena, told: Told) -> Iterator[str]:
    arena.lab.clear_faults()
    arena.lab.look(_stop_tasks)
    arena.pass_time(SETTLED_S)
    run = told.story.run(arena, told.via)
    yield from wrong(run)
    if run.exit_code not in told.story.ends_in:
        yield f"it ended with {run.exit_code}: {last_lines(run)}"
    arena.pass_time(SETTLED_S)
    yield from unsound(arena.lab)


def wrong(run: Ended) -> Iterator[str]:
    """What is wrong with a run whatever happens to it."""
    yield from never_said(run)
    if run.exit_code not in (0, 1, 3):
        yield f"exit code {run.exit_code}: {last_lines(run)}"
    lines = run.err.splitlines()
    for line, previous in zip(lines, ["", *lines], strict=False):
        if line.startswith("error: ") and not previous.startswith("  try: "):
            yield f"no cure for: {line}"


def _stop_tasks(world: World) -> None:
    """A person stops what does not end."""
    for task in world.tasks.values():
        progress.interrupt(task)


def machines(arena: Arena) -> dict[str, str]:
    """The name of each VM by its system UUID."""
    vms = arena.lab.snapshot()["vms"].values()
    return {str(vm["config"].get("smbios1")): str(vm["config"].get("name")) for vm in vms}


def _unfinished(arena: Arena, in_trouble: str) -> list[str]:
    """Nodes without a running VM, though the trouble was elsewhere."""
    vms = arena.lab.snapshot()["vms"].values()
    running = {vm["node"] for vm in vms if vm["status"] == "running"}
    nodes = [node.name for node in arena.lab.spec.nodes]
    return [node for node in nodes if node not in running and node not in in_trouble]
