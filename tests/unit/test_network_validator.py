"""The bridges a new VM is to have are there and up before anything is written to its node."""

from __future__ import annotations

import pytest

from homelab.models import BridgeState
from homelab.network_validator import bridge_problems
from unit.builders import node_config

UP = BridgeState("vmbr0", is_active=True)
LAN = BridgeState("vmbr25gbe", is_active=True)
DOWN = BridgeState("vmbr1", is_active=False)


@pytest.mark.parametrize("wanted", [("vmbr0",), ("vmbr0", "vmbr25gbe"), ("vmbr25gbe", "vmbr25gbe")])
def test_bridges_that_are_there_and_up_are_no_problem(wanted: tuple[str, ...]) -> None:
    assert bridge_problems(node_config(bridges=wanted), [UP, LAN, DOWN]) == ()


def test_a_missing_bridge_is_named_with_those_that_are_there_and_the_key() -> None:
    (problem,) = bridge_problems(node_config(2, bridges=("vmbr0", "vmbr7", "vmbr8")), [LAN, UP])

    assert problem.what == "pve2: bridge vmbr7, vmbr8 is missing"
    assert problem.why == "the bridges there are: vmbr0, vmbr25gbe"
    assert "NETWORK_IFACES_2" in problem.cure


def test_a_node_without_any_bridge_says_so() -> None:
    (problem,) = bridge_problems(node_config(), [])

    assert "none" in problem.why


def test_a_bridge_that_is_down_is_a_problem_with_the_command_that_brings_it_up() -> None:
    (problem,) = bridge_problems(node_config(bridges=("vmbr0", "vmbr1")), [UP, DOWN])

    assert problem.what == "pve1: bridge vmbr1 is down"
    assert "ifup vmbr1" in problem.cure


def test_bridges_that_are_missing_and_bridges_that_are_down_are_told_together() -> None:
    missing, down = bridge_problems(node_config(bridges=("vmbr1", "vmbr9")), [UP, DOWN])

    assert (missing.what, down.what) == ("pve1: bridge vmbr9 is missing", "pve1: bridge vmbr1 is down")
