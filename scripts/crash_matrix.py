"""Every crash point of every story and many random worlds, or every fault at every request, on all cores."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.queues import Queue
from queue import Empty

from hypothesis import HealthCheck, Phase, given, seed, settings

from crash import matrix, mishaps
from crash.arena import Arena
from crash.living import Life
from crash.processes import Endless
from crash.stories import STORIES, WIRES
from crash.worlds import Setting, settings_of_worlds
from pvelab.lab import LabBroken
from pvelab.spec import LabSpec, nodes_called
from support.cores import stay_on_core
from support.quiet_ssh import leave_packets_unlogged

WORLDS = 2000
WORLDS_AT_ONCE = 50
LOOK_EVERY_S = 5.0
FAULT_PARTS = 12
"""In so many parts are the faults of a story done, so that no core is left with a long one at the end."""
FAULT_STORIES = (("stuck", "auto"), ("stuck", "ssh"), ("fresh", "auto"))


@dataclass(frozen=True, slots=True)
class Job:
    """Something for one core. `kind` is crash, fault or world; `part` of a story's faults, or of the worlds."""

    kind: str
    story: str = ""
    via: str = ""
    part: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """How one point or world came out; no problems are good. A job that is over has no name."""

    kind: str
    name: str = ""
    problems: tuple[str, ...] = ()
    took_s: float = 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is asked for; 0 if nothing failed."""
    arguments = _parser().parse_args(argv)
    jobs = _fault_jobs() if arguments.fault_matrix else _crash_jobs(arguments.worlds)
    _say(f"seed {arguments.seed}, {arguments.cores} processes")
    found: Counter[str] = Counter()
    for result in _carried_out(jobs, arguments.cores, arguments.seed):
        found[result.kind] += 1
        found["failures"] += bool(result.problems)
        _say(f"{'FAILED' if result.problems else 'ok':<6} {result.took_s:5.1f} s  {result.name}")
        for problem in result.problems:
            _say(f"           {problem}")
    if arguments.fault_matrix:
        _say(f"stories {len(FAULT_STORIES)}, faults {found['fault']}, failures: {found['failures']}")
    else:
        told = f"stories {len(STORIES)}, crash points {found['crash']}, worlds {found['world']}"
        _say(f"{told}, failures: {found['failures']}")
    return int(found["failures"] > 0)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, allow_abbrev=False)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--crash-matrix", action="store_true", help="kill runs at every write, and let random worlds live"
    )
    what.add_argument("--fault-matrix", action="store_true", help="every fault at every kind of request")
    parser.add_argument("--worlds", type=int, default=WORLDS, metavar="N", help="how many random worlds")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="what the random worlds are drawn from")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, metavar="N", help="how many processes")
    return parser


def _crash_jobs(worlds: int) -> list[Job]:
    points = [Job("crash", name, via) for name in STORIES for via in WIRES]
    starts = range(0, worlds, WORLDS_AT_ONCE)
    return points + [Job("world", part=start, count=min(WORLDS_AT_ONCE, worlds - start)) for start in starts]


def _fault_jobs() -> list[Job]:
    return [Job("fault", story, via, part) for story, via in FAULT_STORIES for part in range(FAULT_PARTS)]


# --- on all cores ----------------------------------------------------------------------------------------------------


def _carried_out(jobs: Sequence[Job], cores: int, base_seed: int) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")
    todo: Queue[Job | None] = context.Queue()
    done: Queue[Result] = context.Queue()
    for job in (*jobs, *[None] * cores):
        todo.put(job)
    workers = [context.Process(target=_work, args=(todo, done, base_seed, core)) for core in range(cores)]
    for worker in workers:
        worker.start()
    left = len(jobs)
    while left and any(worker.is_alive() for worker in workers):
        try:
            result = done.get(timeout=LOOK_EVERY_S)
        except Empty:
            continue
        if result.name:
            yield result
        else:
            left -= 1
    if left:
        yield Result("job", "a process ended before its work was done", ("see its output above",))
    for worker in workers:
        worker.join()


def _work(todo: Queue[Job | None], done: Queue[Result], base_seed: int, core: int) -> None:
    """One core: an arena for stories and one for worlds."""
    stay_on_core(core)
    leave_packets_unlogged()
    with Arena() as arena, Arena(LabSpec(nodes=nodes_called("4"))) as wide:
        while job := todo.get():
            try:
                for result in _results(job, wide if job.kind == "world" else arena, base_seed):
                    done.put(result)
            except Exception as failure:  # noqa: BLE001
                last = traceback.format_exception(failure)[-1].strip()
                done.put(Result(job.kind, str(job), (last, *_where(failure))))
            done.put(Result(job.kind))


def _where(failure: BaseException) -> list[str]:
    return [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(failure.__traceback__)[-3:]]


def _results(job: Job, arena: Arena, base_seed: int) -> Iterator[Result]:
    if job.kind == "world":
        yield from _worlds(arena, base_seed * 1_000_003 + job.part, job.count)
    elif job.kind == "crash":
        told = matrix.tell(arena, STORIES[job.story], job.via)
        for point in told.points:
            name = f"{job.story} {job.via} {point}"
            yield _timed(job.kind, name, partial(matrix.crash, arena, told, point))
    else:
        trouble = mishaps.tell(arena, STORIES[job.story], job.via)
        for mishap in list(trouble.mishaps)[job.part :: FAULT_PARTS]:
            name = f"{job.story} {job.via} {mishap}"
            yield _timed(job.kind, name, partial(mishaps.suffer, arena, trouble, mishap))


def _timed(kind: str, name: str, work: Callable[[], Sequence[str]]) -> Result:
    began_s = time.monotonic()
    try:
        problems = tuple(work())
    except (AssertionError, LabBroken, Endless) as failure:
        problems = (f"{type(failure).__name__}: {failure}",)
    return Result(kind, name, problems, time.monotonic() - began_s)


def _worlds(arena: Arena, number: int, count: int) -> list[Result]:
    results: list[Result] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(settings_of_worlds())
    def live(setting: Setting) -> None:
        result = _timed("world", f"world {number}.{len(results)}", lambda: Life(arena, setting).live())
        told = (str(setting), *result.problems) if result.problems else ()
        results.append(Result("world", result.name, told, result.took_s))

    live()
    return results


if __name__ == "__main__":
    sys.exit(main())
