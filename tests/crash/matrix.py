"""One killed run, and whether running again brings what would have come without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crash.arena import Arena
from crash.left import differences, left, macs
from crash.points import CrashPoint, Killer, Moment, Recorder
from crash.processes import KILLED, Ended
from crash.stories import Story

SETTLED_S = 90.0
PAUSE_S = {Moment.BEFORE: 45.0, Moment.AFTER: 45.0, Moment.DURING: 1.0}
"""Lab seconds until somebody runs it again: during a task that task still goes on then."""
ANOTHER_MACHINE_S = 31 * 60.0
"""After that long a killed run is taken for ended by other machines, too."""
RUNS_AGAIN = 2
NEVER_SAID = ("Traceback (most recent call last)", "defect in homelab")


@dataclass(frozen=True, slots=True)
class Reference:
    """A story told without a crash: its crash points, the MACs of before, and what there is in the end."""

    story: Story
    via: str
    points: tuple[CrashPoint, ...]
    macs: Mapping[str, str]
    end: Mapping[str, str]


def tell(arena: Arena, story: Story, via: str) -> Reference:
    """Tell a story without a crash. Raises AssertionError when that alone does not end well."""
    story.begin(arena)
    known = macs(arena.lab)
    recorder = Recorder()
    arena.lab.trap(recorder)
    first = story.run(arena, via)
    arena.lab.clear_faults()
    arena.pass_time(PAUSE_S[Moment.BEFORE])
    second = story.run(arena, via)
    assert second.exit_code in story.ends_in, f"{first.text}\n{second.text}"
    arena.pass_time(SETTLED_S)
    return Reference(story, via, tuple(recorder.points), known, left(arena.lab, known))


def crash(arena: Arena, told: Reference, point: CrashPoint, *, is_other_machine: bool = False) -> list[str]:
    """Kill the first run at a point, run again; what is then not as it should be."""
    told.story.begin(arena)
    killer = Killer(point, arena.tool.kill)
    arena.lab.trap(killer)
    killed = told.story.run(arena, told.via)
    arena.lab.clear_faults()
    if not killer.has_killed and point.write.comes_by_the_clock:
        return []
    if not killer.has_killed or killed.exit_code != KILLED:
        return [f"the run never came to this write, and ended with {killed.exit_code}: {last_lines(killed)}"]
    arena.pass_time(PAUSE_S[point.moment])
    if is_other_machine:
        arena.forget()
        arena.pass_time(ANOTHER_MACHINE_S)
    runs = _run_again(arena, told)
    arena.pass_time(SETTLED_S)
    problems = [problem for run in runs for problem in never_said(run)]
    if runs[-1].exit_code not in told.story.ends_in:
        problems.append(f"run again, it ended with {runs[-1].exit_code}: {last_lines(runs[-1])}")
    wanted = _compared(told.end, told, is_other_machine)
    problems += differences(wanted, _compared(left(arena.lab, told.macs), told, is_other_machine))
    return [*problems, f"run again, it said:\n{runs[-1].text}"] if problems else []


def _run_again(arena: Arena, told: Reference) -> list[Ended]:
    """Once, and once more where the tool asks for it."""
    runs = [told.story.run(arena, told.via)]
    while len(runs) < RUNS_AGAIN and runs[-1].exit_code == 3 and "run again" in runs[-1].err:
        arena.pass_time(PAUSE_S[Moment.BEFORE])
        runs.append(told.story.run(arena, told.via))
    return runs


def _compared(facts: Mapping[str, str], told: Reference, is_other_machine: bool) -> Mapping[str, str]:
    """Another machine does not know what a deleted VM had; a VM that never ran has nothing that has to be kept."""
    left_out = ("/config/net", "/config/description") if is_other_machine else ()
    if not told.story.keeps_macs:
        left_out = (*left_out, "/config/net")
    return {path: value for path, value in facts.items() if not any(part in path for part in left_out)}


def never_said(run: Ended) -> list[str]:
    """Words that no run may say."""
    return [f"said {words!r}: {last_lines(run)}" for words in NEVER_SAID if words in run.text]


def last_lines(run: Ended) -> str:
    """The end of what a run said."""
    said = [line.strip() for line in run.err.splitlines() if line.strip()]
    return " | ".join(said[-3:])


def one_of_each_kind(told: Sequence[Reference]) -> Iterator[tuple[Reference, CrashPoint]]:
    """Of each kind of write and each moment one point, taken from one story after the other."""
    by_kind: dict[tuple[str, Moment], list[list[tuple[Reference, CrashPoint]]]] = {}
    for reference in told:
        own: dict[tuple[str, Moment], list[tuple[Reference, CrashPoint]]] = {}
        for point in reference.points:
            own.setdefault((point.write.kind, point.moment), []).append((reference, point))
        for kind, same in own.items():
            by_kind.setdefault(kind, []).append(same)
    for position, stories in enumerate(by_kind.values()):
        same = stories[position % len(stories)]
        yield same[position % len(same)]
