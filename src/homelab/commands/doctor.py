"""`python -m homelab.main doctor`: looks at everything that a run needs, and changes nothing."""

from __future__ import annotations

from homelab import assembly
from homelab.models import Finding
from homelab.report import Report
from homelab.runtime import Clock
from homelab.settings import Config, Via


def run(config: Config, via: Via, report: Report, clock: Clock) -> int:
    """Say what is amiss on each node, with its cure. Exit code: 0 nothing, 1 something, 2 the configuration."""
    with assembly.connect(config, via, report, clock, is_dry_run=True) as homelab:
        names = [node.name for node in homelab.config.nodes if homelab.config.wishes.is_worked_on(node.number)]
        findings = [Finding(name, problem) for name, problem in homelab.unreached.items() if name in names]
        return report.examined(names, findings)
