"""What the k3s cluster says against deleting a VM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from homelab.errors import Problem
from homelab.guards import (
    k3s_guards,
    lifted_by_force,
    not_lifted_by_consent,
    not_lifted_by_force,
)
from homelab.models import K3sFacts, Ties
from unit.builders import OTHER_UUID, STOPPED, UUID, agent_node, k3s_cluster, k3s_node, servers, vm

NAME = "k3s-vm-pve1"


# --- what the cluster says ---------------------------------------------------------------------------------------


def test_where_no_cluster_is_asked_for_a_vm_that_never_joined_may_be_deleted() -> None:
    assert k3s_guards(vm(), K3sFacts(is_wanted=False)) == ()


@pytest.mark.parametrize("tag", ["homelab-server", "homelab-agent"])
def test_where_no_cluster_is_asked_for_a_vm_that_joined_one_is_kept(tag: str) -> None:
    (guard,) = k3s_guards(vm({"tags": f"homelab;{tag}"}), K3sFacts(is_wanted=False))

    assert "joined" in guard.sentence
    assert "K3S_EXISTING_NODE_IP" in guard.cure


@pytest.mark.parametrize("cure", ["check the cable", ""])
def test_where_the_cluster_cannot_be_asked_every_vm_may_be_a_member(cure: str) -> None:
    unknown = K3sFacts(is_wanted=True, problem=Problem("k3s cannot be asked", "no route", cure))

    (guard,) = k3s_guards(vm(), unknown)

    assert "is or may be a member" in guard.sentence
    assert (cure or "K3S_EXISTING_NODE_IP") in guard.cure


def test_a_vm_that_is_no_member_may_be_deleted() -> None:
    assert k3s_guards(vm(), k3s_cluster(k3s_node("first", system_uuid=OTHER_UUID))) == ()


def test_an_agent_may_be_deleted_however_few_servers_there_are() -> None:
    cluster = k3s_cluster(k3s_node("first", system_uuid=OTHER_UUID), agent_node(NAME))

    assert k3s_guards(vm({"tags": "homelab;homelab-agent"}, **STOPPED), cluster) == ()


def test_another_machine_that_is_ready_under_its_name_forbids_deleting() -> None:
    cluster = k3s_cluster(agent_node(NAME, system_uuid=OTHER_UUID))

    (guard,) = k3s_guards(vm(**STOPPED), cluster)

    assert "another machine is a Ready member" in guard.sentence
    assert "VM_NAME_n" in guard.cure


def test_the_ghost_of_an_earlier_machine_does_not_forbid_deleting() -> None:
    cluster = k3s_cluster(agent_node(NAME, system_uuid=OTHER_UUID, is_ready=False))

    assert k3s_guards(vm(**STOPPED), cluster) == ()


def test_the_machine_at_which_the_cluster_is_asked_is_kept() -> None:
    cluster = k3s_cluster(agent_node(NAME, addresses=("192.0.2.10",)))

    (guard,) = k3s_guards(vm(), cluster)

    assert "K3S_EXISTING_NODE_IP (192.0.2.10)" in guard.sentence
    assert "another Ready server" in guard.cure


def behind_a_name(answered_by: str) -> K3sFacts:
    """K3S_EXISTING_NODE_IP is a host name or a shared address, which is no Node's; enough voters are left."""
    return replace(k3s_cluster(k3s_node(NAME), *servers(3)), asked_at="k3s.lan", answered_by=answered_by)


@pytest.mark.parametrize(("answered_by", "is_kept"), [(NAME, True), ("other-0", False)])
def test_behind_a_name_the_machine_that_answers_is_kept(answered_by: str, is_kept: bool) -> None:
    sentences = [guard.sentence for guard in k3s_guards(vm(), behind_a_name(answered_by))]

    assert sentences == ["it holds K3S_EXISTING_NODE_IP (k3s.lan), where the token comes from"] * is_kept


