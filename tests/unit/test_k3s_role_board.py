"""Who becomes what in a run: decided once, and changed where a node fails or turns out to be something already."""

from __future__ import annotations

import pytest

from homelab.k3s_manager.role_board import RoleBoard
from homelab.models import Action, NodePlan, Plan, Verdict
from homelab.settings import Role
from unit.builders import agent_node, k3s_cluster, k3s_node, node_config, node_facts, node_plan

ONE, TWO, THREE = (
    node_plan(Action.CREATE, node_facts(Verdict.ABSENT, number=number, config=node_config(number)))
    for number in (1, 2, 3)
)
CLUSTER = (k3s_node("first"), agent_node("worker"))


def board(*plans: NodePlan) -> tuple[RoleBoard, list[str]]:
    """With one etcd server elsewhere, the first two of these are to become servers; and what the board says."""
    said: list[str] = []
    made = RoleBoard(said.append)
    made.prepare(Plan(plans, k3s_cluster(*CLUSTER)))
    return made, said


def roles(made: RoleBoard, *plans: NodePlan) -> list[Role]:
    return [made.begin(plan, lambda: CLUSTER) for plan in plans]


@pytest.mark.parametrize(
    ("keeper", "kept", "others", "said"),
    [
        (
            ONE,
            Role.AGENT,
            [Role.SERVER, Role.SERVER],
            "k3s-vm-pve3: becomes a server since k3s-vm-pve1 is an agent already",
        ),
        (
            THREE,
            Role.SERVER,
            [Role.SERVER, Role.AGENT],
            "k3s-vm-pve2: becomes an agent since k3s-vm-pve3 is a server already",
        ),
    ],
)
def test_role_that_a_machine_has_already_is_made_up_for_by_one_that_has_not_begun(
    keeper: NodePlan, kept: Role, others: list[Role], said: str
) -> None:
    made, heard = board(ONE, TWO, THREE)
    assert roles(made, keeper) != [kept]

    made.keep(keeper, kept)

    assert heard == [said]
    assert roles(made, *(plan for plan in (ONE, TWO, THREE) if plan is not keeper)) == others
    assert roles(made, keeper) == [kept]


def test_role_that_was_meant_for_it_changes_nothing() -> None:
    made, heard = board(ONE, TWO, THREE)
    roles(made, ONE)

    made.keep(ONE, Role.SERVER)

    assert (heard, roles(made, TWO, THREE)) == ([], [Role.SERVER, Role.AGENT])


def test_where_all_others_have_begun_nobody_makes_up_for_it() -> None:
    made, heard = board(ONE, TWO)
    roles(made, ONE, TWO)

    made.keep(ONE, Role.AGENT)

    assert (heard, roles(made, ONE, TWO)) == ([], [Role.AGENT, Role.SERVER])
