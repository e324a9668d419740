"""Which VMs become servers: as configured, as they were, else just enough for three voters. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from homelab.models import TAG_AGENT, TAG_SERVER, K3sNode, NodePlan
from homelab.settings import Role

WANTED_VOTERS = 3


def assign(plans: Sequence[NodePlan], nodes: Sequence[K3sNode]) -> dict[str, Role]:
    """Role by Proxmox node name for every plan that ends with a VM, in the order of n.

    New servers are chosen only if that brings the voters to exactly three; an SQLite cluster takes agents only.
    """
    known = {plan.name: _known_role(plan, nodes) for plan in plans}
    undecided = [plan.name for plan in plans if known[plan.name] is Role.AUTO]
    ours = {plan.config.vm_name for plan in plans}
    is_etcd = any(node.is_etcd for node in nodes)
    servers_elsewhere = sum(node.is_etcd for node in nodes if node.name not in ours)
    servers_here = sum(role is Role.SERVER for role in known.values())
    lacking = WANTED_VOTERS - servers_elsewhere - servers_here
    chosen = undecided[:lacking] if is_etcd and 0 < lacking <= len(undecided) else []
    return {
        name: role if role is not Role.AUTO else Role.SERVER if name in chosen else Role.AGENT
        for name, role in known.items()
    }


def _known_role(plan: NodePlan, nodes: Sequence[K3sNode]) -> Role:
    """K3S_ROLE_n; else what the Node's labels say; else what the VM's tag says; else undecided."""
    if plan.config.role is not Role.AUTO:
        return plan.config.role
    node = next((node for node in nodes if node.name == plan.config.vm_name), None)
    if node:
        return Role.SERVER if node.is_server else Role.AGENT
    tags = plan.facts.vm.config.tags if plan.facts.vm else frozenset()
    if TAG_SERVER in tags:
        return Role.SERVER
    return Role.AGENT if TAG_AGENT in tags else Role.AUTO
