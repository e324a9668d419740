"""From what was observed to what will be done. Pure: no calls, no clock."""

from __future__ import annotations

from homelab.errors import Problem
from homelab.models import TAG_KEEP, Action, Facts, K3sFacts, NodeFacts, NodePlan, Plan, Verdict
from homelab.settings import Config, StoppedVm

GRACE_AFTER_BOOT_S = 600


def plan(config: Config, facts: Facts) -> Plan:
    """Decide for every node, in the order of n. Where no replacement is allowed, it becomes a start."""
    is_power_cut = sum(node.is_off for node in facts.nodes) >= 2
    nodes = (_plan_node(node, config.policy.stopped_vm, facts.k3s, is_power_cut=is_power_cut) for node in facts.nodes)
    may_replace = config.policy.max_replacements > 0
    return Plan(tuple(node if may_replace else _not_replaced(node) for node in nodes), facts.k3s, facts.warnings)


def _not_replaced(node: NodePlan) -> NodePlan:
    """Without replacements; making an unfinished VM again is none."""
    if node.action is not Action.REPLACE or not node.facts.is_down:
        return node
    return _start(node.facts, f"{node.reason}; MAX_REPLACEMENTS=0 is used up", may_replace=False)


def _plan_node(node: NodeFacts, stopped_vm: StoppedVm, k3s: K3sFacts, *, is_power_cut: bool) -> NodePlan:
    if not node.config.is_enabled:
        return _plan_disabled(node)
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
    return _plan_down(node, stopped_vm, is_power_cut=is_power_cut)


def _plan_disabled(node: NodeFacts) -> NodePlan:
    """Whatever is there is left alone, joined to nothing, and no trouble."""
    setting = f"{node.config.key('NODE_ENABLED')}=0"
    reason = f"{node.reason}; {setting}" if node.vm else f"{setting}, nothing is wanted there"
    return NodePlan(node, Action.NOTHING, reason)


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


def _plan_unfinished(node: NodeFacts) -> NodePlan:
    if choice := _kept_by_mark(node):
        return NodePlan(node, Action.NOTHING, choice)
    if node.found.status.status == "running" or not node.power.has_never_run:
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
