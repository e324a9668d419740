"""What k3s showed, and what replacing a machine needs of its cluster."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from homelab.errors import Problem


@dataclass(frozen=True, slots=True)
class K3sNode:
    """A Node object. Source: kubectl get nodes -o json.

    `is_etcd_voter`: its member counts in etcd's quorum; `is_etcd_healthy`: and answers, as far as etcd's leader knows.
    `voting_since`: Unix seconds by the clock of etcd's leader, where it does both.
    """

    name: str
    is_ready: bool
    system_uuid: str
    version: str
    is_server: bool
    is_etcd: bool
    is_etcd_voter: bool
    addresses: tuple[str, ...] = ()
    boot_id: str = ""
    is_cordoned: bool = False
    is_etcd_healthy: bool = True
    voting_since: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A server by its Node, and the addresses that it had when it was seen."""

    name: str
    uuid: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KnownCluster:
    """By what a cluster is known again. `authorities` are the fingerprints of its CA."""

    authorities: frozenset[str]
    servers: tuple[KnownServer, ...] = ()


@dataclass(frozen=True, slots=True)
class K3sFacts:
    """The cluster as one of its servers sees it, or why it cannot be asked.

    `asked_at` is the address that answered, `listed` are those of K3S_EXISTING_NODE_IP; `answered_by` is what the
    machine that answered calls itself, where that is known.
    """

    is_wanted: bool
    nodes: tuple[K3sNode, ...] = ()
    problem: Problem | None = None
    asked_at: str = ""
    answered_by: str = ""
    listed: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        return self.is_wanted and self.problem is None

    def node(self, name: str) -> K3sNode | None:
        return next((node for node in self.nodes if node.name == name), None)

    @property
    def asked_node(self) -> K3sNode | None:
        """The Node that answered; None where that cannot be told (a host name, a VIP)."""
        known_as = {self.asked_at, self.answered_by} - {""}
        return next((node for node in self.nodes if known_as & {node.name, *node.addresses}), None)

    def is_listed_beside(self, uuid: str) -> bool:
        """Does K3S_EXISTING_NODE_IP name a Ready server that is another machine than the one with this uuid?"""
        others = (node for node in self.nodes if node.is_server and node.is_ready and node.system_uuid != uuid)
        return any(set(self.listed) & {node.name, *node.addresses} for node in others)

    @property
    def voters(self) -> tuple[K3sNode, ...]:
        return tuple(node for node in self.nodes if node.is_etcd_voter)

    @property
    def healthy_voters(self) -> tuple[K3sNode, ...]:
        return tuple(node for node in self.voters if node.is_ready and node.is_etcd_healthy)

    def can_do_without(self, node: K3sNode, *, ghosts: int = 0) -> bool:
        """Are the healthy among the voters that stay a majority, once this one is out? A ghost counts, and is down."""
        return self._healthy_besides(node) >= _majority(len(self.voters) - node.is_etcd_voter + ghosts)

    def can_let_go_of(self, node: K3sNode, *, ghosts: int = 0) -> bool:
        """Are the healthy ones without this one a majority now, so that it can be taken out while it is off?"""
        return self._healthy_besides(node) >= _majority(len(self.voters) + ghosts)

    def _healthy_besides(self, node: K3sNode) -> int:
        return sum(voter.name != node.name for voter in self.healthy_voters)


def _majority(voters: int) -> int:
    return voters // 2 + 1


@dataclass(frozen=True, slots=True)
class Ties:
    """What ties a machine to its cluster beside its Node. None: could not be read, which forbids deleting.

    `data`: a phrase for each thing that only this machine has. `ghosts`: etcd members that no Node stands for, and that
    count all the same.
    """

    data: tuple[str, ...] | None = ()
    ghosts: tuple[str, ...] | None = ()


class Leaving(Protocol):
    """What deleting a VM needs of the k3s cluster; K3sManager is the real one."""

    def parting(self, uuid: str, *, is_running: bool) -> AbstractContextManager[bool]:
        """Begin with draining the machine with this uuid, if it runs, and saving etcd, if it is a server.

        Until the end no other server joins or leaves; after an error pods may come back to it. Gives whether time has
        passed, so that all has to be looked at again. Raises StillMember.
        """
        ...

    def remove(self, name: str, uuid: str, *, is_off: bool = True) -> None:
        """End the membership of the machine with this uuid: etcd member, Node, node-password secret.

        Raises StillMember when the others cannot do without it now; then nothing has been taken out.
        """
        ...


class Members(Leaving, Protocol):
    """What replacing one needs beside that."""

    def check_replaceable(self, name: str) -> None:
        """Raise unless the replacement could join: token, CA, version at hand, a server answering."""
        ...

    def role_tag(self, uuid: str) -> str:
        """homelab-server or homelab-agent, by the Node of the machine with this uuid; empty where it has none."""
        ...
