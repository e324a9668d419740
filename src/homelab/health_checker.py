"""Looks at every node's VM and says what state it is in. Read-only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from homelab import guards
from homelab.errors import HomelabError, NodeFailed, NotThere, Problem
from homelab.models import (
    MAKING,
    TAG_UNFINISHED,
    ClusterStatus,
    Facts,
    Guard,
    K3sFacts,
    NodeFacts,
    Past,
    PowerHistory,
    TaskRow,
    Verdict,
    VmFacts,
    VmRow,
)
from homelab.proxmox.client import Proxmox
from homelab.settings import Config, NodeConfig

PARALLEL_READS = 64
NO_QUORUM = Problem(
    "the Proxmox cluster has no quorum",
    "nothing may be written until most of its members are back",
    "pvecm status on a node shows which members are missing",
)
SEES_TOO_LITTLE = Problem(
    "no VM of that name is visible",
    "but the API token may not see all VMs",
    "give the token VM.Audit: pveum acl modify /vms --tokens 'USER@REALM!ID' --roles PVEAuditor",
)
CREATED_WITHIN_S = 60
"""How far the time of a VM's creation may lie from the start of the task that made it."""
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every VM of the cluster by name, or why there is no list; `unread` is why some names in it are empty."""

    rows: tuple[VmRow, ...]
    problem: Problem | None = None
    unread: Problem | None = None

    def named(self, name: str) -> tuple[VmRow, ...]:
        """Case does not count: a Node's name is always lower case, an older VM's may not be."""
        return tuple(row for row in self.rows if row.name.lower() == name and not row.is_container)

    def numbered(self, vmid: int) -> VmRow | None:
        return next((row for row in self.rows if row.vmid == vmid), None)


class VMHealthChecker:
    """Observes; gives each configured node's VM a verdict with its reason."""

    def __init__(
        self,
        pve: Proxmox,
        config: Config,
        cluster: ClusterStatus | None,
        unreached: Mapping[str, Problem],
        past: Callable[[str], Past],
    ) -> None:
        """`past` tells what earlier runs noted about the VM of a name."""
        self._past = past
        self._pve = pve
        self._config = config
        self._cluster = cluster
        self._unreached = unreached

    def observe(self, k3s: Callable[[], K3sFacts]) -> Facts:
        """Look at everything side by side; `k3s` is asked at the same time."""
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            asked = pool.submit(k3s)
            inventory = self._inventory()
            seen = list(pool.map(lambda node: self._observe_node(node, inventory), self._config.nodes))
            seen = [replace(node, past=self._past(node.config.vm_name)) for node in seen]
            k3s_facts = asked.result()
            judged = list(pool.map(lambda node: self._judge(node, k3s_facts, inventory), seen))
        return Facts(tuple(judged), k3s_facts, self._config.warnings)

    # --- which VMs are there ---------------------------------------------------------------------------------

    def _inventory(self) -> Inventory:
        """List all VMs of the cluster, with the names that the list itself does not know yet."""
        try:
            listed = self._pve.cluster_vms()
        except HomelabError as error:
            return Inventory((), error.problem)
        rows, unread = [], None
        for row in listed:
            try:
                rows.append(self._with_name(row))
            except HomelabError as error:
                rows.append(row)
                unread = unread or _unread_names(error.problem)
        return Inventory(tuple(rows), unread=unread)

    def _with_name(self, row: VmRow) -> VmRow:
        if row.name or row.is_container:
            return row
        try:
            return replace(row, name=self._pve.vm_config(row.node, row.vmid).name)
        except NotThere:
            return replace(row, name="(gone)")
        except HomelabError:
            named = {other.vmid: other.name for other in self._pve.offline_vms(row.node)}
            return replace(row, name=named.get(row.vmid, "(gone)"))

    # --- one node --------------------------------------------------------------------------------------------

    def _observe_node(self, node: NodeConfig, inventory: Inventory) -> NodeFacts:
        if problem := self._unreached.get(node.name):
            return _unreachable(node, problem)
        if inventory.problem:
            return _unknown(node, Problem("the VMs cannot be listed", str(inventory.problem), inventory.problem.cure))
        try:
            row = _ours(node, inventory)
            return self._observe_vm(node, row) if row else self._observe_absence(node, inventory)
        except HomelabError as error:
            return _unknown(node, error.problem)

    def _observe_absence(self, node: NodeConfig, inventory: Inventory) -> NodeFacts:
        """No VM of that name in the list: absent only if the list shows everything and the cluster has quorum.

        A VM that is just being made has no name yet; it may be that of an earlier run.
        """
        if not self._is_quorate():
            return _unknown(node, NO_QUORUM)
        if inventory.unread:
            return _unknown(node, inventory.unread)
        if not self._pve.sees_all_vms():
            return _unknown(node, SEES_TOO_LITTLE)
        if making := [task for task in self._pve.tasks(node.name, is_active=True) if task.kind in MAKING]:
            return _unknown(node, _being_made(node, making[0]))
        return NodeFacts(node, Verdict.ABSENT, f"no VM named {node.vm_name} in the cluster")

    def _observe_vm(self, node: NodeConfig, row: VmRow) -> NodeFacts:
        vm = VmFacts(
            row.node,
            row.vmid,
            self._pve.vm_status(row.node, row.vmid),
            self._pve.vm_config(row.node, row.vmid),
            row.pool,
        )
        verdict, reason, cure = _power_verdict(vm)
        facts = NodeFacts(node, verdict, reason, cure, vm)
        if verdict is Verdict.HEALTHY:
            return facts
        if row.node != node.name:
            return _on_another_node(facts, row.node)
        return self._observe_down(facts, vm)

    def _observe_down(self, facts: NodeFacts, vm: VmFacts) -> NodeFacts:
        """What only matters where a VM might be started or deleted: quorum, running tasks, uptimes."""
        if not self._is_quorate():
            return replace(facts, verdict=Verdict.UNKNOWN, reason=f"{facts.reason}; {NO_QUORUM}", cure=NO_QUORUM.cure)
        if running := self._pve.tasks(vm.node, vmid=vm.vmid, is_active=True):
            reason = f"a Proxmox task is running on it ({running[0].kind})"
            cure = f"wait for it to end: pvesh get /nodes/{vm.node}/tasks --vmid {vm.vmid} --source active"
            return replace(facts, verdict=Verdict.UNKNOWN, reason=reason, cure=cure)
        return replace(facts, power=self._power_history(vm))

    def _is_quorate(self) -> bool:
        return self._cluster is not None and self._cluster.is_quorate

    def _power_history(self, vm: VmFacts) -> PowerHistory:
        uptime_s = _or_none(lambda: self._pve.host(vm.node).uptime_s)
        now = _or_none(lambda: self._pve.host_time(vm.node))
        tasks = () if vm.status.status == "running" else self._pve.tasks(vm.node, vmid=vm.vmid)
        started = _last_start(vm, now, tasks)
        return PowerHistory(
            host_uptime_s=uptime_s,
            host_boot_time=None if uptime_s is None or now is None else now - uptime_s,
            last_vm_start_time=started,
            has_never_run=started is None and _is_on_record(vm, tasks),
        )

    # --- with what k3s says ----------------------------------------------------------------------------------

    def _judge(self, node: NodeFacts, k3s: K3sFacts, inventory: Inventory) -> NodeFacts:
        if node.verdict is Verdict.HEALTHY:
            reason = why_not_member(node.found, k3s)
            return replace(node, verdict=Verdict.JOINING, reason=reason) if reason else node
        if node.vm and (node.is_down or node.verdict is Verdict.UNFINISHED):
            found = self.reasons_against_deleting(node.vm, node.config.vm_name, k3s)
            return replace(node, guards=(*found, *_unseen_twin(inventory)))
        return node

    def reasons_against_deleting(self, vm: VmFacts, expected_name: str, k3s: K3sFacts) -> tuple[Guard, ...]:
        """Every guard that Proxmox and k3s show for this VM."""
        attached = guards.Attachments(
            has_snapshots=_or_none(lambda: self._pve.has_snapshots(vm.node, vm.vmid)),
            firewall_rules=_or_none(lambda: self._pve.firewall_rule_count(vm.node, vm.vmid)),
            acl_paths=_or_none(lambda: self._pve.vm_acl_paths(vm.vmid)),
            replication_jobs=_or_none(lambda: self._pve.replication_jobs(vm.node, vm.vmid)),
            present=_or_none(lambda: self._pve.vm_config(vm.node, vm.vmid, is_current=True)),
        )
        return (*guards.proxmox_guards(vm, expected_name, attached), *guards.k3s_guards(vm, k3s))


