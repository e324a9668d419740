"""Joins VMs to the cluster, and ends the membership of machines that go away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from homelab.errors import HomelabError, Problem
from homelab.k3s_manager import authority, ties
from homelab.k3s_manager.credentials import CredentialsReader
from homelab.k3s_manager.direct import DirectWay
from homelab.k3s_manager.donor import Donor
from homelab.k3s_manager.guest import GuestFinder
from homelab.k3s_manager.guest_servers import GuestServers
from homelab.k3s_manager.joining import Joining
from homelab.k3s_manager.leaving import Leaving
from homelab.k3s_manager.marking import Marking
from homelab.k3s_manager.newcomers import Newcomers
from homelab.k3s_manager.parting import Parting
from homelab.k3s_manager.release import Releases
from homelab.k3s_manager.role_board import RoleBoard
from homelab.k3s_manager.roles import even_voters
from homelab.k3s_manager.script import InstallScript
from homelab.k3s_manager.server import Answer
from homelab.k3s_manager.servers import Servers
from homelab.k3s_manager.settling import Settling
from homelab.kubernetes import Access
from homelab.memory import ClusterMemory, Cordons
from homelab.models import (
    TAG_AGENT,
    TAG_SERVER,
    K3sFacts,
    K3sNode,
    KnownCluster,
    KnownServer,
    NodePlan,
    Outcome,
    Plan,
    RunningVm,
    Status,
    Ties,
    VmFacts,
)
from homelab.proxmox.client import Proxmox
from homelab.runtime import Clock
from homelab.settings import K3sConfig, Secret
from homelab.shelf import Shelf
from homelab.shell import Shell

NOT_WANTED = "K3S_EXISTING_NODE_IP not set, skipping k3s join"


@dataclass(frozen=True, slots=True)
class Ways:
    """How the cluster is reached: a shell on a server, the kubeconfig, the text of a URL (with the key to name).

    What is fetched lies on the `shelf`; `slots` limits transfers. `progress` and `warn` say a sentence; `hide` keeps a
    secret from ever being said.
    """

    connect: Callable[[str], Shell]
    access: Callable[[], Access | None]
    fetch: Callable[[str, str], str]
    shelf: Shelf
    slots: threading.Semaphore
    progress: Callable[[str], None]
    warn: Callable[[str], None]
    hide: Callable[[Secret], None]


@dataclass(slots=True)
class K3sManager:
    """The cluster behind K3S_EXISTING_NODE_IP.

    `marking` is what is written on the VMs, `memory` the cluster as it was last seen, `cordons` the Nodes
    that were drained.
    """

    config: K3sConfig
    pve: Proxmox
    finder: GuestFinder
    clock: Clock
    ways: Ways
    marking: Marking
    memory: ClusterMemory
    cordons: Cordons
    _servers: Servers = field(init=False)
    _direct: DirectWay = field(init=False)
    _credentials: CredentialsReader = field(init=False)
    _releases: Releases = field(init=False)
    _board: RoleBoard = field(init=False)
    _joining: Joining = field(init=False)
    _settling: Settling = field(init=False)
    _seen: KnownCluster | None = None

    def __post_init__(self) -> None:
        say = self.ways.progress
        self._servers = self._servers_of_before()
        self._direct = DirectWay(self.config, self.ways.access, self._servers, say)
        ways = self.ways
        script = InstallScript(self.config.install_url, ways.shelf, ways.fetch, ways.warn)
        self._credentials = CredentialsReader(self.config, self._servers, script, ways.hide)
        donor = Donor(self._servers, ways.shelf)
        self._releases = Releases(self.config, donor, ways.shelf, ways.fetch, say, ways.slots)
        self._board = RoleBoard(say)
        self._settling = Settling(self._servers, self.clock, say)
        newcomers = Newcomers(
            config=self.config,
            finder=self.finder,
            clock=self.clock,
            servers=self._servers,
            credentials=self._credentials,
            releases=self._releases,
            board=self._board,
            marking=self.marking,
            settling=self._settling,
            progress=say,
        )
        self._joining = Joining(self.pve, self.finder, self.clock, self._servers, newcomers, self.cordons, say)

    def _servers_of_before(self) -> Servers:
        """Those of the cluster that was last seen, as far as that can be told."""
        known, doubt = None, None
        try:
            known = self.memory.recall()
        except HomelabError as error:
            doubt = error
        ways, guests = self.ways, GuestServers(self.pve)
        return Servers(self.config, ways.connect, guests, known, str(self.memory.path), ways.warn, doubt)

    # --- looking ---------------------------------------------------------------------------------------------

    def observe(self) -> K3sFacts:
        """The cluster's Nodes, or why it cannot be asked. Nothing is asked when no join is wanted."""
        listed = self.config.existing_servers
        if not listed:
            return K3sFacts(is_wanted=False)
        try:
            address, answer = self._direct.look() or self._by_command()
        except HomelabError as error:
            problem = Problem("k3s cannot be asked", str(error), error.cure or "check K3S_EXISTING_NODE_IP")
            return K3sFacts(is_wanted=True, problem=problem, asked_at=listed[0], listed=listed)
        self._note(answer)
        return K3sFacts(
            is_wanted=True, nodes=answer.nodes, asked_at=address, answered_by=answer.host_name, listed=listed
        )

    def _by_command(self) -> tuple[str, Answer]:
        server, answer = self._servers.look()
        return server.address, answer

    def _note(self, answer: Answer) -> None:
        """Remember the cluster, and tell of a server that is no longer where K3S_EXISTING_NODE_IP has it."""
        servers = [node for node in answer.nodes if node.is_server]
        held = {address for node in servers for address in node.addresses}
        known = self._servers.known.servers if self._servers.known else ()
        seen = []
        for node in servers:
            before = _addresses_before(node, known)
            left = tuple(one for one in before if one in self.config.existing_servers and one not in held)
            seen.append(KnownServer(node.name, node.system_uuid, (*node.addresses, *left)))
            if left:
                place = ", ".join(address for address in node.addresses if address != node.name)
                self._servers.say(f"K3S_EXISTING_NODE_IP: {node.name} is no longer at {', '.join(left)} but at {place}")
        self._seen = KnownCluster(authority.fingerprints(answer.authority_pem), tuple(seen))

    # --- replacing -------------------------------------------------------------------------------------------

    def check_replaceable(self, name: str) -> None:
        """Raise unless a new machine could join: a server answers, token and CA fit, version and script at hand."""
        if self.config.is_join_wanted:
            self.ways.progress(f"{name}: checking that a replacement could join")
            self._servers.keep_away_from(name)
            self.check_joinable()

    def unanswering(self) -> tuple[Problem, ...]:
        """What is wrong with servers of K3S_EXISTING_NODE_IP that a run gets along without."""
        return self._servers.unanswering() if self.config.is_join_wanted else ()

    def check_joinable(self) -> None:
        """Raise unless the cluster to join can be joined: its servers agree, token and CA fit, k3s is at hand."""
        if self.config.is_join_wanted:
            self._releases.check(self._credentials.read().version)

    def keep_away_from(self, name: str) -> None:
        """Have another machine than the one of this name asked from now on; raises when no other one answers."""
        self._servers.keep_away_from(name)

    def role_tag(self, uuid: str) -> str:
        """The tag for the role of the machine with this uuid, by its Node; empty where it has none."""
        nodes = self._servers.nodes() if self.config.is_join_wanted else ()
        node = next((node for node in nodes if node.system_uuid == uuid), None)
        tag = "" if node is None else TAG_SERVER if node.is_server else TAG_AGENT
        self._board.note_role(uuid, tag)
        return tag

    def ties(self, vm: VmFacts, facts: K3sFacts) -> Ties:
        """What ties a VM to the cluster beside its Node."""
        return ties.read(self._servers, vm, facts)

    def parting(self, uuid: str, *, is_running: bool) -> AbstractContextManager[bool]:
        """See homelab.models.Leaving."""
        if not self.config.is_join_wanted:
            return nullcontext(False)
        self.marking.may_begin()
        return Parting(self._servers, self._settling, self.cordons, self.ways.progress).begin(
            uuid, is_running=is_running
        )

    def remove(self, name: str, uuid: str, *, is_off: bool = True) -> None:
        """End the membership of a machine, known by its uuid: etcd member, Node, node-password secret.

        Raises Interrupted where nothing new is to be begun.
        """
        if self.config.is_join_wanted:
            self.marking.may_begin()
            Leaving(self._servers, self.clock, self.ways.progress).remove(name, uuid, is_off=is_off)

    # --- joining ---------------------------------------------------------------------------------------------

    def prepare(self, plan: Plan) -> None:
        """Remember who is to join or has joined, so that roles can be decided together."""
        self._board.prepare(plan)

    def leave_out(self, node: NodePlan) -> None:
        """The node has no running VM, so it counts for no role (once roles are decided this changes nothing)."""
        self._board.leave_out(node)

    def join(self, plan: NodePlan, running: RunningVm, facts: K3sFacts) -> tuple[Outcome, ...]:
        """Make the VM a Ready member; what goes wrong becomes an outcome with its cure."""
        if not facts.is_wanted:
            return ()
        try:
            lines = self._joining.join(plan, running, facts)
            if self.marking.is_due(running.vm):
                self._credentials.end_token_of(plan.config.vm_name)
            name = plan.config.vm_name
            return (*lines, *self.marking.write_role(plan.name, running.vm, lambda: self._servers.node(name)))
        except HomelabError as error:
            what = f"{plan.config.vm_name} is not joined: {error.what}"
            return (Outcome(plan.name, Status.FAILED, what, error.why, error.cure or "run again"),)

    def review(self, before: K3sFacts) -> tuple[Outcome, ...]:
        """What has to be said of the cluster as a whole once all nodes are done."""
        if not before.is_wanted:
            return (Outcome("k3s", Status.SKIPPED, NOT_WANTED),)
        found = self._even_voters() if self._board.has_new_server else ()
        if self._seen and self._seen.authorities:
            self.memory.keep(self._seen)
        return found

    def _even_voters(self) -> tuple[Outcome, ...]:
        """Two are trouble, since either stops the other; more are only no better than one less."""
        facts = self.observe()
        count = len(facts.voters)
        if not facts.is_known or not count or count % 2:
            return ()
        names = " and ".join(sorted(voter.name for voter in facts.voters))
        if count > 2:
            cure = "make one of them an agent, or another node a server (K3S_ROLE_n)"
            return (Outcome("k3s", Status.SKIPPED, f"the cluster has {even_voters(count)}", names, cure),)
        return (
            Outcome(
                "k3s",
                Status.FAILED,
                "the cluster has only two voting servers",
                f"{names}: if either fails, it stands still",
                "run again once the node that failed is well; it then becomes the third server",
            ),
        )


def _addresses_before(node: K3sNode, known: Sequence[KnownServer]) -> tuple[str, ...]:
    """Those of this very machine; of one that was made anew, those of the machine that had its name."""
    uuid = node.system_uuid
    same = [one for one in known if one.uuid == uuid and uuid] or [one for one in known if one.name == node.name]
    return same[0].addresses if same else ()
