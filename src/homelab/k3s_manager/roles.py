"""Which VMs become servers: as configured, as they were, else just enough for three voters. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from homelab.models import TAG_AGENT, TAG_SERVER, K3sNode, NodePlan
from homelab.settings import Role

WANTED_VOTERS = 3


def assign(
    plans: Sequence[NodePlan], nodes: Sequence[K3sNode], had: Mapping[str, str] | None = None
) -> dict[str, Role]:
    """Role by Proxmox node name for every plan that ends with a VM, in the order of n.

    New servers are chosen only if that brings the voters to exactly three; an SQLite cluster takes agents only.
    `had` are role tags by the uuid of machines that were replaced in this run.
    """
    known = {plan.name: _known_role(plan, nodes, had or {}) for plan in plans}
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


def _known_role(plan: NodePlan, nodes: Sequence[K3sNode], had: Mapping[str, str]) -> Role:
    """K3S_ROLE_n; else what the Node's labels say; else the tag of its VM, or of the one before; else undecided."""
    if plan.config.role is not Role.AUTO:
        return plan.config.role
    node = next((node for node in nodes if node.name == plan.config.vm_name), None)
    if node:
        return Role.SERVER if node.is_server else Role.AGENT
    vm, begun = plan.facts.vm, plan.facts.past.replacing
    tags = vm.config.tags | {had.get(vm.config.uuid, "")} if vm else frozenset()
    tags |= {begun.role} if begun else frozenset()
    if TAG_SERVER in tags:
        return Role.SERVER
    return Role.AGENT if TAG_AGENT in tags else Role.AUTO