def _unseen_twin(inventory: Inventory) -> tuple[Guard, ...]:
    """Where names cannot be read, two VMs may have the same one."""
    if inventory.unread is None:
        return ()
    return (Guard("the names of some VMs cannot be read, and one of them may have its name", inventory.unread.cure),)


def _last_start(vm: VmFacts, now: int | None, tasks: Sequence[TaskRow]) -> int | None:
    """When the VM's present or last run began, in the host's Unix time; None: no start is on record.

    Tasks go by VMID alone, so those of an earlier VM with this one's are left out.
    """
    if vm.status.status == "running":
        return None if now is None else now - vm.status.uptime_s
    starts = (task for task in tasks if task.kind == "qmstart" and task.went_well)
    return max((task.start_time for task in starts if task.start_time >= vm.config.created_at), default=None)


def _is_on_record(vm: VmFacts, tasks: Sequence[TaskRow]) -> bool:
    """Do the tasks go back to the one that made the VM, and did all since happen on this node?"""
    made_at = vm.config.created_at
    is_made_here = any(task.kind in MAKING and abs(task.start_time - made_at) <= CREATED_WITHIN_S for task in tasks)
    return is_made_here and not any(task.kind == "qmigrate" and task.start_time >= made_at for task in tasks)


def why_not_member(vm: VmFacts, k3s: K3sFacts) -> str:
    """Empty when the VM is a Ready member, proven by its uuid, or when no cluster is asked for."""
    if not k3s.is_wanted:
        return ""
    if k3s.problem:
        return f"running; {k3s.problem}"
    node = k3s.node(vm.config.name.lower())
    if node is None:
        return "running, not in the cluster yet"
    if node.system_uuid != vm.config.uuid:
        return f"running; the Node {node.name} is another machine"
    return "" if node.is_ready else f"running; its Node {node.name} is not Ready"


