"""Checks, before anything is written to a node, that the bridges its VM needs are there and up. Read-only."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from homelab.errors import HomelabError, Problem
from homelab.models import BridgeState, NodePlan, Plan
from homelab.proxmox.client import Proxmox
from homelab.settings import NodeConfig


def check(pve: Proxmox, plan: Plan) -> Plan:
    """The plan with every node dropped that cannot give its new VM the bridges it is to have."""
    with ThreadPoolExecutor(max_workers=max(1, len(plan.nodes))) as pool:
        return replace(plan, nodes=tuple(pool.map(lambda node: _check_node(pve, node), plan.nodes)))


def _check_node(pve: Proxmox, node: NodePlan) -> NodePlan:
    if not (node.makes_vm or node.may_replace):
        return node
    problem = problem_on(pve, node.config)
    if problem is None:
        return node
    return node.dropped(problem) if node.makes_vm else replace(node, may_replace=False)


def problem_on(pve: Proxmox, node: NodeConfig) -> Problem | None:
    """What is wrong with the node's bridges, or None. Cannot tell is a problem too."""
    try:
        return bridge_problem(node, pve.bridges(node.name))
    except HomelabError as error:
        return Problem(f"{node.name}: its bridges cannot be read", str(error), error.cure)


def bridge_problem(node: NodeConfig, bridges: Sequence[BridgeState]) -> Problem | None:
    """Compare NETWORK_IFACES_n with what the node has."""
    by_name = {bridge.name: bridge for bridge in bridges}
    missing = [name for name in node.bridges if name not in by_name]
    if missing:
        there = ", ".join(sorted(by_name)) or "none"
        return Problem(
            f"{node.name}: bridge {', '.join(missing)} is missing",
            f"the bridges there are: {there}",
            f"create it on {node.name} (System > Network), or correct {node.key('NETWORK_IFACES')}",
        )
    down = [name for name in node.bridges if not by_name[name].is_active]
    if down:
        return Problem(
            f"{node.name}: bridge {', '.join(down)} is down",
            "Proxmox shows it as not active",
            f"bring it up on {node.name}: ifup {down[0]}",
        )
    return None
