"""Plans for nodes as a test says."""

from __future__ import annotations

from typing import Any

from homelab.models import Guard, NodeFacts, NodePlan, PowerHistory, Verdict
from homelab.vm_manager import plan
from unit.builders import (
    config,
    facts,
    node_facts,
    vm,
)

POWER_CUT = PowerHistory(host_uptime_s=1200, host_boot_time=2_000_000, last_vm_start_time=1_000_000)
JUST_BOOTED = PowerHistory(host_uptime_s=480, host_boot_time=2_000_000, last_vm_start_time=1_000_000)
GUARDED = (Guard("it has snapshots", "qm delsnapshot 107 NAME"), Guard("its protection is on", "qm set 107 ..."))


def planned(*nodes: NodeFacts, **policy: Any) -> tuple[NodePlan, ...]:
    return plan(config(*(node.config for node in nodes), **policy), facts(*nodes)).nodes


def plan_of(node: NodeFacts, **policy: Any) -> NodePlan:
    """The plan for this node beside another one that is healthy."""
    return planned(node, node_facts(Verdict.HEALTHY, vm(node="pve2", vmid=108), number=2), **policy)[0]
