"""Checks, before anything is written to a node, that the bridges its VM needs are there and up. Read-only."""

from __future__ import annotations

from collections.abc import Sequence

from homelab.errors import Problem
from homelab.models import BridgeState
from homelab.proxmox.client import Proxmox
from homelab.settings import NodeConfig


def check(pve: Proxmox, node: NodeConfig) -> tuple[Problem, ...]:
    """What is wrong with the bridges that the node's VM is to have. Raises what the read raises: that is no yes."""
    return bridge_problems(node, pve.bridges(node.name))


def bridge_problems(node: NodeConfig, bridges: Sequence[BridgeState]) -> tuple[Problem, ...]:
    """Compare NETWORK_IFACES_n with what the node has."""
    by_name = {bridge.name: bridge for bridge in bridges}
    wanted = list(dict.fromkeys(node.bridges))
    problems: list[Problem] = []
    if missing := [name for name in wanted if name not in by_name]:
        problems.append(_missing(node, missing, sorted(by_name)))
    if down := [name for name in wanted if name in by_name and not by_name[name].is_active]:
        what = f"{node.name}: bridge {', '.join(down)} is down"
        cure = f"bring it up on {node.name}: {'; '.join(f'ifup {name}' for name in down)}"
        problems.append(Problem(what, "Proxmox shows it as not active", cure))
    return tuple(problems)


def _missing(node: NodeConfig, missing: Sequence[str], there: Sequence[str]) -> Problem:
    return Problem(
        f"{node.name}: bridge {', '.join(missing)} is missing",
        f"the bridges there are: {', '.join(there) or 'none'}",
        f"create it on {node.name} (System > Network), or correct {node.key('NETWORK_IFACES')}",
    )
