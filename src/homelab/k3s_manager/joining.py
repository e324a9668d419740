"""Brings one running VM into the cluster: kept, brought back, joined again, or joined anew."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from homelab.errors import HomelabError, NodeFailed, Refused, TimedOut, Undecided, Unreachable
from homelab.k3s_manager import installing, labels, local
from homelab.k3s_manager.guest import GuestFinder
from homelab.k3s_manager.leaving import Leaving, check_machine_is_gone
from homelab.k3s_manager.local import UNITS
from homelab.k3s_manager.marking import is_in_first_boot
from homelab.k3s_manager.newcomers import Newcomers
from homelab.k3s_manager.readiness import PACE, Awaited, is_member, wait_until_member
from homelab.k3s_manager.roles import kept, role_of
from homelab.k3s_manager.servers import Servers
from homelab.memory import Cordons
from homelab.models import Action, K3sFacts, K3sNode, NodePlan, Outcome, RunningVm, Status, VmFacts
from homelab.proxmox.client import Proxmox
from homelab.runtime import Clock
from homelab.settings import Role

BACK_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Joining:
    """What every join of a run works with."""

    pve: Proxmox
    finder: GuestFinder
    clock: Clock
    servers: Servers
    newcomers: Newcomers
    cordons: Cordons
    progress: Callable[[str], None]

    def join(self, plan: NodePlan, running: RunningVm, facts: K3sFacts) -> tuple[Outcome, ...]:
        """Make the VM a Ready member. Raises HomelabError with the reason why it is none."""
        vm = running.vm
        told = self.newcomers.see_first_boot(plan, running) if is_in_first_boot(vm) else ()
        return (*self._join(plan, running, facts), *told)

    def _join(self, plan: NodePlan, running: RunningVm, facts: K3sFacts) -> tuple[Outcome, ...]:
        name, vm = plan.config.vm_name, running.vm
        seen = facts.node(name) if facts.is_known else None
        if plan.was_running and seen and is_member(seen, vm):
            return (*self._kept(plan, seen), *self._settings(plan, seen))
        if _is_still_on(plan, running):
            plan = replace(plan, action=Action.KEEP)
        nodes = self._nodes_by_now()
        node = next((node for node in nodes if node.name == name), None)
        if node and node.system_uuid == vm.config.uuid:
            return (*self._bring_back(plan, vm, node, facts), *self._settings(plan, node))
        _check_not_under_another_name(plan, vm, nodes)
        if node:
            _check_not_taken(vm, node)
            check_machine_is_gone(self.pve, node)
            self.remove(name, node.system_uuid)
        return self.newcomers.join(plan, running)

    def remove(self, name: str, uuid: str) -> None:
        """End the membership of a machine that is off, known by its uuid."""
        Leaving(self.servers, self.clock, self.progress).remove(name, uuid)

    def _kept(self, plan: NodePlan, node: K3sNode) -> tuple[Outcome, ...]:
        """Nothing is to be done; that it takes no pods is somebody's decision, and is said."""
        name = plan.config.vm_name
        line = Outcome(plan.name, Status.OK, f"{name} already in cluster, skipping")
        if not node.is_cordoned:
            return (line,)
        if self._is_given_back(node):
            return (line, Outcome(plan.name, Status.CHANGED, f"{name} takes pods again: an earlier run had drained it"))
        cure = f"if it is to take pods again: kubectl uncordon {name}"
        return (line, Outcome(plan.name, Status.SKIPPED, f"{name} is cordoned", "no new pods go there", cure))

    def _is_given_back(self, node: K3sNode) -> bool:
        """Uncordon it if it was a run that cordoned it, and not a person."""
        if not self.cordons.is_open(node.system_uuid):
            return False
        try:
            self.servers.ask(lambda server: server.kubectl("uncordon", node.name))
        except HomelabError:
            return False
        self.cordons.end(node.system_uuid)
        return True

    def _settings(self, plan: NodePlan, node: K3sNode) -> tuple[Outcome, ...]:
        """What has been changed in `.env` since it joined."""
        return (*Outcome.noted(plan.name, kept(plan, role_of(node))), *self._label(plan, node))

    def _label(self, plan: NodePlan, node: K3sNode) -> tuple[Outcome, ...]:
        """Give a member what K3S_LABELS_n says and its Node lacks: its kubelet does so only at registration."""
        if not (lacking := labels.lacking(plan.config, node)):
            return ()
        told = ", ".join(lacking)
        try:
            self.servers.ask(lambda server: server.label_node(node.name, lacking))
        except HomelabError as error:
            what = f"{node.name} does not bear the labels {told}"
            return (Outcome(plan.name, Status.FAILED, what, str(error), error.cure or "run again"),)
        return (Outcome(plan.name, Status.CHANGED, f"{node.name} has the labels {told} now"),)

    def _nodes_by_now(self) -> tuple[K3sNode, ...]:
        """The Nodes now. Where VMs were just started, the server may be one of them, so it is given time."""
        deadline = self.clock.now() + (
            self.finder.config.guest.start_timeout_s if self.newcomers.board.has_started else 0
        )
        while True:
            try:
                return self.servers.nodes()
            except (Unreachable, Undecided, Refused, TimedOut):
                if self.clock.now() >= deadline:
                    raise
            self.clock.sleep(PACE.longest_s)

    # --- a machine that is a member --------------------------------------------------------------------------

    def _bring_back(self, plan: NodePlan, vm: VmFacts, node: K3sNode, facts: K3sFacts) -> tuple[Outcome, ...]:
        """Wait until it is Ready; a service that does not run is started, one that does is left to itself."""
        stale = _ready_before_the_start(plan, facts)
        if is_member(node, vm) and node.boot_id != stale:
            return self._kept(plan, node)
        self.progress(f"{node.name}: waiting until its Node is Ready again")
        if not plan.was_running or node.is_ready:
            with suppress(TimedOut):
                self._wait(node.name, vm, BACK_TIMEOUT_S, lambda: "", stale)
                return (_ready_again(plan, node),)
            self._repair(plan, vm, node, patience_s=0)
        else:
            self._repair(plan, vm, node, patience_s=BACK_TIMEOUT_S)
        return (_ready_again(plan, node),)

    def _repair(self, plan: NodePlan, vm: VmFacts, node: K3sNode, patience_s: float) -> None:
        """`patience_s` is how long a service that runs is waited for; one that is started gets its own time."""
        shell = self.finder.login(plan.config, RunningVm(vm))
        unit = next(unit for unit, role in UNITS.items() if (role is Role.SERVER) == node.is_server)
        if local.look(shell, node.name).runs:
            since = f"@{int(self.clock.now() - BACK_TIMEOUT_S)}"
        else:
            self.progress(f"{node.name}: starting {unit}")
            since, patience_s = installing.restart(shell, unit), BACK_TIMEOUT_S
        self._wait(node.name, vm, patience_s, lambda: installing.journal(shell, unit, since))

    def _wait(self, name: str, vm: VmFacts, timeout_s: float, journal: Callable[[], str], stale: str = "-") -> None:
        wait_until_member(lambda: self.servers.node(name), Awaited(name, vm, journal, stale), self.clock, timeout_s)


