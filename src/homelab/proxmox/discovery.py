"""Where the nodes are and what they are called: every address that may be theirs, side by side, in five seconds."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from homelab.errors import HomelabError, Misunderstood, Problem, Refused, Unreachable
from homelab.models import ClusterStatus, Member
from homelab.proxmox import answers
from homelab.proxmox.api import Api, ApiAddress
from homelab.proxmox.probing import Door, Probes
from homelab.proxmox.ssh import Ssh
from homelab.proxmox.tls import TlsTrust
from homelab.proxmox.transport import Link, OnFallback, Transport
from homelab.runtime import Clock
from homelab.settings import ApiToken, Config, NodeConfig, Via
from homelab.shell import Shells

BETTER_ONE_S = 0.5
"""How long an answering address is held back for one that comes before it in order."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found. `config` carries Proxmox' own node names, by which `links` and `problems` go."""

    config: Config
    links: Mapping[str, Link]
    status: ClusterStatus | None
    problems: Mapping[str, Problem]


def find(config: Config, *, via: Via, shells: Shells, on_fallback: OnFallback, clock: Clock) -> Found:
    """Look for every configured node; those that nobody reaches get a problem, the others go on.

    Candidates in order: NODE_HOST_n; NODE_n if it is an address or has a dot; NODE_n.NODE_DOMAIN; NODE_n; PVE_IPS
    matched by the name that the server reports; the member's address as the cluster knows it. Raises Refused when a
    server will not tell the members (token wrong, or without Sys.Audit on /).
    """
    return _Search(config, via, shells, on_fallback, clock).run()


