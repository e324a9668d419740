"""`python -m homelab.main doctor`: looks at everything that a run needs, and changes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from homelab import assembly, vm_manager
from homelab.assembly import Homelab
from homelab.errors import HomelabError, Problem
from homelab.models import Action, Facts, Finding, NodePlan, Severity, Verdict
from homelab.report import Report
from homelab.runtime import Clock
from homelab.settings import Config, Via


def run(config: Config, via: Via, report: Report, clock: Clock) -> int:
    """Say what is amiss on each node, with its cure. Exit code: 0 nothing, 1 something; no node is fine unseen."""
    try:
        with assembly.connect(config, via, report, clock, is_dry_run=True) as homelab:
            return report.examined(_names(homelab.config), examine(homelab))
    except HomelabError as error:
        return report.examined([], [Finding("", error.problem)])


def _names(config: Config) -> list[str]:
    """The nodes that are asked about."""
    return [node.name for node in config.nodes if node.is_enabled and config.wishes.is_worked_on(node.number)]


def examine(homelab: Homelab) -> list[Finding]:
    """Everything at once, on each node as though its VM were to be made."""
    facts = homelab.health.observe(homelab.k3s.observe)
    names = set(_names(homelab.config))
    nodes = [node for node in vm_manager.plan(homelab.config, facts).nodes if node.name in names]
    with ThreadPoolExecutor(max_workers=len(nodes) + 1) as pool:
        of_k3s = pool.submit(_of_k3s, homelab, facts)
        of_nodes = list(pool.map(lambda node: _of_node(homelab, node), nodes))
        findings = [finding for found in of_nodes for finding in found]
        warnings = [Finding("", Problem(text, "", ""), Severity.WARNING) for text in facts.warnings]
        return [*warnings, *findings, *of_k3s.result()]


def _of_node(homelab: Homelab, node: NodePlan) -> list[Finding]:
    name, facts = node.name, node.facts
    if name in homelab.unreached:
        return [Finding(name, homelab.unreached[name])]
    made = NodePlan(facts, Action.REPLACE if facts.vm else Action.CREATE, node.reason)
    found = list(homelab.preflight.examine(made))
    if facts.vm is None and facts.verdict is Verdict.UNKNOWN:
        found.insert(0, Finding(name, Problem(f"{name}: {facts.reason}", "", facts.cure)))
    elif facts.vm is None and node.problem:
        found.insert(0, Finding(name, node.problem))
    return _told_once(found)


def _told_once(findings: list[Finding]) -> list[Finding]:
    """Without what could not be read for a reason that was told before: the same cure mends it."""
    cures: set[str] = set()
    told = []
    for finding in findings:
        if finding.severity is not Severity.UNKNOWN or finding.problem.cure not in cures:
            told.append(finding)
        cures.add(finding.problem.cure)
    return told


def _of_k3s(homelab: Homelab, facts: Facts) -> list[Finding]:
    """Could a new machine join? The cluster is the same for all nodes."""
    if facts.k3s.problem:
        return [Finding("", facts.k3s.problem)]
    try:
        homelab.k3s.check_joinable()
    except HomelabError as error:
        return [Finding("", error.problem)]
    return [Finding("", problem, Severity.WARNING) for problem in homelab.k3s.unanswering()]
