"""The rules for VMs that are down, in their order, and for those that a person wants replaced. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from homelab.errors import Problem
from homelab.models import SWITCHING_OFF, TAG_KEEP, Action, Guard, NodeFacts, NodePlan, Rule, TaskRow
from homelab.settings import ApiToken, StoppedVm, Wishes

GRACE_AFTER_BOOT_S = 600


@dataclass(frozen=True, slots=True)
class Situation:
    """What counts for every VM. `token` is what our own tasks carry, where they go by the API."""

    stopped_vm: StoppedVm
    wishes: Wishes
    token: ApiToken | None
    is_power_cut: bool


def plan_down(node: NodeFacts, situation: Situation) -> NodePlan:
    """What happens to a stopped or paused VM: the first rule that fits."""
    stopped_vm = situation.stopped_vm
    if choice := _kept_by_choice(node, stopped_vm):
        return NodePlan(node, Action.KEEP, choice, rule=Rule.CHOICE)
    if has_just_booted(node):
        return _after_boot(node)
    if situation.is_power_cut or node.power.host_booted_after_vm:
        return start(node, f"{node.reason}, as after a power cut", Rule.POWER_CUT, may_replace=True)
    if stopped_vm is StoppedVm.START:
        return start(node, f"{node.reason}; STOPPED_VM=start", Rule.START, may_replace=True)
    if situation.wishes.is_unattended:
        return _unattended(node, situation.token)
    return _replace(node, node.reason, Rule.BY_HAND)


def _unattended(node: NodeFacts, token: ApiToken | None) -> NodePlan:
    """Left to whoever switched it off; else started the first time, replaced when it is down again within 24 h."""
    if task := _switched_off_by_another(node, token):
        who = f"{task.user}!{task.token_id}" if task.token_id else task.user
        return NodePlan(node, Action.KEEP, f"{node.reason}; parked: {task.kind} by {who}", rule=Rule.PARKED)
    if node.past.was_struck_lately:
        return _replace(node, f"{node.reason} again, within 24 h of an unattended start", Rule.SECOND_STRIKE)
    return start(node, f"{node.reason}; nobody watches, so it is started first", Rule.FIRST_STRIKE, may_replace=False)


def _switched_off_by_another(node: NodeFacts, token: ApiToken | None) -> TaskRow | None:
    """The newest task about the VM's power, if it is a stop or shutdown that was not this program's.

    Ours belong to a replacement that was begun; with the API they also carry our token.
    """
    task = node.power.last_switching
    if task is None or task.kind not in SWITCHING_OFF or node.past.leaving:
        return None
    is_ours = token is not None and (task.user, task.token_id) == (token.user, token.token_id)
    return None if is_ours else task


def _replace(node: NodeFacts, reason: str, rule: Rule) -> NodePlan:
    """Unless a guard, or an earlier replacement, speaks against it."""
    if node.guards:
        return guarded(node, rule)
    if not node.past.was_replaced_lately:
        return NodePlan(node, Action.REPLACE, f"{reason}{_gone_over(node)}", rule=rule)
    vm = node.found
    problem = Problem(
        f"{node.vm_title} is held",
        f"{node.reason}, and it was replaced less than 24 h ago: another time would hardly help",
        f"find out why it goes down; then --replace {node.name}, or start it: qm start {vm.vmid} on {vm.node}",
    )
    return NodePlan(node, Action.NOTHING, problem.why, problem, rule=Rule.HELD)


def plan_named(node: NodeFacts, *, is_forced: bool) -> NodePlan:
    """A person wants this VM replaced, whatever its state: no rule is asked, but every guard that is left."""
    obstacles = (*(() if is_forced else _marks(node)), *node.guards)
    if not node.is_settled:
        return _not_replaced(node, Problem("", node.reason, node.cure))
    if obstacles:
        return _not_replaced(node, _summed_up(obstacles))
    reason = f"{node.reason}; a person named it{_gone_over(node)}"
    return NodePlan(node, Action.REPLACE, reason, rule=Rule.FORCED if is_forced else Rule.ASKED)


def _gone_over(node: NodeFacts) -> str:
    """The reasons against deleting that a person has said not to count."""
    return f", although {'; '.join(guard.sentence for guard in node.lifted)}" if node.lifted else ""


def _not_replaced(node: NodeFacts, why: Problem) -> NodePlan:
    problem = Problem(f"{node.vm_title} is not replaced", why.why, why.cure)
    action = Action.KEEP if node.found.is_running else Action.NOTHING
    return NodePlan(node, action, problem.why, problem, rule=Rule.ASKED)


def _marks(node: NodeFacts) -> tuple[Guard, ...]:
    """What keeps a VM by the rules, and is no guard against them; --force-replace goes over it."""
    found = []
    if kept_by_mark(node):
        cure = f"take the tag off (qm set {node.found.vmid} --tags ...), or --force-replace {node.name}"
        found.append(Guard(f"it carries the tag {TAG_KEEP}", cure))
    if node.is_down and has_just_booted(node):
        cure = f"wait until it has been up for {GRACE_AFTER_BOOT_S // 60} minutes, or --force-replace {node.name}"
        found.append(Guard(f"its host has just come up ({_since_boot(node)})", cure))
    return tuple(found)


def _kept_by_choice(node: NodeFacts, stopped_vm: StoppedVm) -> str:
    if stopped_vm is StoppedVm.KEEP:
        return f"{node.reason}; STOPPED_VM=keep"
    return kept_by_mark(node)


def is_off_by_choice(node: NodeFacts, stopped_vm: StoppedVm) -> bool:
    """Does a run leave this VM down, whatever took it down?"""
    return not node.config.is_enabled or _kept_by_choice(node, stopped_vm) != ""


def kept_by_mark(node: NodeFacts) -> str:
    """The reason to leave a VM alone that its own tag gives; empty: none."""
    if TAG_KEEP in node.found.config.tags:
        return f"{node.reason}; it carries the tag {TAG_KEEP}"
    return ""


def has_just_booted(node: NodeFacts) -> bool:
    """Has the host, as far as can be told, been up for so short a time that its VMs may be about to start?"""
    return node.power.host_uptime_s is None or node.power.host_uptime_s < GRACE_AFTER_BOOT_S


def _since_boot(node: NodeFacts) -> str:
    uptime_s = node.power.host_uptime_s
    return "its uptime cannot be read" if uptime_s is None else f"up for only {uptime_s // 60} min"


def _after_boot(node: NodeFacts) -> NodePlan:
    """Nothing is deleted on a host that has just come up; a VM with onboot=1 is Proxmox' to start."""
    since = _since_boot(node)
    if not node.found.config.starts_on_boot:
        return start(node, f"{node.reason}; host {since}", Rule.GRACE, may_replace=False)
    problem = Problem(
        f"{node.vm_title} is {node.verdict.value}",
        f"host {node.name}: {since}, and the VM has onboot=1: it is left to start by itself",
        f"run again when the host has been up for {GRACE_AFTER_BOOT_S // 60} minutes",
    )
    return NodePlan(node, Action.KEEP, problem.why, problem, rule=Rule.GRACE)