@dataclass(slots=True)
class _Search:
    config: Config
    via: Via
    shells: Shells
    on_fallback: OnFallback
    clock: Clock
    probes: Probes = field(default_factory=Probes)
    statuses: dict[str, ClusterStatus] = field(default_factory=dict)
    mute: dict[str, HomelabError] = field(default_factory=dict)

    def run(self) -> Found:
        nodes = self.config.nodes
        for node in nodes:
            self._knock(node, self._hosts_to_ask(node))
        self._read_first_status()
        hosts = {node.number: self._candidates(node) for node in nodes}
        for node in nodes:
            self._knock(node, hosts[node.number])
        self.probes.wait_until(lambda: all(self._is_settled(node, hosts[node.number]) for node in nodes), BETTER_ONE_S)
        names = {node.number: self._name(node) for node in nodes}
        for node in nodes:
            if not self._has_some(node, hosts[node.number]):
                hosts[node.number] += self._other_addresses(node, names[node.number])
        self.probes.wait_until(lambda: all(self._is_over(node, hosts[node.number]) for node in nodes))
        return self._found(names, hosts)

    def _found(self, names: Mapping[int, str], hosts: Mapping[int, Sequence[str]]) -> Found:
        links, problems = {}, {}
        for node in self.config.nodes:
            name = names[node.number]
            try:
                links[name] = self._link(node, name, hosts[node.number])
            except Unreachable as error:
                problems[name] = error.problem
        renamed = tuple(replace(node, name=names[node.number]) for node in self.config.nodes)
        return Found(replace(self.config, nodes=renamed), links, self._status(), problems)

    # --- knocking ------------------------------------------------------------------------------------------------

    def _knock(self, node: NodeConfig, hosts: Iterable[str]) -> None:
        self.probes.knock(door for host in hosts for door in self._doors(node, host))

    def _doors(self, node: NodeConfig, host: str) -> list[Door]:
        """The API's door first, unless nobody wants it."""
        api = [] if self.via is Via.SSH else [(host, node.api_port)]
        return [*api, (host, node.ssh_port)]

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
        return [*_own_hosts(node, self.config.node_domain), *self.config.fallback_addresses]

    def _to_ask(self, *, is_api: bool = False) -> tuple[NodeConfig, str] | None:
        """An address that answers and has not been asked; with is_api only where the preferred door is open."""
        for node in self.config.nodes:
            for host in self._hosts_to_ask(node):
                doors = self._doors(node, host)[:1] if is_api else self._doors(node, host)
                if host not in self.statuses and host not in self.mute and any(map(self.probes.is_open, doors)):
                    return node, host
        return None

    def _ask(self, node: NodeConfig, host: str) -> ClusterStatus | None:
        """The members as the machine at this address knows them, asked once; None when it does not say."""
        if host not in self.statuses and host not in self.mute:
            for wire in self._wires(node, host):
                try:
                    self.statuses[host] = answers.cluster_status(wire.call("GET", "/cluster/status", timeout_s=5))
                    break
                except Refused as error:
                    self.mute[host] = error
                    break
                except (Unreachable, Misunderstood) as error:
                    self.mute[host] = error
        return self.statuses.get(host)

    def _wires(self, node: NodeConfig, host: str) -> list[Transport]:
        """The ways to ask an unnamed machine. A pinned certificate may be any node's, since PVE_IPS name no node."""
        wires: list[Transport] = []
        token = self.config.api.token
        if self.via is not Via.SSH and token is not None and self.probes.is_open((host, node.api_port)):
            trusts = dict.fromkeys(self._trust(other) for other in (node, *self.config.nodes))
            wires += [Api(ApiAddress(host, node.api_port, trust, node.number), token, self.clock) for trust in trusts]
        if self.via is not Via.API and self.probes.is_open((host, node.ssh_port)):
            wires.append(Ssh("", self.shells.node(host, node.ssh_port), self.config.ssh.user))
        return wires

    def _trust(self, node: NodeConfig) -> TlsTrust:
        return TlsTrust(self.config.api.ca_bundle, node.fingerprint)

    def _status(self) -> ClusterStatus | None:
        """All that was said; several answers come from nodes outside any cluster, or of several clusters."""
        if not self.statuses:
            return None
        members = {member.name: member for status in self.statuses.values() for member in status.members}
        return ClusterStatus(tuple(members.values()), all(status.is_quorate for status in self.statuses.values()))

    def _members(self) -> list[Member]:
        status = self._status()
        return list(status.members) if status else []

    # --- names and addresses -----------------------------------------------------------------------------------------

    def _name(self, node: NodeConfig) -> str:
        """What Proxmox calls a node: as a member of the cluster, or as the machine at its address says."""
        member = self._member(node)
        for host in _own_hosts(node, self.config.node_domain):
            member = member or self._local_member(node, host)
        return member.name if member else _label(node)

    def _member(self, node: NodeConfig) -> Member | None:
        """The member that a node of the configuration is, by the first label of NODE_n or by its address."""
        by_name = [member for member in self._members() if member.name.lower() == _label(node).lower()]
        by_address = [member for member in self._members() if member.address in (node.name, node.host)]
        return next(iter(by_name + by_address), None)

    def _local_member(self, node: NodeConfig, host: str) -> Member | None:
        """The machine at an address that answers, by its own word."""
        if not any(self.probes.is_open(door) for door in self._doors(node, host)):
            return None
        status = self._ask(node, host)
        return next((member for member in status.members if member.is_local), None) if status else None

    def _candidates(self, node: NodeConfig) -> list[str]:
        """The addresses of a node in the order in which they are wanted."""
        own = _own_hosts(node, self.config.node_domain)
        member = self._member(node)
        return list(dict.fromkeys([*own, member.address])) if member and member.address else own

    def _other_addresses(self, node: NodeConfig, name: str) -> list[str]:
        """Entries of PVE_IPS that are another address of the node than the cluster's own; asks whoever is there."""
        known = {member.address for member in self._members()}
        unknown = [host for host in self.config.fallback_addresses if host not in known]
        local = {host: self._local_member(node, host) for host in unknown}
        return [host for host, member in local.items() if member is not None and member.name == name]

    # --- links ---------------------------------------------------------------------------------------------------

    def _link(self, node: NodeConfig, name: str, hosts: Sequence[str]) -> Link:
        api_host = next((host for host in hosts if self.probes.is_open((host, node.api_port))), None)
        ssh_host = next((host for host in hosts if self.probes.is_open((host, node.ssh_port))), None)
        ssh = Ssh(name, self.shells.node(ssh_host, node.ssh_port), self.config.ssh.user) if ssh_host else None
        token = self.config.api.token
        if self.via is Via.SSH or api_host is None or token is None:
            if ssh is None or self.via is Via.API:
                raise self._unreached(node, name, hosts)
            if self.via is Via.AUTO:
                self.on_fallback(name, f"the API on port {node.api_port} does not answer")
            return Link(name, None, ssh, self.via, self.on_fallback)
        return Link(name, self._api(node, api_host, token), ssh, self.via, self.on_fallback)

    def _api(self, node: NodeConfig, host: str, token: ApiToken) -> Api:
        return Api(ApiAddress(host, node.api_port, self._trust(node), node.number), token, self.clock)

    def _unreached(self, node: NodeConfig, name: str, hosts: Sequence[str]) -> Unreachable:
        tried = [
            f"{host} port {port}: {self.probes.trouble((host, port))}"
            for host in hosts
            for port in (door[1] for door in self._doors(node, host))
            if not self.probes.is_open((host, port))
        ]
        is_offline = any(member.name == name and not member.is_online for member in self._members())
        said = "; the cluster says that it is offline" if is_offline else ""
        ports = f"{node.key('NODE_HOST')}, PROXMOX_PORT or {node.key('SSH_PORT')}"
        cures = [f"switch the node on, or correct {ports}"]
        cures += [error.cure for error in self.mute.values() if error.cure]
        tried += [f"{host}: {error.why}" for host, error in self.mute.items()]
        return Unreachable(f"node {name} is not reached", "; ".join(tried) + said, "; ".join(dict.fromkeys(cures)))


def _own_hosts(node: NodeConfig, domain: str) -> list[str]:
    """Addresses that the configuration itself gives a node, in order."""
    given = [node.host] if node.host else []
    if _is_address(node.name) or "." in node.name:
        return [*given, node.name]
    return [*given, *([f"{node.name}.{domain}"] if domain else []), node.name]


def _label(node: NodeConfig) -> str:
    return node.name if _is_address(node.name) else node.name.partition(".")[0]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
