"""All k3s clusters of a lab, and who answers on which address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from pvelab.certs import Issued
from pvelab.door import Door, Listener
from pvelab.guest.doorkeeper import Doorkeeper
from pvelab.guest.forwarder import Forwarder
from pvelab.guest.k3s_authorities import ALWAYS_NAMED, LOCAL_SERVER, Authorities, new_authorities
from pvelab.guest.k3s_cluster import Cluster, Timer
from pvelab.guest.k3s_tokens import Tokens, ca_hash
from pvelab.guest.kube_workloads import Workloads
from pvelab.network import K3S_PORT


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A k3s server that answers on 6443, with the certificate it shows and the CA of the clients it knows.

    `names` are the addresses and names that stand in the certificate; `now` is the machine's own idea of the time.
    """

    cluster: Cluster
    address: str
    certificate: Issued
    client_ca_pem: bytes
    names: tuple[str, ...]
    now: Callable[[], float]

    @property
    def is_serving(self) -> bool:
        """Has its datastore let it begin, so that there is a Kubernetes API behind the port?"""
        return self.address in self.cluster.servers


class ServeEndpoint(Protocol):
    """Begins to serve HTTPS for an endpoint."""

    def __call__(self, endpoint: Endpoint, address: str, port: int) -> Awaitable[Listener]: ...


@dataclass(slots=True, eq=False)
class Clusters:
    """The clusters by the hash of their CA, and the servers that answer by their address."""

    timer: Timer
    serve: ServeEndpoint
    doorkeeper: Doorkeeper
    by_hash: dict[str, Cluster] = field(default_factory=dict)
    authorities: dict[str, Authorities] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    _doors: dict[str, Door] = field(default_factory=dict)
    _virtual: dict[str, Cluster] = field(default_factory=dict)

    def found(self, datastore: str, critical: dict[str, str]) -> Cluster:
        """Make a new cluster with a CA and tokens of its own."""
        authorities = new_authorities(int(self.timer.now()))
        pem = authorities.server.certificate_pem
        cluster = Cluster(self.timer, Tokens(ca_hash(pem)), pem, datastore=datastore, critical=critical)
        self.by_hash[cluster.tokens.ca_hash] = cluster
        self.authorities[cluster.tokens.ca_hash] = authorities
        Workloads(cluster).start()
        return cluster

    def kubeconfig(self, cluster: Cluster, server: str = LOCAL_SERVER) -> bytes:
        """What lets its owner administer a cluster by way of a server: https://ADDRESS:6443."""
        return self.authorities[cluster.tokens.ca_hash].kubeconfig(server)

    def at(self, url: str) -> Endpoint | None:
        """The server that answers at https://ADDRESS:6443, or from behind that address; None: connection refused."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        endpoint = self.endpoints.get(host) or self._behind(host)
        return endpoint if (parts.port or 443) == K3S_PORT else None

    def has_etcd_at(self, address: str) -> bool:
        """Does a member of etcd run there?"""
        members = (member for cluster in self.by_hash.values() for member in cluster.etcd.members)
        return any(member.address == address and member.is_up for member in members)

    def stand_before(self, virtual: str, address: str) -> None:
        """Have a virtual address lead to whichever server of a cluster answers, now that of the server at address."""
        self._virtual[virtual] = self.endpoints[address].cluster

        def choose() -> str | None:
            found = self._behind(virtual)
            return found.address if found else None

        async def serve(at: str, port: int) -> Listener:
            forwarder = Forwarder(choose)
            await forwarder.listen(at, port)
            return forwarder

        door = self._doors[virtual] = Door(virtual, K3S_PORT, serve)
        self.doorkeeper.open(door, lambda: self._doors.get(virtual) is door, _out_of_reach)

    def forget(self) -> None:
        """The lab is being reset: whatever is still open is closed."""
        self._virtual.clear()
        for address in list(self._doors):
            self.close(address)

    def door_at(self, address: str) -> Door | None:
        """The door to port 6443 of the server there."""
        return self._doors.get(address)

    def _behind(self, virtual: str) -> Endpoint | None:
        cluster = self._virtual.get(virtual)
        behind = (one for one in self.endpoints.values() if one.cluster is cluster)
        return next((one for one in behind if self._doors[one.address].is_open), None)

    def open(self, cluster: Cluster, address: str, names: tuple[str, ...], now: Callable[[], float]) -> None:
        """A server of the cluster begins to answer at address; `now` is its clock."""
        authorities = self.authorities[cluster.tokens.ca_hash]
        shown = tuple(dict.fromkeys((*ALWAYS_NAMED, address, *names)))
        certificate = authorities.serving(shown)
        endpoint = Endpoint(cluster, address, certificate, authorities.client.certificate_pem, shown, now)
        self.endpoints[address] = endpoint
        door = Door(address, K3S_PORT, lambda at, port: self.serve(endpoint, at, port))
        self._doors[address] = door
        self.doorkeeper.open(door, lambda: self._doors.get(address) is door, _out_of_reach)

    def close(self, address: str) -> None:
        """The server at address is gone: connections are refused."""
        self.endpoints.pop(address, None)
        door = self._doors.pop(address, None)
        if door:
            self.doorkeeper.close(door)


def _out_of_reach(_: OSError) -> None:
    """At an address outside the lab a server answers only machines of the lab."""