def _ours(node: NodeConfig, inventory: Inventory) -> VmRow | None:
    """The one VM that belongs to this node: by VMID_n (whose name must match), else by name."""
    named = inventory.named(node.vm_name)
    if node.vmid is not None:
        return _numbered(node, node.vmid, inventory, named)
    if len(named) > 1:
        raise NodeFailed(
            f"{node.vm_name} is not one VM",
            f"that name is carried by {_places(named)}",
            f"rename or remove the wrong one, or set {node.key('VMID')} to the right one",
        )
    return named[0] if named else None


def _numbered(node: NodeConfig, vmid: int, inventory: Inventory, named: tuple[VmRow, ...]) -> VmRow | None:
    row = inventory.numbered(vmid)
    if row and not row.name and inventory.unread:
        raise NodeFailed(inventory.unread.what, inventory.unread.why, inventory.unread.cure)
    if row is None and named:
        raise NodeFailed(
            f"{node.key('VMID')}={vmid} is not there",
            f"the name {node.vm_name} is carried by {_places(named)}",
            f"set {node.key('VMID')}={named[0].vmid}, or rename that VM",
        )
    if row and (row.is_container or row.name.lower() != node.vm_name):
        kind = "container" if row.is_container else "VM"
        raise NodeFailed(
            f"{node.key('VMID')}={vmid} is another {kind}",
            f"it is named {row.name or '(none)'} on {row.node}, not {node.vm_name}",
            f"correct {node.key('VMID')}, or set {node.key('VM_NAME')} to the name of the VM that is meant",
        )
    return row


def _places(rows: tuple[VmRow, ...]) -> str:
    return ", ".join(f"{row.vmid} on {row.node}" for row in rows)


def _power_verdict(vm: VmFacts) -> tuple[Verdict, str, str]:
    """Verdict, reason and cure from what Proxmox shows of the VM's power; membership comes later."""
    status = vm.status
    if TAG_UNFINISHED in vm.config.tags:
        return Verdict.UNFINISHED, f"left unfinished by an earlier run ({status.qmpstatus})", ""
    if vm.is_running:
        return Verdict.HEALTHY, "running", ""
    if status.lock:
        cure = f"wait for the {status.lock} to end; if nothing is running: qm unlock {vm.vmid}"
        return Verdict.UNKNOWN, f"it is locked ({status.lock})", cure
    if status.status == status.qmpstatus == "stopped":
        return Verdict.STOPPED, "VM is stopped", ""
    if (status.status, status.qmpstatus) == ("running", "paused"):
        return Verdict.PAUSED, "VM is paused", ""
    cure = f"look at it on the node: qm status {vm.vmid} --verbose; if it is beyond help: scripts/delete_vm.py"
    return Verdict.UNKNOWN, f"its state is {status.qmpstatus or status.status}", f"{cure} {vm.node} {vm.vmid}"


def _on_another_node(facts: NodeFacts, where: str) -> NodeFacts:
    reason = f"{facts.reason}, and it is on {where}, not on {facts.name}: left alone"
    cure = f"move it back (qm migrate {facts.found.vmid} {facts.name}) or start it there"
    return replace(facts, verdict=Verdict.UNKNOWN, reason=reason, cure=cure)


def _unreachable(node: NodeConfig, problem: Problem) -> NodeFacts:
    return NodeFacts(node, Verdict.UNREACHABLE, str(problem), problem.cure)


def _being_made(node: NodeConfig, task: TaskRow) -> Problem:
    return Problem(
        "a VM is just being made there",
        f"task {task.kind} of VM {task.vmid}; it may be the one that is wanted",
        f"wait for it to end: pvesh get /nodes/{node.name}/tasks --source active; then run again",
    )


def _unread_names(cause: Problem) -> Problem:
    return Problem("the names of some VMs cannot be read", str(cause), cause.cure)


def _unknown(node: NodeConfig, problem: Problem) -> NodeFacts:
    return NodeFacts(node, Verdict.UNKNOWN, str(problem), problem.cure)


def _or_none(read: Callable[[], Read]) -> Read | None:
    """What was read, or None where it cannot be told."""
    try:
        return read()
    except HomelabError:
        return None
