"""Joins a machine of which the cluster has no Node: anew, or again with a new token where it was a member before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

from homelab.errors import HomelabError, NodeFailed
from homelab.k3s_manager import installing, labels, local, peers, preflight
from homelab.k3s_manager.credentials import CredentialsReader
from homelab.k3s_manager.guest import GuestFinder
from homelab.k3s_manager.installing import JoinOrder
from homelab.k3s_manager.leaving import make_room
from homelab.k3s_manager.local import UNITS, LocalK3s
from homelab.k3s_manager.marking import Marking
from homelab.k3s_manager.preflight import Wanted
from homelab.k3s_manager.readiness import Awaited, wait_until_member
from homelab.k3s_manager.release import Releases
from homelab.k3s_manager.role_board import RoleBoard
from homelab.k3s_manager.roles import kept, without_etcd
from homelab.k3s_manager.server import K3sServer
from homelab.k3s_manager.servers import Servers
from homelab.k3s_manager.settling import Settling
from homelab.models import NodePlan, Outcome, RunningVm, Status, VmFacts
from homelab.runtime import Clock
from homelab.settings import K3sConfig, Role
from homelab.shell import Shell

READY_TIMEOUT_S = {Role.AGENT: 300, Role.SERVER: 600}


@dataclass(frozen=True, slots=True)
class Newcomers:
    """What every join of a run works with; servers take turns."""

    config: K3sConfig
    finder: GuestFinder
    clock: Clock
    servers: Servers
    credentials: CredentialsReader
    releases: Releases
    board: RoleBoard
    marking: Marking
    settling: Settling
    progress: Callable[[str], None]
    _shells: dict[str, Shell] = field(default_factory=dict)

    def join(self, plan: NodePlan, running: RunningVm) -> tuple[Outcome, ...]:
        """Raises HomelabError with the reason why it did not join; another node may then have its place."""
        with self._giving_place_away(plan, running.vm):
            return self._join(plan, running)

    def see_first_boot(self, plan: NodePlan, running: RunningVm) -> tuple[Outcome, ...]:
        """Wait until it is over, whether or not the VM can join then. Raises HomelabError as join."""
        with self._giving_place_away(plan, running.vm):
            return self._log_in(plan, running)

    @contextmanager
    def _giving_place_away(self, plan: NodePlan, vm: VmFacts) -> Iterator[None]:
        try:
            yield
        except HomelabError:
            if not self._may_be_in_cluster(plan.config.vm_name, vm):
                self.board.give_place_away(plan)
            raise

    def _log_in(self, plan: NodePlan, running: RunningVm) -> tuple[Outcome, ...]:
        """Once its first boot is over; what that could not do, and what could not be taken away after it, is told."""
        shell = self.finder.login_to_newcomer(plan, running)
        noted = self.finder.wait_for_cloud_init(running.vm, shell)
        self._shells[plan.name] = shell
        return (*Outcome.noted(plan.name, noted), *self.marking.end_first_boot(plan.name, running.vm))

    def _may_be_in_cluster(self, name: str, vm: VmFacts) -> bool:
        """Also when the cluster cannot be asked. A server has its vote in etcd before it has a Node."""
        try:
            nodes = self.servers.nodes()
            members = self.servers.ask(K3sServer.etcd_members) if any(node.is_etcd for node in nodes) else ()
        except HomelabError:
            return True
        has_node = any(node.system_uuid == vm.config.uuid for node in nodes)
        return has_node or any(member.node == name for member in members)

    def _join(self, plan: NodePlan, running: RunningVm) -> tuple[Outcome, ...]:
        name, vm = plan.config.vm_name, running.vm
        authorities = self.credentials.read().authorities
        told = () if plan.name in self._shells else self._log_in(plan, running)
        shell = self._shells[plan.name]
        found = local.look(shell, name)
        local.check_cluster(found, name, authorities, shell.login)
        role = self._role(plan, found)
        again = "again " if found.has_joined_as(role) else ""
        self.progress(f"{name}: joining the cluster {again}as {role.value}")
        with self.settling.step() if role is Role.SERVER else nullcontext():
            self._enter(plan, vm, shell, role, found)
        joined = Outcome(plan.name, Status.CHANGED, f"{name} joined cluster {again}as {role.value}")
        return (joined, *Outcome.noted(plan.name, kept(plan, role)), *told)

    def _role(self, plan: NodePlan, found: LocalK3s) -> Role:
        """What it is still: an agent, or a server that etcd counts; else what is decided for it.

        A server that etcd does not count would be a further voter. Where there is no etcd, servers are left alone.
        """
        role = self.board.begin(plan, self.servers.nodes)
        if not found.has_joined or found.has_joined_as(role):
            return role
        if found.has_joined_as(Role.AGENT) or self._is_counted(plan.config.vm_name, found.member):
            role = UNITS[found.unit]
            self.board.keep(plan, role)
        return role

    def _is_counted(self, name: str, own: str) -> bool:
        """Is it a member of etcd, or without etcd a server of the cluster?"""
        if not any(node.is_etcd for node in self.servers.nodes()):
            return True
        return any(own == member.name or name == member.node for member in self.servers.ask(K3sServer.etcd_members))

    def _enter(self, plan: NodePlan, vm: VmFacts, shell: Shell, role: Role, found: LocalK3s) -> None:
        """A server that did not get into the cluster is kept from joining later, when another has its place.

        One that did is left running whatever it lacks: stopped, it might take the quorum with it.
        """
        name, read = vm.config.name.lower(), self.credentials.read()
        preflight.check(shell, Wanted(name, read.server_url, read.authorities), self.clock)
        if role is Role.SERVER:
            self._check_etcd(plan, shell, found.member)
        self.marking.begin(vm.config.uuid)
        make_room(self.servers, name, role, found.member)
        with self.credentials.token_for(name, role) as token:
            of_node = labels.at_registration(plan.config, vm.node)
            order = JoinOrder(name, role, read.server_url, token, read.version, read.script, read.shared_flags, of_node)
            try:
                since = self._start(shell, order, found)
                awaited = Awaited(name, vm, lambda: installing.journal(shell, order.unit, since))
                wait_until_member(lambda: self.servers.node(name), awaited, self.clock, READY_TIMEOUT_S[role])
                local.check_cluster(local.look(shell, name), name, read.authorities, shell.login)
            except HomelabError:
                if role is Role.SERVER and not self._may_be_in_cluster(name, vm):
                    with suppress(HomelabError):
                        installing.disable(shell, order.unit)
                raise

    def _check_etcd(self, plan: NodePlan, shell: Shell, own: str) -> None:
        """Raise unless etcd lets a further server in now, and it and the VM reach one another.

        `own` is a member of etcd that is the VM's.
        """
        nodes, name = self.servers.nodes(), plan.config.vm_name
        if problem := without_etcd(plan, nodes):
            raise NodeFailed(problem.what, problem.why, problem.cure)
        self.settling.wait_for_votes(name)
        present = {node.name for node in nodes}
        members = self.servers.ask(K3sServer.etcd_members)
        others = [member for member in members if member.name != own and member.node in present - {name}]
        peers.check(shell, name, others, self.clock)
        peers.check_way_back(self.servers, shell, name, self.clock)

    def _start(self, shell: Shell, order: JoinOrder, found: LocalK3s) -> str:
        """Returns when that was, by the guest's clock."""
        if found.has_joined_as(order.role):
            return installing.renew_token(shell, order)
        if found.unit not in ("", order.unit):
            installing.remove_unit(shell, found.unit)
        return installing.install(shell, order, self.config, self.releases)
