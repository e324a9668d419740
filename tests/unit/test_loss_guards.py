"""What even a person who insists on deleting a VM by hand does not go over: the k3s cluster would be lost with it."""

from __future__ import annotations

import pytest

from homelab.errors import Problem
from homelab.guards import loss_guards, must_leave_first
from homelab.models import K3sFacts, K3sNode
from unit.builders import OTHER_UUID, STOPPED, agent_node, k3s_cluster, k3s_node, servers, vm

NAME = "k3s-vm-pve1"
UNASKED = K3sFacts(is_wanted=True, problem=Problem("k3s cannot be asked", "no route", "look"))


@pytest.mark.parametrize(
    "cluster",
    [
        K3sFacts(is_wanted=False),
        k3s_cluster(k3s_node("first", system_uuid=OTHER_UUID)),
        k3s_cluster(agent_node(NAME)),
        k3s_cluster(k3s_node(NAME, system_uuid=OTHER_UUID)),
        k3s_cluster(k3s_node(NAME), *servers(2)),
        k3s_cluster(k3s_node(NAME, is_etcd=False, is_etcd_voter=False), *servers(1)),
    ],
    ids=["no-cluster", "no-member", "agent", "clone", "three-voters", "learner"],
)
def test_a_vm_without_which_the_cluster_stays_may_be_deleted_while_off_or_on(cluster: K3sFacts) -> None:
    assert [loss_guards(found, cluster) for found in (vm(), vm(**STOPPED))] == [(), ()]
    assert not must_leave_first(vm(), cluster)


@pytest.mark.parametrize("others", [servers(1), servers(3, is_ready=False)], ids=["one-of-two", "one-of-four"])
def test_a_voter_that_makes_the_majority_leaves_while_it_runs_and_cannot_leave_when_it_is_off(
    others: list[K3sNode],
) -> None:
    cluster = k3s_cluster(k3s_node(NAME), *others)

    assert loss_guards(vm(), cluster) == ()
    assert must_leave_first(vm(), cluster)
    (guard,) = loss_guards(vm(**STOPPED), cluster)
    assert guard.sentence == "etcd has no quorum while it is down, so it cannot be taken out"
    assert guard.cure == "start it: qm start 107"


def test_a_voter_without_which_the_others_have_no_majority_is_kept() -> None:
    (guard,) = loss_guards(vm(), k3s_cluster(k3s_node(NAME), *servers(2, is_ready=False)))

    assert guard.sentence == "etcd would lose its quorum: only 1 of the voters that stay are healthy"
    assert "kubectl get nodes" in guard.cure


def test_the_last_ready_server_is_kept() -> None:
    sqlite = {"is_etcd": False, "is_etcd_voter": False}
    alone = K3sFacts(is_wanted=True, nodes=(k3s_node(NAME, **sqlite), agent_node("a")), asked_at="192.0.2.99")

    (guard,) = loss_guards(vm(), alone)

    assert guard.sentence == "it is the last Ready server of the k3s cluster"


def test_the_server_at_which_its_membership_would_be_ended_is_kept() -> None:
    (guard,) = loss_guards(vm(), k3s_cluster(k3s_node(NAME, addresses=("192.0.2.10",)), *servers(3)))

    assert "which it holds" in guard.sentence
    assert "another Ready server" in guard.cure


@pytest.mark.parametrize(("tags", "is_kept"), [("homelab", True), ("homelab;homelab-agent", False)])
def test_where_the_cluster_cannot_be_asked_only_an_agent_is_known_to_be_none_of_its_voters(
    tags: str, is_kept: bool
) -> None:
    sentences = [guard.sentence for guard in loss_guards(vm({"tags": tags}), UNASKED)]

    assert bool(sentences) is is_kept
    assert all("etcd may lose its quorum" in sentence for sentence in sentences)
