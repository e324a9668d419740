"""Joins VMs to the cluster, and ends the membership of machines that go away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from homelab import cloud_init
from homelab.errors import HomelabError, NodeFailed, Problem, Refused, TimedOut, Undecided, Unreachable
from homelab.k3s_manager import installing, roles
from homelab.k3s_manager.credentials import Credentials, CredentialsReader
from homelab.k3s_manager.guest import GuestFinder
from homelab.k3s_manager.installing import JoinOrder
from homelab.k3s_manager.leaving import Leaving, check_machine_is_gone
from homelab.k3s_manager.readiness import PACE, Awaited, is_member, wait_until_member
from homelab.k3s_manager.server import K3sServer
from homelab.memory import Joins
from homelab.models import (
    MEMBER_TAGS,
    TAG_AGENT,
    TAG_SERVER,
    Action,
    K3sFacts,
    K3sNode,
    NodePlan,
    Outcome,
    Plan,
    RunningVm,
    Status,
    VmFacts,
)
from homelab.proxmox.client import Proxmox
from homelab.runtime import Clock
from homelab.settings import K3sConfig, Role
from homelab.shell import Shell

NOT_WANTED = "K3S_EXISTING_NODE_IP not set, skipping k3s join"
READY_TIMEOUT_S = {Role.AGENT: 300, Role.SERVER: 600}
BACK_TIMEOUT_S = 300


@dataclass(slots=True)
class K3sManager:
    """The cluster behind K3S_EXISTING_NODE_IP. `connect` logs in there, once; `fetch` as for CredentialsReader.

    `joins` remembers those that were begun.
    """

    config: K3sConfig
    pve: Proxmox
    finder: GuestFinder
    clock: Clock
    connect: Callable[[str], Shell]
    fetch: Callable[[str, str], str]
    progress: Callable[[str], None]
    joins: Joins
    _credentials: Credentials | HomelabError | None = None
    _roles: dict[str, Role] = field(default_factory=dict)
    _plan: tuple[NodePlan, ...] = ()
    _had: dict[str, str] = field(default_factory=dict)
    _begun: set[str] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _one_server: threading.Lock = field(default_factory=threading.Lock)

    # --- looking ---------------------------------------------------------------------------------------------

    def observe(self) -> K3sFacts:
        """The cluster's Nodes, or why it cannot be asked. Nothing is asked when no join is wanted."""
        address = self.config.existing_server
        if not address:
            return K3sFacts(is_wanted=False)
        try:
            server = self._server()
            facts = K3sFacts(is_wanted=True, nodes=server.nodes(), asked_at=address)
            return facts if facts.asked_node else replace(facts, answered_by=server.host_name())
        except HomelabError as error:
            problem = Problem("k3s cannot be asked", str(error), error.cure or "check K3S_EXISTING_NODE_IP")
            return K3sFacts(is_wanted=True, problem=problem, asked_at=address)

    @property
    def _reader(self) -> CredentialsReader:
        return CredentialsReader(self.config, self.fetch)

    def _server(self) -> K3sServer:
        address = self.config.existing_server or ""
        shell = self.connect(address)
        try:
            shell.connect()
        except Unreachable as error:
            raise Unreachable(error.what, error.why, f"check K3S_EXISTING_NODE_IP; {error.cure}") from error
        return K3sServer(shell, address)

    def _node(self, name: str) -> K3sNode | None:
        return next((node for node in self._server().nodes() if node.name == name), None)

    # --- replacing -------------------------------------------------------------------------------------------

    def check_replaceable(self, name: str) -> None:
        """Raise unless a new machine could join: a server answers, token and CA fit, version and script at hand."""
        if self.config.existing_server:
            self.progress(f"{name}: checking that a replacement could join")
            self._reader.check_release(self._get_credentials().version)

    def role_tag(self, uuid: str) -> str:
        """The tag for the role of the machine with this uuid, by its Node; empty where it has none."""
        nodes = self._server().nodes() if self.config.existing_server else ()
        node = next((node for node in nodes if node.system_uuid == uuid), None)
        self._had[uuid] = "" if node is None else TAG_SERVER if node.is_server else TAG_AGENT
        return self._had[uuid]

    def remove(self, name: str, uuid: str) -> None:
        """End the membership of a machine that is off, known by its uuid: etcd member, Node, node-password secret.

        Raises Interrupted where nothing new is to be begun.
        """
        if self.config.existing_server:
            self.joins.journal.interruption.check()
            Leaving(self._server(), self.clock, self.progress).remove(name, uuid)

    # --- joining ---------------------------------------------------------------------------------------------

    def prepare(self, plan: Plan) -> None:
        """Remember who is to join or has joined, so that roles can be decided together."""
        self._plan = tuple(node for node in plan.nodes if node.ends_running)

    def leave_out(self, node: NodePlan) -> None:
        """The node has no running VM, so it counts for no role (once roles are decided this changes nothing)."""
        with self._lock:
            self._plan = tuple(plan for plan in self._plan if plan.name != node.name)

    def join(self, plan: NodePlan, running: RunningVm, facts: K3sFacts) -> tuple[Outcome, ...]:
        """Make the VM a Ready member; what goes wrong becomes an outcome with its cure."""
        if not facts.is_wanted:
            return ()
        try:
            lines = self._join(plan, running, facts)
            return (*lines, *self._mark(plan.name, running.vm))
        except HomelabError as error:
            what = f"{plan.config.vm_name} is not joined: {error.what}"
            return (Outcome(plan.name, Status.FAILED, what, error.why, error.cure or "run again"),)

    def _join(self, plan: NodePlan, running: RunningVm, facts: K3sFacts) -> tuple[Outcome, ...]:
        name, vm = plan.config.vm_name, running.vm
        if not plan.is_write and facts.is_known and is_member(facts.node(name), vm):
            lines = self._end_first_boot(plan.name, vm)
            return (Outcome(plan.name, Status.OK, f"{name} already in cluster, skipping"), *lines)
        nodes = self._nodes_by_now()
        node = next((node for node in nodes if node.name == name), None)
        if node and node.system_uuid == vm.config.uuid:
            return self._bring_back(plan, vm, node, facts)
        if own := next((node for node in nodes if node.system_uuid == vm.config.uuid), None):
            raise NodeFailed(
                f"the VM is in the cluster already, under the name {own.name}",
                f"the Node {own.name} has its system UUID {own.system_uuid}",
                f"set {plan.config.key('VM_NAME')} and the VM's name to {own.name}, or kubectl delete node {own.name}",
            )
        if node and node.is_ready:
            raise NodeFailed(
                f"another machine is a Ready member under the name {name}",
                f"its system UUID is {node.system_uuid}, the VM's is {vm.config.uuid}",
                f"kubectl get node {name} -o wide shows where it is; rename one of the two (VM_NAME_n)",
            )
        if node:
            check_machine_is_gone(self.pve, node)
            self.remove(name, node.system_uuid)
        return self._join_anew(plan, running)

    def _nodes_by_now(self) -> tuple[K3sNode, ...]:
        """The Nodes now. Where VMs were just started, the server may be one of them, so it is given time."""
        has_started = any(plan.action is Action.START for plan in self._plan)
        deadline = self.clock.now() + (self.finder.config.guest.start_timeout_s if has_started else 0)
        while True:
            try:
                return self._server().nodes()
            except (Unreachable, Undecided, Refused, TimedOut):
                if self.clock.now() >= deadline:
                    raise
            self.clock.sleep(PACE.longest_s)

    def _bring_back(self, plan: NodePlan, vm: VmFacts, node: K3sNode, facts: K3sFacts) -> tuple[Outcome, ...]:
        """The machine is a member already: wait until it is Ready, restart its service once if it does not come."""
        name = node.name
        stale = _ready_before_the_start(plan, facts)
        if is_member(node, vm) and node.boot_id != stale:
            return (Outcome(plan.name, Status.OK, f"{name} already in cluster, skipping"),)
        unit = "k3s" if node.is_server else "k3s-agent"
        self.progress(f"{name}: waiting until its Node is Ready again")
        try:
            self._wait(name, vm, BACK_TIMEOUT_S, lambda: "", stale)
        except TimedOut:
            shell = self.finder.login(plan.config, RunningVm(vm))
            since = installing.restart(shell, unit)
            self._wait(name, vm, BACK_TIMEOUT_S, lambda: installing.journal(shell, unit, since))
        return (Outcome(plan.name, Status.CHANGED, f"{name} is Ready again"),)

    def _wait(self, name: str, vm: VmFacts, timeout_s: float, journal: Callable[[], str], stale: str = "-") -> None:
        wait_until_member(lambda: self._node(name), Awaited(name, vm, journal, stale), self.clock, timeout_s)

    def _join_anew(self, plan: NodePlan, running: RunningVm) -> tuple[Outcome, ...]:
        try:
            return self._set_up(plan, running)
        except HomelabError:
            if not self._may_be_in_cluster(running.vm):
                self._give_place_away(plan)
            raise

    def _may_be_in_cluster(self, vm: VmFacts) -> bool:
        """Also when the cluster cannot be asked."""
        try:
            return any(node.system_uuid == vm.config.uuid for node in self._server().nodes())
        except HomelabError:
            return True

    def _set_up(self, plan: NodePlan, running: RunningVm) -> tuple[Outcome, ...]:
        vm = running.vm
        credentials = self._get_credentials()
        shell = self.finder.login_to_newcomer(plan, running)
        noted = self.finder.wait_for_cloud_init(vm, shell)
        leftovers = self._end_first_boot(plan.name, vm)
        installing.check_not_running(shell, plan.config.vm_name)
        role = self._begin(plan)
        order = JoinOrder(
            plan.config.vm_name,
            role,
            self.config.existing_server or "",
            credentials.tokens.server if role is Role.SERVER else credentials.tokens.agent,
            credentials.version,
            credentials.script,
            credentials.shared_flags,
        )
        self.progress(f"{order.name}: joining the cluster as {role.value}")
        self.joins.begin(vm.config.uuid, TAG_SERVER if role is Role.SERVER else TAG_AGENT)
        if role is Role.SERVER:
            with self._one_server:
                self._install_as_server(vm, shell, order)
        else:
            self._install(vm, shell, order)
        lines = [Outcome(plan.name, Status.CHANGED, f"{order.name} joined cluster as {role.value}")]
        lines += leftovers
        lines += [Outcome(plan.name, Status.SKIPPED, noted.what, noted.why, noted.cure)] if noted else []
        return tuple(lines)

    def _install_as_server(self, vm: VmFacts, shell: Shell, order: JoinOrder) -> None:
        """A server that did not get into the cluster is kept from joining later, when another has its place."""
        try:
            self._install(vm, shell, order)
        except HomelabError:
            if not self._may_be_in_cluster(vm):
                with suppress(HomelabError):
                    installing.disable(shell, order.unit)
            raise

    def _install(self, vm: VmFacts, shell: Shell, order: JoinOrder) -> None:
        installing.check_host_name(shell, order)
        installing.check_server_reachable(shell, order)
        since = installing.install(shell, order, self.config)
        self._wait(order.name, vm, READY_TIMEOUT_S[order.role], lambda: installing.journal(shell, order.unit, since))

    def _end_first_boot(self, node: str, vm: VmFacts) -> tuple[Outcome, ...]:
        """Take the snippet of the first boot off, now that it is over: a missing one would stop a later start."""
        if not cloud_init.is_vendor_data(vm.config.values.get("cicustom", "")):
            return ()

        def drop() -> None:
            now = self.pve.vm_config(vm.node, vm.vmid)
            if cloud_init.is_vendor_data(now.values.get("cicustom", "")):
                self.pve.set_vm(vm.node, vm.vmid, {}, delete=("cicustom",), digest=now.digest)

        return _noting(node, f"VM {vm.config.name} still has the snippet of its first boot", drop)

    def _mark(self, node: str, vm: VmFacts) -> tuple[Outcome, ...]:
        """Write the role on a VM that has joined, now or in a killed run: for the day when its Node is gone."""
        tag = self.joins.tag_due(vm.config.uuid)
        if not tag:
            return ()

        def write() -> None:
            config = self.pve.vm_config(vm.node, vm.vmid)
            tags = ";".join(sorted((config.tags - MEMBER_TAGS) | {tag}))
            self.pve.set_vm(vm.node, vm.vmid, {"tags": tags}, digest=config.digest)
            self.joins.end(vm.config.uuid)

        return _noting(node, f"VM {vm.config.name} has joined, but does not bear the tag {tag}", write)

    def review(self, before: K3sFacts) -> tuple[Outcome, ...]:
        """What has to be said of the cluster as a whole once all nodes are done."""
        if not before.is_wanted:
            return (Outcome("k3s", Status.SKIPPED, NOT_WANTED),)
        if Role.SERVER not in {self._roles.get(name) for name in self._begun}:
            return ()
        facts = self.observe()
        if not facts.is_known or len(facts.voters) != 2:
            return ()
        names = " and ".join(sorted(voter.name for voter in facts.voters))
        return (
            Outcome(
                "k3s",
                Status.FAILED,
                "the cluster has only two voting servers",
                f"{names}: if either fails, it stands still",
                "run again once the node that failed is well; it then becomes the third server",
            ),
        )

    # --- what all joins share --------------------------------------------------------------------------------

    def _get_credentials(self) -> Credentials:
        """Token, version, install script and shared settings: read once, and failed once."""
        with self._lock:
            if self._credentials is None:
                try:
                    self._credentials = self._reader.read(self._server())
                except HomelabError as error:
                    self._credentials = error
            if isinstance(self._credentials, HomelabError):
                raise self._credentials
            return self._credentials

    def _begin(self, plan: NodePlan) -> Role:
        with self._lock:
            if not self._roles:
                self._roles = roles.assign(self._plan, self._server().nodes(), self._had)
            self._begun.add(plan.name)
            return self._roles[plan.name]

    def _give_place_away(self, failed: NodePlan) -> None:
        """A node that was to be an agent and has not begun takes the place of a server that failed."""
        with self._lock:
            self._begun.add(failed.name)
            if not self._roles:
                self.leave_out(failed)
                return
            waiting = (plan for plan in self._plan if self._may_become_server(plan))
            heir = next(waiting, None) if self._roles.get(failed.name) is Role.SERVER else None
            if heir:
                self._roles[heir.name] = Role.SERVER
                self.progress(f"{heir.config.vm_name}: becomes a server in place of {failed.name}")

    def _may_become_server(self, plan: NodePlan) -> bool:
        is_free = plan.name not in self._begun and plan.config.role is Role.AUTO and not plan.facts.vm
        return is_free and self._roles[plan.name] is Role.AGENT


def _noting(node: str, loss: str, step: Callable[[], None]) -> tuple[Outcome, ...]:
    """Do what the membership does not depend on; where it fails, that is said, and the VM is joined all the same."""
    try:
        step()
    except HomelabError as error:
        return (Outcome(node, Status.SKIPPED, loss, str(error), error.cure),)
    return ()


def _ready_before_the_start(plan: NodePlan, facts: K3sFacts) -> str:
    """The boot id of a Node that still counted as Ready although its machine was off; `-` where there is none."""
    node = facts.node(plan.config.vm_name) if plan.is_write else None
    return node.boot_id if node and node.is_ready else "-"
