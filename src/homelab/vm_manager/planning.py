"""From what was observed to what will be done. Pure: no calls, no clock."""

from __future__ import annotations

from homelab.errors import Problem
from homelab.models import TAG_KEEP, Action, Facts, NodeFacts, NodePlan, Plan, Verdict
from homelab.settings import Config, StoppedVm

GRACE_AFTER_BOOT_S = 600


def plan(config: Config, facts: Facts) -> Plan:
    """Decide for every node, in the order of n. Replacements beyond MAX_REPLACEMENTS become starts."""
    is_power_cut = sum(node.is_down for node in facts.nodes) >= 2
    replacements_left = config.policy.max_replacements
    nodes = []
    for node in facts.nodes:
        node_plan = _plan_node(node, config.policy.stopped_vm, is_power_cut=is_power_cut)
        if node_plan.action is Action.REPLACE and node.is_down:
            if replacements_left <= 0:
                used_up = f"{node.reason}; MAX_REPLACEMENTS={config.policy.max_replacements} is used up"
                node_plan = _start(node, used_up, may_replace=False)
            replacements_left -= 1
        nodes.append(node_plan)
    return Plan(tuple(nodes), facts.k3s, facts.warnings)


def _plan_node(node: NodeFacts, stopped_vm: StoppedVm, *, is_power_cut: bool) -> NodePlan:
    match node.verdict:
        case Verdict.ABSENT | Verdict.UNREACHABLE if not node.config.is_enabled:
            return NodePlan(node, Action.NOTHING, f"{node.config.key('NODE_ENABLED')}=0, nothing is wanted there")
        case Verdict.UNREACHABLE | Verdict.UNKNOWN:
            what = f"{node.vm_title} is kept" if node.vm else f"{node.name}: nothing done"
            return NodePlan(node, Action.NOTHING, node.reason, Problem(what, node.reason, node.cure))
        case Verdict.HEALTHY | Verdict.JOINING:
            return NodePlan(node, Action.KEEP, node.reason)
        case Verdict.ABSENT:
            return NodePlan(node, Action.CREATE, node.reason)
        case Verdict.UNFINISHED:
            return _plan_unfinished(node)
    return _plan_down(node, stopped_vm, is_power_cut=is_power_cut)


def _plan_unfinished(node: NodeFacts) -> NodePlan:
    if choice := _kept_by_mark(node):
        return NodePlan(node, Action.NOTHING, choice)
    if node.found.status.status == "running" or node.power.last_vm_start_time is not None:
        return NodePlan(node, Action.FINISH, node.reason)
    if node.guards:
        return _guarded(node)
    return NodePlan(node, Action.REPLACE, f"{node.reason}; it never booted and is made again")


def _plan_down(node: NodeFacts, stopped_vm: StoppedVm, *, is_power_cut: bool) -> NodePlan:
    """The rules for stopped and paused VMs, in their order."""
    if choice := _kept_by_choice(node, stopped_vm):
        return NodePlan(node, Action.KEEP, choice)
    if _has_just_booted(node):
        return _after_boot(node)
    if is_power_cut or node.power.host_booted_after_vm:
        return _start(node, f"{node.reason}, as after a power cut", may_replace=True)
    if stopped_vm is StoppedVm.START:
        return _start(node, f"{node.reason}; STOPPED_VM=start", may_replace=True)
    if node.guards:
        return _guarded(node)
    return NodePlan(node, Action.REPLACE, node.reason)


def _kept_by_choice(node: NodeFacts, stopped_vm: StoppedVm) -> str:
    if stopped_vm is StoppedVm.KEEP:
        return f"{node.reason}; STOPPED_VM=keep"
    return _kept_by_mark(node)


def _kept_by_mark(node: NodeFacts) -> str:
    if TAG_KEEP in node.found.config.tags:
        return f"{node.reason}; it carries the tag {TAG_KEEP}"
    if not node.config.is_enabled:
        return f"{node.reason}; {node.config.key('NODE_ENABLED')}=0"
    return ""


def _has_just_booted(node: NodeFacts) -> bool:
    return node.power.host_uptime_s is None or node.power.host_uptime_s < GRACE_AFTER_BOOT_S


def _after_boot(node: NodeFacts) -> NodePlan:
    """Nothing is deleted on a host that has just come up; a VM with onboot=1 is Proxmox' to start."""
    uptime_s = node.power.host_uptime_s
    since = "its uptime cannot be read" if uptime_s is None else f"up for only {uptime_s // 60} min"
    if not node.found.config.starts_on_boot:
        return _start(node, f"{node.reason}; host {since}", may_replace=False)
    problem = Problem(
        f"{node.vm_title} is {node.verdict.value}",
        f"host {node.name}: {since}, and the VM has onboot=1: it is left to start by itself",
        f"run again when the host has been up for {GRACE_AFTER_BOOT_S // 60} minutes",
    )
    return NodePlan(node, Action.KEEP, problem.why, problem)


def _start(node: NodeFacts, reason: str, *, may_replace: bool) -> NodePlan:
    if not _may_start(node):
        return _guarded(node)
    return NodePlan(node, Action.START, reason, may_replace=may_replace and not node.guards)


def _guarded(node: NodeFacts) -> NodePlan:
    """Deleting is forbidden; starting is not, unless the VM never booted, or is a template, locked or HA-managed."""
    may_start = node.is_down and _may_start(node)
    done = "is started, not replaced" if may_start else "is kept"
    problem = Problem(
        f"{node.vm_title} {done}",
        f"{node.reason}, but " + "; ".join(guard.sentence for guard in node.guards),
        "; ".join(dict.fromkeys(guard.cure for guard in node.guards)),
    )
    return NodePlan(node, Action.START if may_start else Action.NOTHING, problem.why, problem)


def _may_start(node: NodeFacts) -> bool:
    vm = node.found
    return not (vm.config.is_template or vm.status.lock or vm.status.is_ha_managed)