def start(node: NodeFacts, reason: str, rule: Rule, *, may_replace: bool) -> NodePlan:
    """Start or resume it; where it will not run it may be replaced, unless a guard or an earlier time forbids that."""
    if not _may_start(node):
        return guarded(node, rule)
    may_replace = may_replace and not node.guards and not node.past.was_replaced_lately
    return NodePlan(node, Action.START, reason, may_replace=may_replace, rule=rule)


def guarded(node: NodeFacts, rule: Rule | None = None) -> NodePlan:
    """Deleting is forbidden; starting is not, unless the VM never booted, or is a template, locked or HA-managed."""
    may_start = node.is_down and _may_start(node)
    done = "is started, not replaced" if may_start else "is kept"
    why = _summed_up(node.guards)
    problem = Problem(f"{node.vm_title} {done}", f"{node.reason}, but {why.why}", why.cure)
    return NodePlan(node, Action.START if may_start else Action.NOTHING, problem.why, problem, rule=rule)


def _summed_up(guards: tuple[Guard, ...]) -> Problem:
    sentences = "; ".join(guard.sentence for guard in guards)
    return Problem("", sentences, "; ".join(dict.fromkeys(guard.cure for guard in guards)))


def _may_start(node: NodeFacts) -> bool:
    vm = node.found
    return not (vm.config.is_template or vm.status.lock or vm.status.is_ha_managed)