@pytest.mark.parametrize("answered_by", ["", "unheard-of"])
def test_where_it_cannot_be_told_which_machine_answers_every_server_is_kept(answered_by: str) -> None:
    cluster = behind_a_name(answered_by)
    (guard,) = k3s_guards(vm(), cluster)

    assert "it may hold K3S_EXISTING_NODE_IP (k3s.lan)" in guard.sentence
    assert "kubectl get nodes -o wide" in guard.cure
    agent = replace(cluster, nodes=(agent_node(NAME), *cluster.nodes[1:]))
    assert k3s_guards(vm(), agent) == ()


@pytest.mark.parametrize("is_ready", [True, False], ids=["still-looks-ready", "not-ready"])
def test_a_stopped_server_among_three_voters_may_be_deleted_while_the_others_are_healthy(is_ready: bool) -> None:
    assert k3s_guards(vm(**STOPPED), k3s_cluster(k3s_node(NAME, is_ready=is_ready), *servers(2))) == ()


@pytest.mark.parametrize("state", [{}, STOPPED], ids=["running", "stopped"])
def test_one_of_two_voters_is_kept(state: Mapping[str, Any]) -> None:
    (guard,) = k3s_guards(vm(**state), k3s_cluster(k3s_node(NAME), *servers(1)))

    assert guard.sentence == "it is or was a k3s server, and there are only 2 etcd voter(s) (3 are needed)"
    assert "make another node a server" in guard.cure


@pytest.mark.parametrize("how", [{"is_ready": False}, {"is_etcd_healthy": False}], ids=["not-ready", "unhealthy"])
def test_where_another_voter_is_down_it_is_to_be_brought_back(how: dict[str, bool]) -> None:
    (guard,) = k3s_guards(vm(**STOPPED), k3s_cluster(k3s_node(NAME), *servers(2, **how)))

    assert (
        guard.sentence
        == "it is or was a k3s server, and another member of etcd is not healthy, or has no vote yet (last)"
    )
    assert "kubectl get nodes" in guard.cure


@pytest.mark.parametrize(
    ("ghosts", "said", "cure"),
    [
        (("gone-1234abcd",), "etcd counts a member that has no Node (gone-1234abcd)", "etcdctl"),
        (None, "etcd's members cannot be read", "/db/info"),
    ],
)
def test_a_server_is_kept_while_etcd_counts_a_member_that_nobody_stands_for(
    ghosts: tuple[str, ...] | None, said: str, cure: str
) -> None:
    (guard,) = k3s_guards(vm(**STOPPED), k3s_cluster(k3s_node(NAME), *servers(3)), Ties(ghosts=ghosts))

    assert said in guard.sentence
    assert cure in guard.cure
    assert k3s_guards(vm(**STOPPED), k3s_cluster(agent_node(NAME), *servers(3)), Ties(ghosts=ghosts)) == ()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (("default/db (volume pvc-1, local-path)",), "would be lost: default/db (volume pvc-1, local-path)"),
        (tuple("abcdefg"), "would be lost: a, b, c, d, e and 2 more"),
        (None, "what data is bound to its Node cannot be read"),
    ],
)
def test_data_that_only_this_machine_has_forbids_deleting_until_a_person_gives_it_up(
    data: tuple[str, ...] | None, said: str
) -> None:
    found = k3s_guards(vm(), k3s_cluster(agent_node(NAME), *servers(1)), Ties(data=data))

    (guard,) = found
    assert said in guard.sentence
    assert f"--allow-data-loss {NAME}" in guard.cure
    assert not_lifted_by_force(found) == lifted_by_force(found) == found
    assert not_lifted_by_consent(found) == ()


def test_a_machine_that_has_left_has_nothing_more_to_lose() -> None:
    cluster = k3s_cluster(*servers(1))

    assert k3s_guards(vm(**STOPPED), cluster, Ties(data=("db",)), is_leaving=True) == ()


def test_a_server_whose_node_is_gone_is_missed_only_while_etcd_still_counts_it() -> None:
    was_server = vm({"tags": "homelab;homelab-server"}, **STOPPED)

    assert k3s_guards(was_server, k3s_cluster(*servers(2))) == ()
    (guard,) = k3s_guards(was_server, k3s_cluster(*servers(2)), Ties(ghosts=(f"{NAME}-1234abcd",)))
    assert f"it is or was a k3s server, and etcd counts a member that has no Node ({NAME}-1234abcd)" in guard.sentence


