"""The bridges a new VM is to have are there and up before anything is written to its node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest

from homelab import network_validator
from homelab.errors import Unreachable
from homelab.models import Action, BridgeState, NodePlan, Plan, Verdict
from homelab.network_validator import bridge_problem
from homelab.proxmox.client import Proxmox
from unit.builders import facts, node_config, node_facts, node_plan, stopped, vm

UP = BridgeState("vmbr0", is_active=True)
LAN = BridgeState("vmbr25gbe", is_active=True)
DOWN = BridgeState("vmbr1", is_active=False)


@pytest.mark.parametrize("wanted", [("vmbr0",), ("vmbr0", "vmbr25gbe"), ("vmbr25gbe", "vmbr25gbe")])
def test_bridges_that_are_there_and_up_are_no_problem(wanted: tuple[str, ...]) -> None:
    assert bridge_problem(node_config(bridges=wanted), [UP, LAN, DOWN]) is None


def test_a_missing_bridge_is_named_with_those_that_are_there_and_the_key() -> None:
    problem = bridge_problem(node_config(2, bridges=("vmbr0", "vmbr7", "vmbr8")), [LAN, UP])

    assert problem is not None
    assert problem.what == "pve2: bridge vmbr7, vmbr8 is missing"
    assert problem.why == "the bridges there are: vmbr0, vmbr25gbe"
    assert "NETWORK_IFACES_2" in problem.cure


def test_a_node_without_any_bridge_says_so() -> None:
    problem = bridge_problem(node_config(), [])

    assert problem is not None
    assert "none" in problem.why


def test_a_bridge_that_is_down_is_a_problem_with_the_command_that_brings_it_up() -> None:
    problem = bridge_problem(node_config(bridges=("vmbr0", "vmbr1")), [UP, DOWN])

    assert problem is not None
    assert problem.what == "pve1: bridge vmbr1 is down"
    assert "ifup vmbr1" in problem.cure


class Bridges:
    """Nodes that show their bridges; one that is not listed does not answer."""

    def __init__(self, by_node: Mapping[str, tuple[BridgeState, ...]]) -> None:
        self._by_node = by_node

    def bridges(self, node: str) -> tuple[BridgeState, ...]:
        if node not in self._by_node:
            raise Unreachable(f"{node} does not answer", "connection refused", "is it switched on?")
        return self._by_node[node]


def checked(by_node: Mapping[str, tuple[BridgeState, ...]], *nodes: NodePlan) -> tuple[NodePlan, ...]:
    plan = Plan(nodes, facts().k3s)
    return network_validator.check(cast(Proxmox, Bridges(by_node)), plan).nodes


def test_only_the_node_without_its_bridge_drops_out() -> None:
    first, second = node_plan(Action.CREATE), node_plan(Action.CREATE, node_facts(Verdict.ABSENT, number=2))

    dropped, kept = checked({"pve1": (LAN,), "pve2": (UP,)}, first, second)

    assert dropped.action is Action.NOTHING
    assert dropped.problem is not None
    assert "vmbr0 is missing" in dropped.problem.what
    assert kept == second


def test_a_vm_that_cannot_be_replaced_for_want_of_a_bridge_is_started_instead() -> None:
    (dropped,) = checked({"pve1": ()}, node_plan(Action.REPLACE, stopped()))

    assert dropped.action is Action.START


def test_a_vm_that_may_be_replaced_if_it_will_not_start_is_only_started_for_want_of_a_bridge() -> None:
    may_be = node_plan(Action.START, stopped(), may_replace=True)

    (started,) = checked({"pve1": ()}, may_be)
    (unchanged,) = checked({"pve1": (UP,)}, may_be)

    assert (started.action, started.may_replace, started.problem) == (Action.START, False, None)
    assert unchanged == may_be


def test_bridges_that_cannot_be_read_are_a_problem_not_a_yes() -> None:
    (dropped,) = checked({}, node_plan(Action.CREATE))

    assert dropped.problem is not None
    assert dropped.problem.what == "pve1: its bridges cannot be read"
    assert "connection refused" in dropped.problem.why
    assert dropped.problem.cure == "is it switched on?"


@pytest.mark.parametrize("action", [Action.KEEP, Action.START, Action.FINISH, Action.NOTHING])
def test_a_node_that_gets_no_new_vm_is_not_even_asked(action: Action) -> None:
    plan = node_plan(action, node_facts(Verdict.HEALTHY, vm()))

    assert checked({}, plan) == (plan,)


def test_a_plan_without_nodes_stays_empty() -> None:
    assert checked({}) == ()
