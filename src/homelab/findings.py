"""What was found amiss, as rows of a table and as JSON; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from homelab.errors import Problem
from homelab.models import Finding

FINE = "ok"
STYLES = {FINE: "green", "error": "bold red", "warning": "yellow", "unknown": "magenta"}
EVERYWHERE = "all"


@dataclass(frozen=True, slots=True)
class Told:
    """A finding, told once without a node in its words, and the nodes that share it; none: it concerns all."""

    finding: Finding
    nodes: tuple[str, ...]

    @property
    def problem(self) -> Problem:
        return self.finding.problem


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: which nodes, `ok` or how bad it is, what is amiss, and its cure."""

    where: str
    kind: str
    text: str = ""
    cure: str = ""

    @property
    def style(self) -> str:
        """How `kind` looks on a terminal."""
        return STYLES[self.kind]


def by_problem(findings: Iterable[Finding]) -> list[Told]:
    """Each problem once."""
    shared: dict[Finding, list[str]] = {}
    for one in findings:
        problem = replace(one.problem, what=one.problem.what.removeprefix(f"{one.node}: "))
        shared.setdefault(replace(one, node="", problem=problem), []).append(one.node)
    return [Told(finding, tuple(dict.fromkeys(filter(None, nodes)))) for finding, nodes in shared.items()]


def rows(nodes: Sequence[str], told: Sequence[Told]) -> list[Row]:
    """First the nodes with which all is well, then everything that is not."""
    amiss = {node for one in told for node in one.nodes}
    fine = [Row(node, FINE) for node in nodes if node not in amiss]
    bad = (
        Row(", ".join(one.nodes) or EVERYWHERE, one.finding.severity.value, str(one.problem), one.problem.cure)
        for one in told
    )
    return [*fine, *bad]


def summary(nodes: Sequence[str], told: Sequence[Told]) -> str:
    count = f"{len(told)} finding{'s' * (len(told) != 1)}" if told else "nothing is amiss"
    return f"{len(nodes)} node{'s' * (len(nodes) != 1)} looked at, {count}; nothing was changed"


def as_json(exit_code: int, nodes: Sequence[str], told: Sequence[Told]) -> dict[str, object]:
    found = [{"nodes": list(one.nodes), "severity": one.finding.severity.value, **asdict(one.problem)} for one in told]
    return {"exit_code": exit_code, "nodes": list(nodes), "findings": found}