def test_a_server_whose_membership_an_earlier_run_has_ended_may_be_deleted_while_there_is_a_quorum() -> None:
    gone = vm({"tags": "homelab;homelab-server"}, **STOPPED)
    left = [k3s_node(f"k3s-vm-pve{n}", system_uuid=OTHER_UUID, is_ready=n < 4) for n in (2, 3, 4, 5)]

    assert k3s_guards(gone, k3s_cluster(*left[:3]), is_leaving=True) == ()
    assert len(k3s_guards(gone, k3s_cluster(*left[:3]))) == 1
    assert k3s_guards(gone, k3s_cluster(agent_node("k3s-vm-pve2", system_uuid=OTHER_UUID)), is_leaving=True) == ()
    (lost,) = k3s_guards(gone, k3s_cluster(*left), is_leaving=True)
    assert lost.sentence == "etcd has lost its quorum without it (2 of 4 voters are healthy)"
    assert "kubectl get nodes" in lost.cure


def test_a_machine_that_has_taken_the_name_of_one_that_was_leaving_forbids_deleting() -> None:
    (namesake,) = k3s_guards(
        vm({"tags": "homelab;homelab-server"}, **STOPPED),
        k3s_cluster(k3s_node("k3s-vm-pve1", system_uuid=OTHER_UUID)),
        is_leaving=True,
    )
    assert namesake.sentence == "another machine is a Ready member under the name k3s-vm-pve1"


def test_the_only_server_of_an_sqlite_cluster_is_kept() -> None:
    (guard,) = k3s_guards(vm(), k3s_cluster(k3s_node(NAME, is_etcd=False, is_etcd_voter=False)))

    assert "is or was a k3s server" in guard.sentence


def test_a_stopped_server_may_be_deleted_where_three_other_voters_are_healthy() -> None:
    assert k3s_guards(vm(**STOPPED), k3s_cluster(k3s_node(NAME, is_ready=False), *servers(3))) == ()


def test_a_running_server_counts_among_three_healthy_voters() -> None:
    assert k3s_guards(vm(), k3s_cluster(k3s_node(NAME), *servers(2))) == ()


def test_a_server_is_kept_while_another_voter_is_not_healthy() -> None:
    cluster = k3s_cluster(k3s_node(NAME, is_ready=False), *servers(4, is_ready=False))

    (guard,) = k3s_guards(vm(**STOPPED), cluster)

    assert (
        guard.sentence
        == "it is or was a k3s server, and another member of etcd is not healthy, or has no vote yet (last)"
    )
    assert "kubectl get nodes" in guard.cure


def test_a_learner_is_no_voter_yet() -> None:
    cluster = k3s_cluster(k3s_node(NAME), *servers(3, is_etcd_voter=False))

    (guard,) = k3s_guards(vm(**STOPPED), cluster)

    assert "has no vote yet (last)" in guard.sentence


def test_a_server_under_another_name_is_known_by_its_uuid() -> None:
    (guard,) = k3s_guards(vm(**STOPPED), k3s_cluster(k3s_node("renamed"), *servers(1)))

    assert "only 2 etcd voter(s)" in guard.sentence


def test_holder_may_go_where_another_ready_server_is_listed_beside_it() -> None:
    holder, *others = k3s_node(NAME, addresses=("192.0.2.1",)), *servers(3)
    cluster = replace(k3s_cluster(holder, *others), asked_at="192.0.2.1")
    named = others[0].name

    assert len(k3s_guards(vm(), replace(cluster, listed=("192.0.2.1",)))) == 1
    assert k3s_guards(vm(), replace(cluster, listed=("192.0.2.1", named))) == ()


@pytest.mark.parametrize("other", [{"is_ready": False}, {"is_server": False}, {"system_uuid": UUID}])
def test_listed_machine_that_cannot_serve_does_not_let_the_holder_go(other: dict[str, Any]) -> None:
    beside = k3s_node("beside", **{"system_uuid": OTHER_UUID, **other})
    cluster = K3sFacts(is_wanted=True, nodes=(beside,), asked_at="192.0.2.1", listed=("192.0.2.1", "beside"))

    assert not cluster.is_listed_beside(UUID)
