"""What the tests of the report tell of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homelab.errors import Problem
from homelab.models import Action, Outcome, Plan, Status, Verdict
from unit.builders import facts, node_facts, node_plan, vm

FULL = Problem("storage tank is full", "1 GiB is free", "free some space on tank")
HEALTHY = node_plan(Action.KEEP, node_facts(Verdict.HEALTHY, vm()))
ABSENT = node_plan(Action.CREATE, node_facts(Verdict.ABSENT, number=2))
UNREACHABLE = node_plan(
    Action.NOTHING,
    node_facts(Verdict.UNREACHABLE, number=3),
    problem=Problem("pve3: nothing done", "no answer", "look"),
)
OK = Outcome("pve1", Status.OK, "VM k3s-vm-pve1 (vmid=107) is healthy, skipping.")
FAILED = Outcome.failed("pve3", FULL)


def plan(*nodes: Any, **changes: Any) -> Plan:
    return replace(Plan(nodes, facts().k3s), **changes)


Captured = pytest.CaptureFixture[str]
