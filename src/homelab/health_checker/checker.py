"""Observes every node side by side: its VM, whether that runs, what speaks against deleting it, what k3s says of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from homelab import guards
from homelab.errors import HomelabError, NotThere, Problem
from homelab.health_checker.inventory import Inventory, ours
from homelab.health_checker.power import is_on_record, last_start, last_switching, power_verdict
from homelab.models import (
    MAKING,
    Facts,
    Guard,
    K3sFacts,
    NodeFacts,
    Past,
    PowerHistory,
    TaskRow,
    Ties,
    Verdict,
    VmConfig,
    VmFacts,
    VmRow,
)
from homelab.proxmox.client import Proxmox
from homelab.proxmox.discovery import Found
from homelab.settings import ApiToken, NodeConfig

PARALLEL_READS = 64
NO_QUORUM = Problem(
    "the Proxmox cluster has no quorum",
    "nothing may be written until most of its members are back",
    "pvecm status on a node shows which members are missing",
)
Read = TypeVar("Read")


class VMHealthChecker:
    """Observes; gives each configured node's VM a verdict with its reason."""

    def __init__(
        self,
        pve: Proxmox,
        found: Found,
        *,
        past: Callable[[str, VmConfig | None], Past],
        ties: Callable[[VmFacts, K3sFacts], Ties],
    ) -> None:
        """`past` tells what earlier runs noted about the VM of a name, given the config of the one there is.

        `ties` reads what ties a VM to the cluster; it is asked of those only that may be deleted.
        """
        self._past = past
        self._ties = ties
        self._pve = pve
        self._config = found.config
        self._cluster = found.status
        self._unreached = found.problems

    def observe(self, k3s: Callable[[], K3sFacts]) -> Facts:
        """Look at everything side by side; `k3s` is asked at the same time."""
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            asked = pool.submit(k3s)
            inventory = self._inventory()
            seen = list(pool.map(lambda node: self._observe_node(node, inventory), self._config.nodes))
            seen = [replace(node, past=self._past_of(node)) for node in seen]
            k3s_facts = asked.result()
            judged = list(pool.map(lambda node: self._judge(node, k3s_facts, inventory), seen))
        return Facts(tuple(judged), k3s_facts, self._config.warnings, inventory.pools)

    def _past_of(self, node: NodeFacts) -> Past:
        return self._past(node.config.vm_name, node.vm.config if node.vm else None)

    # --- which VMs are there ---------------------------------------------------------------------------------

    def _inventory(self) -> Inventory:
        """List all VMs of the cluster, with the names that the list itself does not know yet."""
        try:
            resources = self._pve.resources()
        except HomelabError as error:
            return Inventory((), error.problem)
        rows, unread = [], None
        for row in resources.guests:
            try:
                rows.append(self._with_name(row))
            except HomelabError as error:
                rows.append(row)
                unread = unread or _unread_names(error.problem)
        return Inventory(tuple(rows), unread=unread, pools=resources.pools)

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
            row = ours(node, inventory)
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
            return _unknown(node, _sees_too_little(self._config.api.token))
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
        verdict, reason, cure = power_verdict(vm)
        facts = NodeFacts(node, verdict, reason, cure, vm)
        if verdict is Verdict.HEALTHY and not self._is_named(node):
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
        return replace(facts, power=self._power_history(vm), is_settled=True)

    def _is_named(self, node: NodeConfig) -> bool:
        """Does a person want this node's VM replaced?"""
        return node.number in self._config.wishes.replaced

    def _is_quorate(self) -> bool:
        return self._cluster is not None and self._cluster.is_quorate

    def _power_history(self, vm: VmFacts) -> PowerHistory:
        uptime_s = _or_none(lambda: self._pve.host(vm.node).uptime_s)
        now = _or_none(lambda: self._pve.host_time(vm.node))
        tasks = () if vm.status.status == "running" else self._pve.tasks(vm.node, vmid=vm.vmid)
        started = last_start(vm, now, tasks)
        return PowerHistory(
            host_uptime_s=uptime_s,
            host_boot_time=None if uptime_s is None or now is None else now - uptime_s,
            last_vm_start_time=started,
            has_never_run=started is None and is_on_record(vm, tasks),
            last_switching=last_switching(vm, tasks),
        )

    # --- with what k3s says ----------------------------------------------------------------------------------

    def _judge(self, node: NodeFacts, k3s: K3sFacts, inventory: Inventory) -> NodeFacts:
        if node.verdict is Verdict.HEALTHY and (reason := why_not_member(node.found, k3s)):
            node = replace(node, verdict=Verdict.JOINING, reason=reason)
        if node.vm and self._may_be_deleted(node):
            name = node.config.vm_name
            found = (*self._reasons(node.vm, name, k3s), *_unseen_twin(inventory))
            left = self._not_lifted(found, name)
            return replace(node, guards=left, lifted=tuple(guard for guard in found if guard not in left))
        return node

    def _may_be_deleted(self, node: NodeFacts) -> bool:
        if not self._config.wishes.is_worked_on(node.config.number):
            return False
        return node.is_down or node.verdict is Verdict.UNFINISHED or (node.is_settled and self._is_named(node.config))

    def reasons_against_deleting(self, vm: VmFacts, expected_name: str, k3s: K3sFacts) -> tuple[Guard, ...]:
        """Every guard that Proxmox and k3s show for this VM, and that no option has lifted."""
        return self._not_lifted(self._reasons(vm, expected_name, k3s), expected_name)

    def _reasons(self, vm: VmFacts, expected_name: str, k3s: K3sFacts) -> tuple[Guard, ...]:
        attached = guards.Attachments(
            has_snapshots=_or_none(lambda: self._pve.has_snapshots(vm.node, vm.vmid)),
            firewall=_or_none(lambda: self._pve.own_firewall(vm.node, vm.vmid)),
            acl_paths=_or_none(lambda: self._pve.vm_acl_paths(vm.vmid)),
            replication_jobs=_or_none(lambda: self._pve.replication_jobs(vm.node, vm.vmid)),
            present=_or_none(lambda: self._pve.vm_config(vm.node, vm.vmid, is_current=True)),
        )
        begun = self._past(expected_name, vm.config).leaving
        is_leaving = begun is not None and begun.uuid == vm.config.uuid
        return (
            *guards.proxmox_guards(vm, expected_name, attached),
            *guards.k3s_guards(vm, k3s, self._ties(vm, k3s), is_leaving=is_leaving),
        )

    def _not_lifted(self, found: tuple[Guard, ...], vm_name: str) -> tuple[Guard, ...]:
        wishes = self._config.wishes
        numbers = {node.number for node in self._config.nodes if node.vm_name == vm_name}
        left = guards.not_lifted_by_consent(found) if numbers & wishes.data_loss else found
        return guards.not_lifted_by_force(left) if numbers & wishes.forced else left


def _unseen_twin(inventory: Inventory) -> tuple[Guard, ...]:
    """Where names cannot be read, two VMs may have the same one."""
    if inventory.unread is None:
        return ()
    return (Guard("the names of some VMs cannot be read, and one of them may have its name", inventory.unread.cure),)


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


def _sees_too_little(token: ApiToken | None) -> Problem:
    user, name = (token.user, token.token_id) if token else ("USER@REALM", "ID")
    return Problem(
        "no VM of that name is visible",
        "but the API token may not see all VMs",
        f"give the token VM.Audit: pveum acl modify /vms --users '{user}' --tokens '{user}!{name}' --roles PVEAuditor",
    )


def _unknown(node: NodeConfig, problem: Problem) -> NodeFacts:
    return NodeFacts(node, Verdict.UNKNOWN, str(problem), problem.cure)


def _or_none(read: Callable[[], Read]) -> Read | None:
    """What was read, or None where it cannot be told."""
    try:
        return read()
    except HomelabError:
        return None