def _ready_again(plan: NodePlan, node: K3sNode) -> Outcome:
    return Outcome(plan.name, Status.CHANGED, f"{node.name} is Ready again")


def _is_still_on(plan: NodePlan, running: RunningVm) -> bool:
    """Is it the machine that was found running, which was to be replaced and was not even switched off?"""
    found, now = plan.facts.vm, running.vm
    if found is None or not found.is_running or found.config.uuid != now.config.uuid:
        return False
    return now.status.uptime_s >= found.status.uptime_s


def _check_not_under_another_name(plan: NodePlan, vm: VmFacts, nodes: tuple[K3sNode, ...]) -> None:
    if own := next((node for node in nodes if node.system_uuid == vm.config.uuid), None):
        raise NodeFailed(
            f"the VM is in the cluster already, under the name {own.name}",
            f"the Node {own.name} has its system UUID {own.system_uuid}",
            f"set {plan.config.key('VM_NAME')} and the VM's name to {own.name}, or kubectl delete node {own.name}",
        )


def _check_not_taken(vm: VmFacts, node: K3sNode) -> None:
    if node.is_ready:
        raise NodeFailed(
            f"another machine is a Ready member under the name {node.name}",
            f"its system UUID is {node.system_uuid}, the VM's is {vm.config.uuid}",
            f"kubectl get node {node.name} -o wide shows where it is; rename one of the two (VM_NAME_n)",
        )


def _ready_before_the_start(plan: NodePlan, facts: K3sFacts) -> str:
    """The boot id of a Node that still counted as Ready although its machine was off; `-` where there is none."""
    node = None if plan.was_running else facts.node(plan.config.vm_name)
    return node.boot_id if node and node.is_ready else "-"
