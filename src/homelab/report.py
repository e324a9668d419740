"""The only printer: progress and errors on stderr, the report on stdout, as text or JSON, without secrets."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import TextIO

from homelab import details, findings, masking
from homelab.errors import ConfigError, ExitCode, HomelabError, Problem
from homelab.findings import Row
from homelab.legible import legible
from homelab.models import GIB, Action, Finding, Matter, NodePlan, Outcome, Plan, Size, Status, Verdict
from homelab.settings import Config, Secret

TO_CHANGE = "change"
"""What would be changed, where nothing is."""
MARKS = {Status.OK: "ok", Status.CHANGED: "changed", Status.SKIPPED: "skipped", Status.FAILED: "FAILED"}
News = Callable[[Sequence[Matter], Collection[str]], Sequence[Matter]]
"""Which of these matters are new to the person who reads, all being known of these nodes."""
STYLES = {Status.OK: "green", Status.CHANGED: "cyan", Status.SKIPPED: "dim", Status.FAILED: "bold red"}


@dataclass(slots=True)
class Report:
    """Collects what happened on every node and says it at the end; with `is_cron` only what is new."""

    is_json: bool = False
    is_quiet: bool = False
    is_verbose: bool = False
    is_dry_run: bool = False
    is_cron: bool = False
    secrets: tuple[Secret, ...] = ()
    news: News | None = None
    _plan: Plan | None = None
    _outcomes: list[Outcome] = field(default_factory=list)
    _warnings: list[str] = field(default_factory=list)
    _running: set[str] = field(default_factory=set)
    _is_interrupted: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # --- while it runs ---------------------------------------------------------------------------------------

    def progress(self, text: str) -> None:
        """One thing that is being done now; not shown with --quiet, nor to cron."""
        if not self.is_quiet and not self.is_cron:
            self._error_line(text)

    def details(self) -> AbstractContextManager[None]:
        """What the rooms log is shown while this lasts: warnings always, each request with --verbose."""
        return details.told(self._detail, is_verbose=self.is_verbose)

    def _detail(self, level: int, text: str) -> None:
        if level >= logging.WARNING:
            self.warn(text)
        else:
            self._error_line(text)

    def hide(self, *secrets: Secret) -> None:
        """Show these no more; for what is learned while it runs."""
        with self._lock:
            self.secrets = tuple(dict.fromkeys((*self.secrets, *secrets)))

    def fallback(self, node: str, reason: str) -> None:
        """A node's API could not be used."""
        self.progress(f"{node}: using CLI fallback ({reason})")

    def say(self, text: str) -> None:
        """A line of the answer itself, on stdout."""
        self._line(text)

    def say_json(self, told: dict[str, object]) -> None:
        """The whole answer, on stdout."""
        _write(sys.stdout, json.dumps(masking.masked_data(told, self.secrets), indent=2))

    def warn(self, text: str) -> None:
        """To cron it is said at the end, if it is new; in the JSON it stands too."""
        self._warnings.append(text)
        if not self.is_cron or self.is_dry_run:
            self._error_line(f"warning: {text}")

    def problem(self, problem: Problem, kind: str = "error") -> None:
        """The cure just before the error, the error last."""
        if problem.cure:
            self._error_line(f"  try: {problem.cure}")
        self._error_line(f"{kind}: {problem}")

    def refuse(self, error: ConfigError) -> int:
        """Nothing is contacted: say every problem of the configuration."""
        for problem in error.problems:
            self.problem(problem)
        self._error_line(f"{len(error.problems)} problem(s) in the configuration; nothing was contacted")
        return self._ended(ExitCode.CONFIGURATION, error.problems)

    def abort(self, error: HomelabError) -> int:
        """The run cannot go on."""
        code = ExitCode.INTERRUPTED if self._is_interrupted else error.exit_code
        if self.is_cron and not self._new([Matter("", str(error))], {""}):
            return code
        self.problem(error.problem)
        return self._ended(code, [error.problem])

    def ending(self) -> None:
        """Ctrl-C or SIGTERM while nodes are worked on."""
        self._is_interrupted = True
        self.warn("interrupted: what was begun is finished, nothing new is begun; press Ctrl-C again to end at once")

    def interrupted(self) -> int:
        """Ctrl-C or SIGTERM before anything was begun, or for the second time."""
        problem = Problem("interrupted", "", "run again to go on from here")
        self._error_line(f"warning: {problem}; {problem.cure}")
        return self._ended(ExitCode.INTERRUPTED, [problem])

    def _ended(self, code: ExitCode, problems: Sequence[Problem]) -> ExitCode:
        """The end of a run that has no report; with --json that is said there too."""
        if self.is_json:
            self.say_json({"exit_code": int(code), "problems": [asdict(problem) for problem in problems]})
        return code

    # --- what came of it -------------------------------------------------------------------------------------

    def add(self, outcomes: Iterable[Outcome]) -> None:
        with self._lock:
            new = list(outcomes)
            self._outcomes += new
        for outcome in new:
            if outcome.status is Status.CHANGED and not self.is_dry_run:
                self.progress(f"{outcome.node}: {outcome.what}")

    def defect(self, node: str, error: Exception) -> None:
        """Something that this program did not expect; where it happened is among the details."""
        self.add([Outcome.failed(node, details.defect(error))])

    def runs(self, node: str) -> None:
        """The node's VM is running now."""
        with self._lock:
            self._running.add(node)

    def dropped(self, config: Config) -> None:
        """Nodes left out because of their own keys."""
        for node in config.dropped:
            if config.wishes.is_worked_on(node.number):
                self.add(Outcome.failed(node.name, problem) for problem in node.problems)

    def show_plan(self, plan: Plan) -> None:
        self._plan = plan
        for warning in plan.warnings:
            self.warn(warning)
        if self.is_dry_run:
            self.add(outcome for node in plan.nodes for outcome in _planned(node))
            self._running |= {node.name for node in plan.nodes if node.facts.vm and node.facts.vm.is_running}
        else:
            for node in plan.nodes:
                if node.is_write:
                    self.progress(f"{node.name}: {node.action.value}: {node.reason}")

    @property
    def exit_code(self) -> ExitCode:
        if self._is_interrupted:
            return ExitCode.INTERRUPTED
        if not any(outcome.status is Status.FAILED for outcome in self._outcomes):
            return ExitCode.OK
        untouched = self._plan.untouched if self._plan else ()
        is_any_running = self._running or any(node.vm and node.vm.is_running for node in untouched)
        return ExitCode.PARTLY if is_any_running else ExitCode.FAILED

    def finish(self) -> int:
        """Print the report; returns the exit code."""
        order = [node.name for node in self._plan.nodes] if self._plan else []
        self._outcomes.sort(key=lambda outcome: order.index(outcome.node) if outcome.node in order else len(order))
        shown = self._outcomes_to_show()
        failed = [outcome for outcome in shown if outcome.status is Status.FAILED]
        advised = [outcome for outcome in shown if outcome.cure and outcome not in failed]
        for kind, told in (("warning", advised), ("error", failed)):
            for problem in self._problems_in(told):
                self.problem(problem, kind)
        if self.is_cron and not shown:
            return self.exit_code
        if self.is_json:
            self.say_json(self._as_json())
        elif not self.is_quiet or failed:
            self._print_table(shown)
        return self.exit_code

    def examined(self, nodes: Sequence[str], found: Sequence[Finding]) -> int:
        """Print what was found amiss on these nodes and elsewhere; returns the exit code, 0 where nothing was."""
        left_out = [Finding(one.node, Problem(one.what, one.why, one.cure)) for one in self._outcomes]
        told = findings.by_problem([*left_out, *found])
        code = ExitCode.FAILED if told else ExitCode.OK
        if self.is_json:
            self.say_json(findings.as_json(code, nodes, told))
        elif not self.is_quiet or told:
            self._print_findings(findings.rows(nodes, told))
            self._line(findings.summary(nodes, told))
        return code

    def _print_findings(self, rows: Sequence[Row]) -> None:
        if sys.stdout.isatty():
            styled = [((row.where, ""), (row.kind, row.style), (row.text, ""), (row.cure, "")) for row in rows]
            self._print_rich(("node", "", "what", "try"), styled)
            return
        width = max((len(row.where) for row in rows), default=0)
        for row in rows:
            self._line(f"{row.where:<{width}}  {row.kind:<7}  {row.text}".rstrip())
            if row.cure:
                self._line(f"{'':<{width}}  try:     {row.cure}")

    def _problems_in(self, outcomes: Sequence[Outcome]) -> list[Problem]:
        """Each once. One that several nodes share is told once with their names, without those of their VMs."""
        shared: dict[Problem, dict[str, Outcome]] = {}
        for outcome in outcomes:
            problem = Problem(self._without_names(outcome), outcome.why, outcome.cure)
            shared.setdefault(problem, {}).setdefault(outcome.node, outcome)
        return [
            replace(problem, what=f"{', '.join(by_node)}: {problem.what}")
            if len(by_node) > 1
            else replace(problem, what=next(iter(by_node.values())).what)
            for problem, by_node in shared.items()
        ]

    def _without_names(self, outcome: Outcome) -> str:
        node = next((node for node in self._plan.nodes if node.name == outcome.node), None) if self._plan else None
        what = outcome.what.removeprefix(f"{outcome.node}: ")
        for name in (node.facts.vm_title, f"VM {node.config.vm_name}", node.config.vm_name) if node else ():
            what = what.replace(name, "VM")
        return what

    # --- what is new to cron ---------------------------------------------------------------------------------

    def _outcomes_to_show(self) -> list[Outcome]:
        """All; for cron those that changed something or need a person who does not know yet. Says new warnings."""
        if self.is_dry_run or self._is_interrupted:
            return self._outcomes
        matters = {outcome: matter for outcome in self._outcomes if (matter := self._matter(outcome))}
        warnings = {Matter("", text, is_trouble=False): text for text in self._warnings} if self.is_cron else {}
        plan = self._plan.nodes if self._plan else ()
        looked_at = {"", "k3s", *(node.name for node in plan), *(outcome.node for outcome in self._outcomes)}
        new = self._new([*warnings, *matters.values()], looked_at)
        if not self.is_cron:
            return self._outcomes
        for matter in new:
            if matter in warnings:
                self._error_line(f"warning: {matter.text}")
        fresh = [one for one in self._outcomes if one.status is Status.CHANGED or matters.get(one) in new]
        nodes = {outcome.node for outcome in fresh}
        return [one for one in self._outcomes if one in fresh or (one.node in nodes and one not in matters)]

    def _matter(self, outcome: Outcome) -> Matter | None:
        """What of it stays so when nobody does anything: troubles, and VMs that are down and left so."""
        text = _line_of(outcome)
        if outcome.status is Status.FAILED or outcome.cure:
            return Matter(outcome.node, text)
        is_left_down = outcome.status is Status.SKIPPED and any(
            node.name == outcome.node and node.facts.is_off and not node.is_write
            for node in (self._plan.nodes if self._plan else ())
        )
        return Matter(outcome.node, text, is_trouble=False) if is_left_down else None

    def _new(self, matters: Sequence[Matter], looked_at: Collection[str]) -> Sequence[Matter]:
        """Where nothing is remembered, everything is new."""
        if self.news is None:
            return matters
        try:
            return self.news(matters, looked_at)
        except HomelabError as error:
            self.problem(error.problem, "warning")
            return matters

    def _print_table(self, shown: Sequence[Outcome]) -> None:
        rows = [(one.node, one.status, _line_of(one).removeprefix(f"{one.node}: ")) for one in shown]
        marks = {**MARKS, Status.CHANGED: TO_CHANGE} if self.is_dry_run else MARKS
        if sys.stdout.isatty():
            styled = [((node, ""), (marks[status], STYLES[status]), (what, "")) for node, status, what in rows]
            self._print_rich(("node", "", "what"), styled)
        else:
            width = max((len(row[0]) for row in rows), default=0)
            for node, status, what in rows:
                self._line(f"{node:<{width}}  {marks[status]:<7}  {what}")
        self._line(self._summary())

    def _print_rich(self, columns: Sequence[str], rows: Iterable[Sequence[tuple[str, str]]]) -> None:
        """`rows` hold the text and the style of each column."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns)
        for row in rows:
            table.add_row(*(Text(self._masked(text), style) for text, style in row))
        Console().print(table)

    def _summary(self) -> str:
        failed = sum(outcome.status is Status.FAILED for outcome in self._outcomes)
        changed = sum(outcome.status is Status.CHANGED for outcome in self._outcomes)
        count = len(self._plan.nodes) if self._plan else 0
        nodes = f"{count} node{'s' * (count != 1)}"
        if self.is_dry_run:
            return f"{nodes}; {changed} to change, {failed} with a problem; nothing was changed (--dry-run)"
        return f"{nodes}, {len(self._running)} with their VM running; {changed} changed, {failed} failed"

    def _as_json(self) -> dict[str, object]:
        outcomes = [{**asdict(outcome), "status": outcome.status.value} for outcome in self._outcomes]
        plan = self._plan.nodes if self._plan else ()
        return {
            "exit_code": int(self.exit_code),
            "dry_run": self.is_dry_run,
            "nodes": [
                {
                    "node": node.name,
                    "verdict": node.facts.verdict.value,
                    "action": node.action.value,
                    "reason": node.reason,
                    "rule": node.rule.value if node.rule else None,
                    "size": asdict(node.size) if node.size else None,
                    "vmid": node.facts.vm.vmid if node.facts.vm else None,
                    "running": node.name in self._running,
                }
                for node in plan
            ],
            "outcomes": outcomes,
            "warnings": list(dict.fromkeys(self._warnings)),
        }

    # --- printing --------------------------------------------------------------------------------------------

    def _line(self, text: str) -> None:
        _write(sys.stdout, self._masked(text))

    def _error_line(self, text: str) -> None:
        _write(sys.stderr, self._masked(text))

    def _masked(self, text: str) -> str:
        return legible(masking.masked(text, self.secrets))


def _write(stream: TextIO, line: str) -> None:
    """In one write, so that the lines of several threads do not mix. When nobody reads any more, the work goes on.

    What the stream's encoding has no letters for is written as `\\xe4`.
    """
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(f"{line}\n".encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _line_of(outcome: Outcome) -> str:
    return f"{outcome.what}: {outcome.why}" if outcome.why else outcome.what


def _size(size: Size | None) -> str:
    if size is None:
        return ""
    cores = f"{size.cores} core{'s' * (size.cores > 1)}"
    return f"; {cores}, {size.memory_mib} MiB, disk {size.disk_bytes / GIB:.4g} GiB"


def _planned(node: NodePlan) -> tuple[Outcome, ...]:
    rule = f" [{node.rule.value}]" if node.rule else ""
    if node.problem and not node.is_write:
        return tuple(
            Outcome.failed(node.name, replace(problem, why=f"{problem.why}{rule}")) for problem in node.problems
        )
    if node.action is Action.KEEP and node.facts.verdict is Verdict.JOINING:
        return (Outcome(node.name, Status.CHANGED, f"{node.facts.vm_title}: join: {node.reason}"),)
    status = {Action.KEEP: Status.OK, Action.NOTHING: Status.SKIPPED}.get(node.action, Status.CHANGED)
    cure = "; ".join(problem.cure for problem in node.problems)
    note = f" ({node.note})" if node.note else ""
    what = f"{node.facts.vm_title}: {node.action.value}: {node.reason}{_size(node.size)}{rule}{note}"
    return (Outcome(node.name, status, what, cure=cure),)
