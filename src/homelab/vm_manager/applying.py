"""Carries out one node's plan, looking before each step that changes something."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from homelab import cloud_init, memory
from homelab.errors import HomelabError, Interrupted, NodeFailed, Problem, StillMember, TaskFailed, TimedOut, Unfinished
from homelab.memory import Journal
from homelab.models import (
    Action,
    Guard,
    ImageOnNode,
    Members,
    NodePlan,
    Outcome,
    Plan,
    Rule,
    RunningVm,
    Status,
    Verdict,
    VmFacts,
    VmSpec,
)
from homelab.proxmox.client import Proxmox
from homelab.settings import Config, NodeConfig
from homelab.vm_manager.abandoned import Abandoned
from homelab.vm_manager.creating import Making, create_vm, equip, left_of, refuse_if_made
from homelab.vm_manager.deleting import check_unchanged, delete_vm, refuse_if_guarded
from homelab.vm_manager.first_boot import FirstBoots, is_ours
from homelab.vm_manager.preparing import carried_over, is_replacement, specify
from homelab.vm_manager.resuming import Resumption
from homelab.vm_manager.silence import Silence
from homelab.vm_manager.vmids import VmidPool


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one node: lines for the report, and its VM if that runs now."""

    outcomes: tuple[Outcome, ...]
    running: RunningVm | None = None


@dataclass(slots=True)
class Replacements:
    """How many VMs may still be replaced in this run (MAX_REPLACEMENTS)."""

    left: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> bool:
        with self._lock:
            self.left -= 1
            return self.left >= 0


