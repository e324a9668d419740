"""Brings every configured Proxmox node to one healthy VM joined to the k3s cluster: the story, top to bottom."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from homelab import cli
from homelab.errors import ConfigError, HomelabError

if TYPE_CHECKING:
    from homelab.assembly import Homelab
    from homelab.models import NodePlan
    from homelab.report import Report
    from homelab.runtime import Clock, Interruption


def main(argv: Sequence[str] | None = None, *, clock: Clock | None = None) -> int:
    """Run once; returns the exit code (see errors.ExitCode). What only a run needs is imported here, not for --help."""
    try:
        options = cli.parse_arguments(argv)
    except SystemExit as usage:
        return int(usage.code or 0)
    from homelab import assembly, commands, config
    from homelab.report import Report
    from homelab.runtime import SystemClock, ended_like_ctrl_c

    is_cron = options.asked.is_unattended and not options.is_dry_run
    report = Report(options.is_json, options.is_quiet, options.is_verbose, options.is_dry_run, is_cron)
    clock = clock or SystemClock()
    try:
        settings = config.with_wishes(config.load(options.env_file, options.via), options.asked)
        with ended_like_ctrl_c():
            if options.command:
                return commands.chosen(options.command)(settings, options.via, report, clock)
            with assembly.connect(settings, options.via, report, clock, is_dry_run=options.is_dry_run) as homelab:
                return run(homelab, report, is_dry_run=options.is_dry_run)
    except ConfigError as error:
        return report.refuse(error)
    except HomelabError as error:
        return report.abort(error)
    except KeyboardInterrupt:
        return report.interrupted()


def run(homelab: Homelab, report: Report, *, is_dry_run: bool) -> int:
    """Observe, plan, check, then bring every node to its wanted state, one node's failure never stopping the others."""
    from homelab import k3s_manager, vm_manager

    if not is_dry_run:
        homelab.vms.resume(homelab.marker.take, report.progress, report.warn)
    facts = homelab.health.observe(homelab.k3s.observe)
    homelab.marker.notice(facts.pools)
    plan = vm_manager.plan(homelab.config, facts)
    plan = homelab.preflight.check(plan)
    plan = homelab.images.note_age(plan, is_dry_run=is_dry_run)
    plan = k3s_manager.foresee(plan)
    report.show_plan(plan)
    if is_dry_run:
        return report.finish()

    def bring(node: NodePlan) -> None:
        result = homelab.vms.apply(node)
        report.add(result.outcomes)
        if result.running is None:
            homelab.k3s.leave_out(node)
            return
        report.runs(node.name)
        report.add(homelab.k3s.join(node, result.running, facts.k3s))

    if plan.writes:
        homelab.marker.take()
    homelab.vms.prepare(plan)
    homelab.k3s.prepare(plan)
    side_by_side(bring, plan.nodes, report, homelab.journal.interruption)
    homelab.images.tidy()
    if not homelab.journal.interruption.is_wanted:
        report.add(homelab.k3s.review(facts.k3s))
    return report.finish()


def side_by_side(
    work: Callable[[NodePlan], None], nodes: Sequence[NodePlan], report: Report, interruption: Interruption
) -> None:
    """Work on all nodes at once. Ctrl-C lets writes in flight end and begins nothing new; the second one ends at once.

    A defect of this program that one node brings to light is that node's failure, and does not stop the others.
    """

    from homelab.runtime import begun

    def guarded(node: NodePlan) -> None:
        try:
            work(node)
        except Exception as defect:  # noqa: BLE001
            report.defect(node.name, defect)

    interruption.wait_for([begun(partial(guarded, node), node.name) for node in nodes], report.ending)


if __name__ == "__main__":
    sys.exit(main())
