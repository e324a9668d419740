"""Which VMs become servers: as configured, as they were, else just enough for three voters. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from homelab.errors import Problem
from homelab.models import MEMBER_TAGS, TAG_AGENT, TAG_SERVER, K3sNode, NodePlan, Plan
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
    """K3S_ROLE_n; else what the Node's labels say; else the tag of its VM, or of the one before; else undecided.

    A machine that is a member keeps the role that it has.
    """
    node = next((node for node in nodes if node.name == plan.config.vm_name), None)
    is_member = node is not None and plan.facts.vm is not None and node.system_uuid == plan.facts.vm.config.uuid
    if plan.config.role is not Role.AUTO and (plan.makes_vm or not is_member):
        return plan.config.role
    if node:
        return role_of(node)
    vm, begun = plan.facts.vm, plan.facts.past.replacing
    tags = vm.config.tags | {had.get(vm.config.uuid, "")} if vm else frozenset()
    tags |= {begun.role} if begun else frozenset()
    if not tags & MEMBER_TAGS:
        tags = frozenset({_role_before(plan.facts.past.role, nodes)})
    if TAG_SERVER in tags:
        return Role.SERVER
    return Role.AGENT if TAG_AGENT in tags else Role.AUTO


def role_of(node: K3sNode) -> Role:
    """By its labels."""
    return Role.SERVER if node.is_server else Role.AGENT


def _role_before(tag: str, nodes: Sequence[K3sNode]) -> str:
    """What the VM is whose predecessor an earlier run replaced; another may be server in its place meanwhile."""
    voters = sum(node.is_etcd for node in nodes)
    makes_them_odd = voters > 0 and voters % 2 == 0
    return tag if tag != TAG_SERVER or makes_them_odd else ""


def foresee(plan: Plan) -> Plan:
    """The plan without VMs that would be made and could not join, and with a warning where the voters would be even."""
    if not plan.k3s.is_known:
        return plan
    nodes = tuple(_possible(node, plan.k3s.nodes) if node.makes_vm else node for node in plan.nodes)
    roles = assign([node for node in nodes if node.ends_running], plan.k3s.nodes)
    voters = {node.name for node in plan.k3s.voters}
    new = {node.config.vm_name for node in nodes if roles.get(node.name) is Role.SERVER} - voters
    count = len(voters | new)
    warnings = plan.warnings
    if voters and new and count % 2 == 0:
        warnings += (f"the cluster will have {even_voters(count)}",)
    return replace(plan, nodes=nodes, warnings=warnings)


def even_voters(count: int) -> str:
    """What an even number of them means."""
    if count == 2:
        return "2 voting servers: if either fails, it stands still; a third one (K3S_ROLE_n=server) makes it safe"
    return f"{count} voting servers: an even number stands no more failures than {count - 1} do"


def _possible(node: NodePlan, nodes: Sequence[K3sNode]) -> NodePlan:
    problem = without_etcd(node, nodes) if node.config.role is Role.SERVER else None
    return node.dropped(problem) if problem else node


def without_etcd(node: NodePlan, nodes: Sequence[K3sNode]) -> Problem | None:
    """Why the VM cannot become a server of a cluster that keeps its data in SQLite; None where there is etcd."""
    if not nodes or any(one.is_etcd for one in nodes):
        return None
    key = node.config.key("K3S_ROLE")
    return Problem(
        f"{node.config.vm_name} cannot become a k3s server",
        "the cluster keeps its data in SQLite, and takes agents only",
        f"set {key}=agent, or convert the first server to etcd (cluster-init; its own admin's decision)",
    )


def kept(plan: NodePlan, has: Role) -> Problem | None:
    """What is to be said where K3S_ROLE_n says otherwise than what the VM is."""
    wanted, key, name = plan.config.role, plan.config.key("K3S_ROLE"), plan.config.vm_name
    if wanted in (Role.AUTO, has):
        return None
    return Problem(
        f"{name} stays what it is in the cluster ({has.value})",
        f"{key}={wanted.value}, and a member keeps the role that it has",
        f"to make it anew as {wanted.value}: --replace {name}; otherwise set {key}={has.value}",
    )


def named(role: Role) -> str:
    """With its article."""
    return "a server" if role is Role.SERVER else "an agent"