@dataclass(frozen=True, slots=True)
class VmManager:
    """What applying a plan needs beside the plan itself.

    `image` brings the image to a node and says how to use it there; `guards` reads again what speaks against deleting.
    `slots` limits how many VMs are made at once (MAX_PARALLEL).
    """

    pve: Proxmox
    config: Config
    members: Members
    image: Callable[[NodeConfig], ImageOnNode]
    guards: Callable[[VmFacts, str], tuple[Guard, ...]]
    replacements: Replacements
    journal: Journal
    first_boots: FirstBoots
    vmids: VmidPool = field(default_factory=VmidPool)
    deletions: threading.Lock = field(default_factory=threading.Lock)
    slots: threading.Semaphore = field(default_factory=threading.Semaphore)

    def resume(self, mark: Callable[[], None], say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        """Look after what earlier runs left in the middle, before anything is observed.

        `mark` tells other machines of this run, before anything is changed.
        """
        nodes = (node for node in self.config.nodes if node.is_enabled and self.config.wishes.is_worked_on(node.number))
        begun = Resumption(self.pve, self.journal, say, frozenset(node.name for node in nodes))
        if begun.due():
            mark()
            begun.run()
        configured = {node.name for node in self.config.nodes} | {node.name for node in self.config.dropped}
        Abandoned(self.pve, self.journal, warn, frozenset(configured)).run()

    def prepare(self, plan: Plan) -> None:
        """Choose the VMIDs of the VMs to be made, in the order of n; where that fails, the node tries again later.

        What is planned uses up MAX_REPLACEMENTS before what turns out not to start.
        """
        for node in plan.nodes:
            if node.is_counted:
                self.replacements.take()
            if node.action is Action.CREATE and node.config.vmid is None and carried_over(node) is None:
                with suppress(HomelabError):
                    self.vmids.reserve(self.pve, node.name)

    def apply(self, node: NodePlan) -> Result:
        """Bring the node's VM to what the plan says. Errors become outcomes; the other nodes are not concerned."""
        try:
            return self._apply(node)
        except HomelabError as error:
            return Result((Outcome.failed(node.name, error.problem),))

    def _apply(self, node: NodePlan) -> Result:
        carry_out: dict[Action, Callable[[NodePlan], Result]] = {
            Action.KEEP: self._keep,
            Action.NOTHING: _kept,
            Action.CREATE: self._create,
            Action.REPLACE: self._replace,
            Action.START: self._start,
            Action.FINISH: self._finish,
        }
        return carry_out[node.action](node)

    def _create(self, node: NodePlan) -> Result:
        image = self.image(node.config)
        spec = specify(self.pve, self.config, node, self.journal.now, image.disk_bytes)
        what = "recreated (an earlier run had begun to replace it)" if spec.carried else "created"
        return self._make(node, spec, image, what)

    def _make(self, node: NodePlan, spec: VmSpec, image: ImageOnNode, what: str) -> Result:
        left = left_of(self.pve, node.name, spec.carried) if spec.carried else ()
        spec = replace(spec, notes=_notes(spec, image))
        with self.slots:
            made = create_vm(self._making, spec, image, new_vmid=lambda: self.vmids.next_free(self.pve, node.name))
        vm, kept = self._finished(node.name, made.vmid)
        if spec.carried:
            how = memory.REPLACED if is_replacement(node) else memory.GIVEN_UP
            memory.note(self.journal, how, spec.name, vm.config.uuid, spec.carried.uuid)
        what = f"{what}: {spec.cores} core{'s' * (spec.cores > 1)}, {spec.memory_mib} MiB"
        losses = (*made.losses, *_left_behind(spec, left), *_out_of_pool(vm, made.lost_pool))
        lines = (
            Outcome(node.name, Status.CHANGED, f"VM {vm.config.name} (vmid={vm.vmid}) {what}, running"),
            *_told(node.name, losses),
            *kept,
        )
        return Result(lines, RunningVm(vm, is_new=True, has_agent=not made.losses))

    @property
    def _making(self) -> Making:
        return Making(self.pve, self.config.guest, self.journal, self.first_boots)

    def _finished(self, node: str, vmid: int) -> tuple[VmFacts, tuple[Outcome, ...]]:
        """A VM that has been started, and what is still to be taken away. Where a join follows, that sees to it."""
        config = self.pve.vm_config(node, vmid)
        kept: tuple[Outcome, ...] = ()
        try:
            config = config if self.first_boots.is_awaited else self.first_boots.end(node, vmid)
        except Unfinished as error:
            what = f"VM {config.name} still has the snippet of its first boot"
            kept = (Outcome(node, Status.FAILED, what, str(error), error.cure),)
        return VmFacts(node, vmid, self.pve.vm_status(node, vmid), config), kept

    def _replace(self, node: NodePlan) -> Result:
        """Delete and create anew, once everything that the new VM needs is known to be there; else start it."""
        name, vm = node.config.vm_name, node.facts.found
        is_begun = False
        try:
            self.members.check_replaceable(name)
            image = self.image(node.config)
            spec = specify(self.pve, self.config, node, self.journal.now, image.disk_bytes)
            with self.deletions:
                if vm.is_in_the_making:
                    vm = self._unlocked(node)
                refuse_if_guarded(vm, self.guards(vm, name))
                is_begun = True
                refuse_if_made(self.pve, spec)
                self._note_replacing(node, spec)
                delete_vm(self.pve, vm, self.members, lambda: refuse_if_guarded(vm, self.guards(vm, name)))
        except StillMember as error:
            return self._go_on_with(node, error)
        except HomelabError as error:
            instead = node.dropped(error.problem)
            if is_begun or instead.action is Action.NOTHING or isinstance(error, Interrupted):
                raise
            if instead.action is Action.START:
                return self._start_instead(instead, error)
            title = f"{node.facts.vm_title} is not replaced"
            return _kept(node.dropped(Problem(title, str(error), error.cure)))
        try:
            return self._make(node, spec, image, f"deleted ({node.reason}) and recreated")
        except HomelabError as error:
            deleted = Outcome(node.name, Status.CHANGED, f"{node.facts.vm_title} deleted ({node.reason})")
            return Result((deleted, Outcome.failed(node.name, error.problem)))

    def _go_on_with(self, node: NodePlan, reason: StillMember) -> Result:
        """A VM that its cluster turned out to need, and that may have been switched off by then."""
        vm = node.facts.found
        now = replace(vm, status=self.pve.vm_status(vm.node, vm.vmid), config=self.pve.vm_config(vm.node, vm.vmid))
        kept = Outcome.failed(node.name, reason.problem)
        if now.is_running:
            return Result((kept,), RunningVm(now))
        again = replace(node, facts=replace(node.facts, vm=now)).dropped(reason.problem)
        result = self._start_instead(again, reason)
        return result if node.facts.is_down else replace(result, outcomes=(kept, *result.outcomes))

    def _start_instead(self, node: NodePlan, reason: HomelabError) -> Result:
        """A VM that is down and cannot be replaced now."""
        try:
            return self._start(node)
        except HomelabError as error:
            why = f"{reason.why}; nor does it start: {error}"
            raise NodeFailed(reason.what, why, f"{reason.cure}; {error.cure}") from error

    def _note_replacing(self, node: NodePlan, spec: VmSpec) -> None:
        """Before the old VM is touched, unless what an earlier run noted of it still holds."""
        if spec.carried is None or spec.carried == node.facts.past.replacing:
            return
        role = self.members.role_tag(spec.carried.uuid) or spec.carried.role or node.facts.past.role
        is_unfinished = node.facts.verdict is Verdict.UNFINISHED
        carried = replace(spec.carried, role=role, is_unfinished=is_unfinished)
        memory.note_replacing(self.journal, spec.name, node.name, carried)

    def _start(self, node: NodePlan) -> Result:
        vm = node.facts.found
        try:
            self._power_on(vm)
        except (TaskFailed, TimedOut) as error:
            has_failed = isinstance(error, TaskFailed)
            if has_failed:
                self._note_strike(node)
            if not has_failed or not node.may_replace or not self.replacements.take():
                raise NodeFailed(f"{node.facts.vm_title} does not start", str(error), error.cure) from error
            return self._replace(node)
        self._note_strike(node)
        self._close(node)
        return self._running(node, f"started ({node.reason})")

    def _note_strike(self, node: NodePlan) -> None:
        """The next time within 24 h that the VM is down, it is replaced."""
        if node.rule is Rule.FIRST_STRIKE:
            memory.note(self.journal, memory.STRUCK, node.config.vm_name, node.facts.found.config.uuid)

    def _power_on(self, vm: VmFacts) -> None:
        if vm.status.status == "running":
            self.pve.resume_vm(vm.node, vm.vmid)
        else:
            self.first_boots.renew(vm)
            self.pve.start_vm(vm.node, vm.vmid, timeout_s=self.config.guest.start_timeout_s)

    def _finish(self, node: NodePlan) -> Result:
        vm = self._unlocked(node) if node.facts.found.status.lock else node.facts.found
        losses: tuple[Problem, ...] = ()
        if vm.status.status == "stopped" and node.facts.power.last_vm_start_time is None:
            losses = equip(self._making, vm.node, vm.vmid, vm.config.name, node.config.disk_bytes)
            self.pve.start_vm(vm.node, vm.vmid, timeout_s=self.config.guest.start_timeout_s)
        elif not vm.is_running:
            self._power_on(vm)
        now, kept = self._finished(vm.node, vm.vmid)
        if node.facts.is_first_boot_cut and self._came_to_nothing(now):
            reason = f"{node.reason}; its first boot was cut off, and no guest agent came up since: it is made again"
            facts = replace(node.facts, vm=replace(vm, status=now.status, config=now.config))
            return self._replace(replace(node, facts=facts, reason=reason))
        self._close(node)
        result = self._running(node, "finished (an earlier run was interrupted)")
        return replace(result, outcomes=(*result.outcomes, *_told(node.name, losses), *kept))

    def _came_to_nothing(self, vm: VmFacts) -> bool:
        """Is a VM beyond being finished that was switched off in its first boot? It never was of use to anybody."""
        if not (self.first_boots.is_awaited and is_ours(vm.config)):
            return False
        silence = Silence(self.pve, self.config.guest.start_timeout_s, self.journal.interruption.check)
        return silence.is_proven(vm)

    def _unlocked(self, node: NodePlan) -> VmFacts:
        """An unfinished VM without the lock of its creation, once nothing works on it; raises NodeFailed."""
        vm, title = node.facts.found, f"{node.facts.vm_title} is not finished"
        why, cure = (
            f"it is locked ({vm.status.lock})",
            f"if no task is running on it, on {vm.node}: qm unlock {vm.vmid}",
        )
        if not vm.is_in_the_making:
            raise NodeFailed(title, why, f"{cure}, then run again")
        try:
            check_unchanged(self.pve, vm)
            self.pve.unlock_vm(vm.node, vm.vmid)
        except HomelabError as error:
            raise NodeFailed(
                title, f"it is locked (create), and stays so: {error}", f"{cure}, then run again"
            ) from error
        status, config = self.pve.vm_status(vm.node, vm.vmid), self.pve.vm_config(vm.node, vm.vmid)
        return replace(vm, status=status, config=config)

    def _keep(self, node: NodePlan) -> Result:
        if node.ends_running:
            self._close(node)
        return _kept(node)

    def _close(self, node: NodePlan) -> None:
        """A replacement that an earlier run had begun is over: its VM runs, or the old one does again."""
        begun = node.facts.past.replacing
        if begun:
            uuid = node.facts.found.config.uuid
            how = memory.GIVEN_UP if begun.is_unfinished or uuid == begun.uuid else memory.REPLACED
            memory.note(self.journal, how, node.config.vm_name, uuid, begun.uuid)

    def _running(self, node: NodePlan, what: str) -> Result:
        vm = node.facts.found
        now = VmFacts(vm.node, vm.vmid, self.pve.vm_status(vm.node, vm.vmid), self.pve.vm_config(vm.node, vm.vmid))
        cure = "; ".join(problem.cure for problem in node.problems)
        return Result((Outcome(node.name, Status.CHANGED, f"{node.facts.vm_title} {what}", cure=cure),), RunningVm(now))


def _kept(node: NodePlan) -> Result:
    running = node.facts.vm if node.ends_running else None
    if node.problem:
        told = tuple(Outcome.failed(node.name, problem) for problem in node.problems)
        return Result(told, RunningVm(running) if running else None)
    if running is None:
        return Result((Outcome(node.name, Status.SKIPPED, f"{node.facts.vm_title} is left as it is: {node.reason}"),))
    return Result((Outcome(node.name, Status.OK, _running_title(node, running)),), RunningVm(running))


def _running_title(node: NodePlan, vm: VmFacts) -> str:
    notes = [] if vm.is_ours else ["not made by homelab"]
    notes += [f"locked: {vm.status.lock}"] if vm.status.lock else []
    notes += [node.note] if node.note else []
    notes += [] if vm.node == node.name else [f"on {vm.node}, not on {node.name}: kept there"]
    note = f" ({'; '.join(notes)})" if notes else ""
    if node.facts.verdict is Verdict.HEALTHY:
        return f"{node.facts.vm_title} is healthy, skipping.{note}"
    return f"{node.facts.vm_title} is {node.reason}{note}"


def _notes(spec: VmSpec, image: ImageOnNode) -> str:
    """The new VM's notes, which say what it is made from."""
    kept = spec.carried.kept.get("description") if spec.carried else None
    return memory.with_image(spec.notes or kept or cloud_init.DESCRIPTION, image.known) if image.known else spec.notes


def _told(node: str, losses: tuple[Problem, ...]) -> list[Outcome]:
    return [Outcome(node, Status.SKIPPED, loss.what, loss.why, loss.cure) for loss in losses]


def _left_behind(spec: VmSpec, volumes: tuple[str, ...]) -> tuple[Problem, ...]:
    """What Proxmox could not remove of the VM before."""
    if not volumes:
        return ()
    cure = f"look at them, then on {spec.node}: " + "; ".join(f"pvesm free {volume}" for volume in volumes)
    return (Problem(f"VM {spec.name}: disks of the VM before it are left", ", ".join(volumes), cure),)


def _out_of_pool(vm: VmFacts, pool: str) -> tuple[Problem, ...]:
    if not pool:
        return ()
    return (
        Problem(
            f"VM {vm.config.name} (vmid={vm.vmid}) is in no pool",
            f"the VM before it was in {pool}, which is not there any more",
            f"if it is wanted: pvesh create /pools --poolid {pool}; pvesh set /pools/{pool} --vms {vm.vmid}",
        ),
    )
