"""What an entry NODE_n of `.env` stands for: its addresses, the member that it is, and why it may be none."""

from __future__ import annotations

import re
from collections.abc import Iterable

from homelab.errors import Problem
from homelab.models import ClusterStatus, Member
from homelab.settings import NodeConfig, is_address


def member_called(node: NodeConfig, members: Iterable[Member]) -> Member | None:
    """The member that a node of the configuration is, by the first label of NODE_n or by its address."""
    known = list(members)
    by_name = [member for member in known if member.name.lower() == label(node).lower()]
    by_address = [member for member in known if member.address in (node.name, node.host)]
    return next(iter(by_name + by_address), None)


def name_of(node: NodeConfig, member: Member | None) -> str:
    return member.name if member else label(node)


def entry(node: NodeConfig) -> str:
    """A node as `.env` has it; no other node bears such a name."""
    return f"{node.key('NODE')}={node.name}"


def is_in(status: ClusterStatus, member: Member | None) -> bool:
    """Is a member, as some machine described it, one of this cluster? Hosts of several may bear the same name."""
    return member is not None and (member.name, member.address) in {(one.name, one.address) for one in status.members}


def foreign(node: NodeConfig, member: Member | None, status: ClusterStatus | None) -> Problem | None:
    """Why a node that answers does not belong to this run's cluster, whose VMs alone are listed."""
    if status is None or is_in(status, member):
        return None
    return Problem(
        f"node {entry(node)} is not in the cluster",
        f"its members are {_names(status)}; one run serves one cluster",
        f"give it an .env of its own (--env FILE), or correct {node.key('NODE')} and {node.key('NODE_HOST')}",
    )


def unknown(node: NodeConfig, member: Member | None, status: ClusterStatus | None) -> Problem | None:
    """Why a node that nobody reaches is none of the cluster that answers; an address may be one that nobody knows."""
    if status is None or member or is_address(node.name):
        return None
    return Problem(
        f"node {entry(node)} is not in the cluster",
        f"there is no node of that name in the cluster: these are its nodes: {_names(status)}",
        f"correct {node.key('NODE')}; a host that is no member needs an .env of its own (--env FILE)",
    )


def of_this_node(node: NodeConfig, cure: str) -> str:
    """A cure for any node, with this node's own keys: KEY_n as KEY_1."""
    return re.sub(r"\b([A-Z_]+)_n\b", lambda key: node.key(key[1]), cure)


def _names(status: ClusterStatus) -> str:
    return ", ".join(sorted(member.name for member in status.members))


def repeated(node: NodeConfig, name: str, earlier: NodeConfig | None) -> Problem | None:
    """Why a second entry for one node is none: two VMs would be made there."""
    if earlier is None:
        return None
    return Problem(
        f"node {name} is configured twice",
        f"{entry(node)} is the node of {earlier.key('NODE')}",
        f"remove {node.key('NODE')} from .env, or correct it",
    )


def own_hosts(node: NodeConfig, domain: str) -> list[str]:
    """Addresses that the configuration itself gives a node, in order."""
    given = [node.host] if node.host else []
    if is_address(node.name) or "." in node.name:
        return [*given, node.name]
    return [*given, *([f"{node.name}.{domain}"] if domain else []), node.name]


def label(node: NodeConfig) -> str:
    return node.name if is_address(node.name) else node.name.partition(".")[0]
