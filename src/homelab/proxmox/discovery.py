"""Where the nodes are and what they are called: every address that may be theirs, side by side, in five seconds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from homelab.errors import ChangedIdentity, HomelabError, Misunderstood, Problem, Refused, Unreachable
from homelab.models import ClusterStatus, Member
from homelab.proxmox import answers
from homelab.proxmox.api import Api, ApiAddress, NotPinned
from homelab.proxmox.node_entries import (
    entry,
    foreign,
    is_in,
    member_called,
    name_of,
    of_this_node,
    own_hosts,
    repeated,
    unknown,
)
from homelab.proxmox.probing import NAME_NOT_KNOWN, Door, Probes
from homelab.proxmox.ssh import Ssh
from homelab.proxmox.tls import Certificates, TlsTrust
from homelab.proxmox.transport import Link, OnFallback, Transport
from homelab.runtime import Clock
from homelab.settings import Config, NodeConfig, Via
from homelab.shell import TRUST_COMMAND, Shells, UnknownHostKey

STATUS_TIMEOUT_S = 5.0
Doors = tuple[Door, ...]
"""The ports of one machine at one address."""

BETTER_ONE_S = 0.25
"""How long an answering address is held back for one that comes before it in order."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found. `config` carries Proxmox' own node names, by which `links` and `problems` go.

    All links are of one cluster, that of `status`: a list of its VMs shows every VM of every node.
    """

    config: Config
    links: Mapping[str, Link]
    status: ClusterStatus | None
    problems: Mapping[str, Problem]


def find(
    config: Config,
    *,
    via: Via,
    shells: Shells,
    on_fallback: OnFallback,
    clock: Clock,
    certificates: Certificates | None = None,
) -> Found:
    """Look for every configured node; those that nobody reaches get a problem, the others go on.

    Candidates in order: NODE_HOST_n; NODE_n if it is an address or has a dot; NODE_n.NODE_DOMAIN; NODE_n; PVE_IPS
    matched by the name that the server reports; the member's address as the cluster knows it. A node outside the
    cluster, or one that is configured twice, gets a problem and no link. Raises Refused when a server will not tell
    the members (token wrong, or without Sys.Audit on /).
    """
    return _Search(config, via, shells, on_fallback, clock, certificates).run()


@dataclass(slots=True)
class _Search:
    config: Config
    via: Via
    shells: Shells
    on_fallback: OnFallback
    clock: Clock
    certificates: Certificates | None
    probes: Probes = field(default_factory=Probes)
    statuses: dict[Doors, ClusterStatus] = field(default_factory=dict)
    mute: dict[Doors, HomelabError] = field(default_factory=dict)
    api_trouble: dict[Door, Unreachable | Misunderstood] = field(default_factory=dict)

    def run(self) -> Found:
        nodes = self.config.nodes
        for node in nodes:
            self._knock(node, self._hosts_to_ask(node))
        self._read_first_status()
        hosts = {node.number: self._candidates(node) for node in nodes}
        for node in nodes:
            self._knock(node, hosts[node.number])
        self.probes.wait_until(lambda: all(self._is_settled(node, hosts[node.number]) for node in nodes), BETTER_ONE_S)
        members = {node.number: self._identified(node) for node in nodes}
        for node in nodes:
            if not self._has_some(node, hosts[node.number]):
                hosts[node.number] += self._other_addresses(node, name_of(node, members[node.number]))
        self.probes.wait_until(lambda: all(self._is_over(node, hosts[node.number]) for node in nodes))
        return self._found(members, hosts)

    def _found(self, members: Mapping[int, Member | None], hosts: Mapping[int, Sequence[str]]) -> Found:
        """Links and problems; a node that may not be touched here keeps the words of its own key as its name."""
        status = self._status(members.values())
        links: dict[str, Link] = {}
        problems: dict[str, Problem] = {}
        renamed: dict[str, NodeConfig] = {}
        for node in self.config.nodes:
            member = members[node.number]
            name = name_of(node, member)
            earlier = renamed.get(name)
            try:
                link = self._link(node, name, hosts[node.number])
            except Unreachable as error:
                problem = repeated(node, name, earlier) or unknown(node, member, status) or error.problem
                name = entry(node) if earlier else name
                problems[name] = problem
            else:
                if wrong := foreign(node, member, status) or repeated(node, name, earlier):
                    name = entry(node)
                    problems[name] = wrong
                else:
                    links[name] = link
            renamed[name] = replace(node, name=name)
        return Found(replace(self.config, nodes=tuple(renamed.values())), links, status, problems)

    # --- knocking ------------------------------------------------------------------------------------------------

    def _knock(self, node: NodeConfig, hosts: Iterable[str]) -> None:
        self.probes.knock(door for host in hosts for door in self._doors(node, host))

    def _doors(self, node: NodeConfig, host: str) -> Doors:
        """The API's door first, unless nobody wants it."""
        api = () if self.via is Via.SSH else ((host, node.api_port),)
        return (*api, (host, node.ssh_port))

    def _is_settled(self, node: NodeConfig, hosts: Sequence[str]) -> bool:
        """Is the node's best preferred door open, and all before it known to be closed? Or everything closed?"""
        for door in (self._doors(node, host)[0] for host in hosts):
            if not self.probes.is_done(door) or self.probes.is_open(door):
                return self.probes.is_open(door)
        return self._is_all_tried(node, hosts)

    def _is_over(self, node: NodeConfig, hosts: Sequence[str]) -> bool:
        return self._has_some(node, hosts) or self._is_all_tried(node, hosts)

    def _has_some(self, node: NodeConfig, hosts: Sequence[str]) -> bool:
        return any(self.probes.is_open(door) for host in hosts for door in self._doors(node, host))

    def _is_all_tried(self, node: NodeConfig, hosts: Sequence[str]) -> bool:
        return all(self.probes.is_done(door) for host in hosts for door in self._doors(node, host))

    # --- the cluster's own word ------------------------------------------------------------------------------------

    def _read_first_status(self) -> None:
        """Ask the first door that opens who the members are; then the next one, while the answer makes no sense."""
        probes = self.probes
        while not self.statuses:
            probes.wait_until(lambda: self._to_ask(is_api=True) is not None or probes.all_done(), BETTER_ONE_S)
            probes.wait_until(lambda: self._to_ask() is not None or probes.all_done())
            next_one = self._to_ask(is_api=True) or self._to_ask()
            if next_one is None:
                break
            self._ask(*next_one)
        refused = next((error for error in self.mute.values() if isinstance(error, Refused)), None)
        if refused is not None and not self.statuses:
            raise refused

    def _hosts_to_ask(self, node: NodeConfig) -> list[str]:
        return [*own_hosts(node, self.config.node_domain), *self.config.fallback_addresses]

    def _to_ask(self, *, is_api: bool = False) -> tuple[NodeConfig, str] | None:
        """An address that answers and has not been asked; with is_api only where the preferred door is open."""
        for node in self.config.nodes:
            for host in self._hosts_to_ask(node):
                doors = self._doors(node, host)
                is_new = doors not in self.statuses and doors not in self.mute
                if is_new and any(map(self.probes.is_open, doors[:1] if is_api else doors)):
                    return node, host
        return None

    def _ask(self, node: NodeConfig, host: str) -> ClusterStatus | None:
        """The members as the machine at this address knows them, asked once; None when it does not say."""
        doors = self._doors(node, host)
        if doors not in self.statuses and doors not in self.mute:
            try:
                self.statuses[doors] = self._asked(node, host)
            except (Unreachable, Misunderstood, Refused) as error:
                self.mute[doors] = error
        return self.statuses.get(doors)

    def _asked(self, node: NodeConfig, host: str) -> ClusterStatus:
        """By the API, and when that is not to be had by SSH; raises the last reason why not."""
        failure: Unreachable | Misunderstood = Unreachable(f"machine at {host}", "there is no way to ask it")
        if self.via is not Via.SSH and self.probes.is_open((host, node.api_port)):
            try:
                return self._asked_by_api(node, (host, node.api_port))
            except NotPinned as error:
                failure = error
            except (Unreachable, Misunderstood) as error:
                failure = self.api_trouble[host, node.api_port] = error
        if isinstance(failure, ChangedIdentity):
            raise failure
        if self.via is not Via.API and self.probes.is_open((host, node.ssh_port)):
            return _members_of(Ssh("", self.shells.node(host, node.ssh_port), self.config.ssh.user))
        raise failure

    def _asked_by_api(self, node: NodeConfig, door: Door) -> ClusterStatus:
        """Any node's pinned certificate may be the one shown: PVE_IPS do not say whose address it is."""
        first, *others = dict.fromkeys(self._trust(other) for other in (node, *self.config.nodes))
        try:
            return _members_of(self._api(door, first))
        except Unreachable as failure:
            for trust in others:
                with suppress(Unreachable):
                    return _members_of(self._api(door, trust))
            raise failure

    def _trust(self, node: NodeConfig) -> TlsTrust:
        return TlsTrust(self.config.api.ca_bundle, node.fingerprint, self.certificates)

    def _status(self, members: Collection[Member | None]) -> ClusterStatus | None:
        """The one cluster of this run: that with most of the configured nodes, among equals that of the lowest NODE_n.

        A host outside any cluster is a cluster of one.
        """

        def configured(status: ClusterStatus) -> int:
            return sum(is_in(status, member) for member in members)

        by_node = [said for member in members for said in self.statuses.values() if is_in(said, member)]
        return max(by_node or self.statuses.values(), key=configured, default=None)

    def _members(self) -> list[Member]:
        """Of every cluster that answered."""
        return [member for status in self.statuses.values() for member in status.members]

    # --- names and addresses -----------------------------------------------------------------------------------------

    def _identified(self, node: NodeConfig) -> Member | None:
        """The member that a node is, as its cluster or the machine at its address says; None when nobody does.

        A host of another cluster may bear a member's name: at another address than the member's it is asked itself.
        """
        member = member_called(node, self._members())
        for host in own_hosts(node, self.config.node_domain):
            if member is None or not self._is_at(node, host, member.address):
                said = self._local_member(node, host)
                member = said if said and (member is None or said.name == member.name) else member
        return member

    def _is_at(self, node: NodeConfig, host: str, address: str) -> bool:
        return any(self.probes.address(door) == address for door in self._doors(node, host))

    def _local_member(self, node: NodeConfig, host: str) -> Member | None:
        """The machine at an address that answers, by its own word."""
        if not any(self.probes.is_open(door) for door in self._doors(node, host)):
            return None
        status = self._ask(node, host)
        return next((member for member in status.members if member.is_local), None) if status else None

    def _candidates(self, node: NodeConfig) -> list[str]:
        """The addresses of a node in the order in which they are wanted."""
        own = own_hosts(node, self.config.node_domain)
        member = member_called(node, self._members())
        return list(dict.fromkeys([*own, member.address])) if member and member.address else own

    def _other_addresses(self, node: NodeConfig, name: str) -> list[str]:
        """Entries of PVE_IPS that are another address of the node than the cluster's own; asks whoever is there."""
        local = {host: self._local_member(node, host) for host in self._unclaimed_addresses()}
        return [host for host, member in local.items() if member is not None and member.name == name]

    def _unclaimed_addresses(self) -> list[str]:
        """Entries of PVE_IPS of which no cluster says whose they are."""
        known = {member.address for member in self._members()}
        return [host for host in self.config.fallback_addresses if host not in known]

    # --- links ---------------------------------------------------------------------------------------------------

    def _link(self, node: NodeConfig, name: str, hosts: Sequence[str]) -> Link:
        """The wires of a node that answer. Raises Unreachable when none does that is wanted."""
        door = self._ssh_door(node, hosts)
        ssh = Ssh(name, self.shells.node(*door), self.config.ssh.user) if door else None
        if self.via is not Via.SSH:
            try:
                return Link(name, self._usable_api(node, name, hosts), ssh, self.via, self.on_fallback)
            except ChangedIdentity:
                raise
            except Unreachable as trouble:
                if ssh is None or self.via is Via.API:
                    raise self._unreached(node, name, hosts) from trouble
                self.on_fallback(name, str(trouble))
                link = Link(name, None, ssh, self.via, self.on_fallback)
                link.trouble = trouble
                return link
        if ssh is None:
            raise self._unreached(node, name, hosts)
        return Link(name, None, ssh, self.via, self.on_fallback)

    def _ssh_door(self, node: NodeConfig, hosts: Sequence[str]) -> Door | None:
        """Where SSH answers; else where the API does and SSH has not been heard from yet: it is tried when needed."""
        probes = self.probes
        is_pending = [
            host
            for host in hosts
            if probes.is_open((host, node.api_port)) and not probes.is_done((host, node.ssh_port))
        ]
        answering = [host for host in hosts if probes.is_open((host, node.ssh_port))]
        return next(((host, node.ssh_port) for host in (*answering, *is_pending)), None)

    def _usable_api(self, node: NodeConfig, name: str, hosts: Sequence[str]) -> Api:
        """The node's API, unless it is known not to be usable."""
        door = next((door for host in hosts if self.probes.is_open(door := (host, node.api_port))), None)
        if door is None:
            tried = "; ".join(f"{host}: {self.probes.trouble((host, node.api_port))}" for host in hosts)
            cure = f"on {name}: systemctl status pveproxy; or correct {node.key('NODE_HOST')} or PROXMOX_PORT"
            raise Unreachable(f"API of {name} on port {node.api_port}", tried, cure)
        trouble = self.api_trouble.get(door)
        if isinstance(trouble, ChangedIdentity):
            raise trouble
        if trouble is not None:
            raise Unreachable(f"API of {name}", trouble.why, of_this_node(node, trouble.cure))
        return self._api(door, self._trust(node), node.number)

    def _api(self, door: Door, trust: TlsTrust, number: int | None = None) -> Api:
        if self.config.api.token is None:
            raise Unreachable(f"API at {door[0]}", "there is no API_TOKEN", "set API_TOKEN, or use --via ssh")
        return Api(ApiAddress(*door, trust, number), self.config.api.token, self.clock)

    def _unreached(self, node: NodeConfig, name: str, hosts: Sequence[str]) -> Unreachable:
        """What was tried: first whoever answers and tells nothing, since that is nearest to a cure."""
        mute = self._mute_at(node, hosts)
        tried = [f"{host}: {error.why}" for host, error in mute.items()]
        tried += [trouble for host in hosts for trouble in self._troubles(node, host)]
        is_offline = any(member.name == name and not member.is_online for member in self._members())
        said = "; the cluster says that it is offline" if is_offline else ""
        ports = f"{node.key('NODE_HOST')}, PROXMOX_PORT or {node.key('SSH_PORT')}"
        cures = _cures_of(node, list(mute.values()))
        if any(host in mute for host in hosts):
            cures = [*cures, f"or correct {ports}"]
        elif cures:
            cures = [*cures, f"or switch the node on, or correct {ports}"]
        elif not self.config.fallback_addresses and all(self._is_nameless(node, host) for host in hosts):
            cures = [f"no name of it is known to this machine: set {node.key('NODE_HOST')} to its address"]
        else:
            cures = [f"switch the node on, or correct {ports}"]
        return Unreachable(f"node {name} is not reached", "; ".join(tried) + said, "; ".join(cures))

    def _is_nameless(self, node: NodeConfig, host: str) -> bool:
        return all(self.probes.trouble(door) == NAME_NOT_KNOWN for door in self._doors(node, host))

    def _troubles(self, node: NodeConfig, host: str) -> list[str]:
        """Why the doors of a host did not open; a name that nobody knows is told once."""
        if self._is_nameless(node, host):
            return [f"{host}: {NAME_NOT_KNOWN}"]
        closed = [door for door in self._doors(node, host) if not self.probes.is_open(door)]
        return [f"{host} port {door[1]}: {self.probes.trouble(door)}" for door in closed]

    def _mute_at(self, node: NodeConfig, hosts: Sequence[str]) -> dict[str, HomelabError]:
        """Whoever answers at a node's addresses, or at those of PVE_IPS, which may be the node's, and tells nothing."""
        doors = {host: self._doors(node, host) for host in (*hosts, *self._unclaimed_addresses())}
        return {host: self.mute[its_doors] for host, its_doors in doors.items() if its_doors in self.mute}


def _cures_of(node: NodeConfig, errors: Sequence[HomelabError]) -> list[str]:
    """Each cure once; one for all host keys that nobody vouched for, where there are several."""
    strange = [error for error in errors if isinstance(error, UnknownHostKey)]
    others = [error for error in errors if len(strange) == 1 or error not in strange]
    trust = [f"{TRUST_COMMAND} shows these host keys and asks"] if len(strange) > 1 else []
    return list(dict.fromkeys([*trust, *(of_this_node(node, error.cure) for error in others if error.cure)]))


def _members_of(wire: Transport) -> ClusterStatus:
    return answers.cluster_status(wire.call("GET", "/cluster/status", timeout_s=STATUS_TIMEOUT_S))
