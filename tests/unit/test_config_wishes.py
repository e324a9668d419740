"""Names on the command line, and which node each of them means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from homelab.config import with_wishes
from homelab.errors import ConfigError, Problem
from homelab.settings import Asked, DroppedNode, Wishes
from unit.builders import config, node_config

THREE = replace(
    config(node_config(1), node_config(2, host="192.0.2.2"), node_config(3, vm_name="worker")),
    dropped=(DroppedNode(4, "pve4", ()),),
)


def wishes(*nodes: str, replaced: tuple[str, ...] = (), forced: tuple[str, ...] = ()) -> Wishes:
    return with_wishes(THREE, Asked(nodes, replaced, forced)).wishes


def refused(*nodes: str, replaced: tuple[str, ...] = (), forced: tuple[str, ...] = ()) -> list[Problem]:
    with pytest.raises(ConfigError) as error:
        wishes(*nodes, replaced=replaced, forced=forced)
    return list(error.value.problems)


def test_nothing_asked_means_all_nodes_and_no_replacement() -> None:
    assert wishes() == Wishes()
    assert all(wishes().is_worked_on(number) for number in (1, 2, 3))


def test_nobody_watching_is_passed_on() -> None:
    assert with_wishes(THREE, Asked(is_unattended=True)).wishes == Wishes(is_unattended=True)


@pytest.mark.parametrize(
    ("name", "number"), [("pve1", 1), ("PVE1", 1), ("192.0.2.2", 2), ("pve4", 4)], ids=["name", "case", "host", "bad"]
)
def test_a_node_goes_by_its_name_or_address_even_if_its_keys_are_wrong(name: str, number: int) -> None:
    only_this = wishes(name)

    assert only_this == Wishes(only=frozenset({number}))
    assert [one for one in (1, 2, 3, 4) if only_this.is_worked_on(one)] == [number]


def test_what_is_to_be_replaced_goes_by_its_own_name_too_and_force_is_replacing() -> None:
    named = wishes(replaced=("pve1", "k3s-vm-pve1"), forced=("worker",))

    assert named == Wishes(replaced=frozenset({1, 3}), forced=frozenset({3}))


def test_data_that_is_given_up_is_named_like_a_replacement_and_is_none() -> None:
    named = with_wishes(THREE, Asked(data_loss=("worker", "pve1"))).wishes
    assert named == Wishes(data_loss=frozenset({1, 3}))

    with pytest.raises(ConfigError) as error:
        with_wishes(THREE, Asked(("pve1",), data_loss=("worker",)))
    assert error.value.problems[0].what == "--allow-data-loss worker is not among the nodes of this run"


def test_names_that_mean_nothing_are_listed_all_at_once_with_those_there_are() -> None:
    node, vm, forced = refused("pve9", "worker", replaced=("pve8",), forced=())[:3]

    assert node == Problem(
        "--node pve9 names no configured node", "there are pve1, 192.0.2.2, pve2, pve3, pve4", "use one of these names"
    )
    assert vm.what == "--node worker names no configured node"
    assert forced.what == "--replace pve8 names no configured node and no VM of one"
    assert forced.why.endswith("k3s-vm-pve1, k3s-vm-pve2, worker")


def test_a_replacement_on_a_node_that_the_run_is_not_about_is_refused() -> None:
    (problem,) = refused("pve1", "pve2", replaced=("k3s-vm-pve1",), forced=("pve3",))

    assert problem.what == "--force-replace pve3 is not among the nodes of this run"
    assert problem.why == "--node names pve1, pve2"
    assert "--node" in problem.cure
