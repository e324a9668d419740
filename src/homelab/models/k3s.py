"""What k3s showed, and what replacing a machine needs of its cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from homelab.errors import Problem


@dataclass(frozen=True, slots=True)
class K3sNode:
    """A Node object. Source: kubectl get nodes -o json."""

    name: str
    is_ready: bool
    system_uuid: str
    version: str
    is_server: bool
    is_etcd: bool
    is_etcd_voter: bool
    addresses: tuple[str, ...] = ()
    boot_id: str = ""


@dataclass(frozen=True, slots=True)
class K3sFacts:
    """The cluster as one of its servers sees it, or why it cannot be asked.

    `asked_at` is K3S_EXISTING_NODE_IP; `answered_by` what the machine there calls itself, if the address is no Node's.
    """

    is_wanted: bool
    nodes: tuple[K3sNode, ...] = ()
    problem: Problem | None = None
    asked_at: str = ""
    answered_by: str = ""

    @property
    def is_known(self) -> bool:
        return self.is_wanted and self.problem is None

    def node(self, name: str) -> K3sNode | None:
        return next((node for node in self.nodes if node.name == name), None)

    @property
    def asked_node(self) -> K3sNode | None:
        """The Node behind K3S_EXISTING_NODE_IP; None where that cannot be told (a host name, a VIP)."""
        known_as = {self.asked_at, self.answered_by} - {""}
        return next((node for node in self.nodes if known_as & {node.name, *node.addresses}), None)

    @property
    def voters(self) -> tuple[K3sNode, ...]:
        return tuple(node for node in self.nodes if node.is_etcd_voter)

    @property
    def healthy_voters(self) -> tuple[K3sNode, ...]:
        return tuple(node for node in self.voters if node.is_ready)


class Leaving(Protocol):
    """What deleting a VM needs of the k3s cluster; K3sManager is the real one."""

    def remove(self, name: str, uuid: str) -> None:
        """End the membership of the machine with this uuid, which is off: etcd member, Node, node-password secret."""
        ...


class Members(Leaving, Protocol):
    """What replacing one needs beside that."""

    def check_replaceable(self, name: str) -> None:
        """Raise unless the replacement could join: token, CA, version at hand, a server answering."""
        ...

    def role_tag(self, uuid: str) -> str:
        """homelab-server or homelab-agent, by the Node of the machine with this uuid; empty where it has none."""
        ...
