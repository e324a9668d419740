"""From what was observed to what will be done. Pure: no calls, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from homelab.errors import Problem
from homelab.models import Action, Facts, K3sFacts, NodeFacts, NodePlan, Plan, Rule, Verdict
from homelab.settings import Config
from homelab.vm_manager.rules import (
    Situation,
    guarded,
    has_just_booted,
    is_off_by_choice,
    kept_by_mark,
    plan_down,
    plan_named,
    start,
)


def plan(config: Config, facts: Facts) -> Plan:
    """Decide for every node that this run is about, in the order of n.

    How many VMs are down counts over all nodes. Where no replacement is allowed, it becomes a start.
    """
    wishes = config.wishes
    situation = Situation(config.policy.stopped_vm, wishes, config.api.token, _is_power_cut(config, facts))
    mine = [node for node in facts.nodes if wishes.is_worked_on(node.config.number)]
    others = tuple(node for node in facts.nodes if not wishes.is_worked_on(node.config.number))
    nodes = [_plan_node(node, situation, facts.k3s) for node in mine]
    return Plan(_within_limit(nodes, config.policy.max_replacements), facts.k3s, facts.warnings, others)


def _is_power_cut(config: Config, facts: Facts) -> bool:
    """Are two or more down? Unattended, those that are down by choice are no sign of it: it would start a parked VM."""
    down = [node for node in facts.nodes if node.is_off]
    if config.wishes.is_unattended:
        down = [node for node in down if not is_off_by_choice(node, config.policy.stopped_vm)]
    return len(down) >= 2


def _within_limit(nodes: Sequence[NodePlan], most: int) -> tuple[NodePlan, ...]:
    """Those that earlier runs had begun come first, and are ended in any case; the others in the order of n."""
    left = most - sum(node.goes_on_replacing for node in nodes)
    limited = []
    for node in nodes:
        if node.rule is not None and node.is_counted:
            left -= 1
            if left < 0:
                reason = f"{node.reason}; MAX_REPLACEMENTS={most} is used up"
                node = start(node.facts, reason, node.rule, may_replace=False)
        limited.append(node)
    return tuple(limited)


def _plan_node(node: NodeFacts, situation: Situation, k3s: K3sFacts) -> NodePlan:
    wishes, number = situation.wishes, node.config.number
    if not node.config.is_enabled:
        return _plan_disabled(node, is_named=number in wishes.replaced)
    if node.verdict is Verdict.UNFINISHED and node.past.claimed_by:
        return _plan_claimed(node)
    if number in wishes.replaced and node.vm:
        return plan_named(node, is_forced=number in wishes.forced)
    match node.verdict:
        case Verdict.UNREACHABLE | Verdict.UNKNOWN:
            what = f"{node.vm_title} is kept" if node.vm else f"{node.name}: nothing done"
            return NodePlan(node, Action.NOTHING, node.reason, Problem(what, node.reason, node.cure))
        case Verdict.HEALTHY | Verdict.JOINING:
            return NodePlan(node, Action.KEEP, node.reason)
        case Verdict.ABSENT:
            return _plan_absent(node, k3s)
        case Verdict.UNFINISHED:
            return _plan_unfinished(node)
    planned = plan_down(node, situation)
    return _going_on(planned, k3s) if planned.rule not in (Rule.CHOICE, Rule.GRACE) else planned


def _going_on(planned: NodePlan, k3s: K3sFacts) -> NodePlan:
    """A machine whose membership an earlier run has ended could not come back by being started: its turn is over."""
    node = planned.facts
    was_member = node.past.replacing is not None and node.past.replacing.role != ""
    has_left = k3s.is_known and node.found.config.uuid not in {one.system_uuid for one in k3s.nodes}
    if not (node.is_leaving and was_member and has_left) or node.guards:
        return planned
    return NodePlan(node, Action.REPLACE, f"{node.reason}; an earlier run had begun to replace it")


def _plan_disabled(node: NodeFacts, *, is_named: bool) -> NodePlan:
    """Whatever is there is left alone, joined to nothing, and no trouble, unless a person names it."""
    setting = f"{node.config.key('NODE_ENABLED')}=0"
    reason = f"{node.reason}; {setting}" if node.vm else f"{setting}, nothing is wanted there"
    plan = NodePlan(node, Action.NOTHING, reason)
    if not is_named:
        return plan
    cure = f"set {node.config.key('NODE_ENABLED')}=1, or leave --replace out"
    return replace(plan, problem=Problem(f"{node.vm_title} is not replaced", reason, cure))


def _plan_absent(node: NodeFacts, k3s: K3sFacts) -> NodePlan:
    """A machine that is a Ready member under the VM's name is this VM under another name, or another machine."""
    name = node.config.vm_name
    member = k3s.node(name)
    if member is None or not member.is_ready:
        return NodePlan(node, Action.CREATE, node.reason)
    problem = Problem(
        f"{node.name}: no VM is made",
        f"{node.reason}, but a machine is a Ready member of k3s under that name",
        f"kubectl get node {name} -o wide shows which; a VM that was renamed: give it its name back, or set "
        f"{node.config.key('VM_NAME')}; one that was just deleted: run again in a minute",
    )
    return NodePlan(node, Action.NOTHING, problem.why, problem)


def _plan_claimed(node: NodeFacts) -> NodePlan:
    """A run of another machine, which no pool tells of, may be at work on it."""
    problem = Problem(
        f"{node.vm_title} is kept",
        f"another run is making it: {node.past.claimed_by}",
        "wait until that run has ended; if it was killed, run again after that time, or take the line "
        "'homelab: being made by ...' out of the VM's notes",
    )
    return NodePlan(node, Action.NOTHING, problem.why, problem)


def _plan_unfinished(node: NodeFacts) -> NodePlan:
    if choice := kept_by_mark(node):
        return NodePlan(node, Action.NOTHING, choice)
    if node.found.status.status == "running" or not node.power.has_never_run:
        return NodePlan(node, Action.FINISH, node.reason)
    if node.guards:
        return guarded(node)
    if has_just_booted(node) and not node.found.status.lock:
        return NodePlan(node, Action.FINISH, f"{node.reason}; nothing is deleted on a host that has just come up")
    return NodePlan(node, Action.REPLACE, f"{node.reason}; it never booted and is made again")
