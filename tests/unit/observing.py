"""Observes a node that answers as a test says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from homelab.errors import Problem, Unreachable
from homelab.health_checker import VMHealthChecker
from homelab.models import (
    ClusterStatus,
    Facts,
    K3sFacts,
    Member,
    NodeFacts,
    Past,
    Ties,
)
from homelab.proxmox.client import Proxmox
from homelab.proxmox.discovery import Found
from homelab.settings import NodeConfig
from unit.builders import config, node_config
from unit.proxmox_reads import ProxmoxReads

NO_ANSWER = Unreachable("no answer", "connection refused", "is it switched on?")
QUORATE = ClusterStatus((Member("pve1", "192.0.2.1", is_online=True, is_local=True),), is_quorate=True)
NO_K3S = K3sFacts(is_wanted=False)


def observe(
    pve: ProxmoxReads,
    *nodes: NodeConfig,
    cluster: ClusterStatus | None = QUORATE,
    unreached: Mapping[str, Problem] | None = None,
    k3s: K3sFacts = NO_K3S,
) -> Facts:
    checker = VMHealthChecker(
        cast(Proxmox, pve),
        Found(config(*nodes), {}, cluster, unreached or {}),
        past=lambda _name, _notes: Past(),
        ties=lambda _vm, _k3s: Ties(),
    )
    return checker.observe(lambda: k3s)


def observed(pve: ProxmoxReads, node: NodeConfig | None = None, **more: Any) -> NodeFacts:
    return observe(pve, node or node_config(), **more).nodes[0]
