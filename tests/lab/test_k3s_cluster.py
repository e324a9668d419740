"""The rules by which a k3s cluster lets machines in and out."""

from __future__ import annotations

import heapq
import inspect
import itertools
from typing import Any

import pytest

from pvelab.clock import Callback
from pvelab.guest import kube_nodes
from pvelab.guest.k3s_cluster import Cluster, Server
from pvelab.guest.k3s_join import JoinRequest, Stage
from pvelab.guest.k3s_tokens import TokenProblem, Tokens, ca_hash, parse_token
from pvelab.guest.kube_nodes import Host, Kubelet
from pvelab.guest.kube_objects import KubeError

CA = b"-----BEGIN CERTIFICATE-----\n"
VERSION = "v1.33.5+k3s1"


class HandTimer:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.time_s = 1_000_000.0
        self.planned: list[tuple[float, int, Callback]] = []
        self.order = itertools.count()

    def now(self) -> float:
        return self.time_s

    def after(self, delay_s: float, callback: Callback) -> None:
        heapq.heappush(self.planned, (self.time_s + delay_s, next(self.order), callback))

    def advance(self, seconds: float) -> None:
        end = self.time_s + seconds
        while self.planned and self.planned[0][0] <= end:
            self.time_s, _, callback = heapq.heappop(self.planned)
            assert not inspect.isawaitable(callback())
        self.time_s = end


def kubelet(name: str, number: int, *, is_server: bool = False, version: str = VERSION) -> Kubelet:
    host = Host(name, f"127.9.2.{number}", f"{number:032x}", f"uuid-{number}", f"boot-{number}")
    return Kubelet(name, host, version, is_server=is_server)


def request(cluster: Cluster, name: str, number: int, **changes: str) -> JoinRequest:
    values: dict[str, Any] = {
        "node_name": name,
        "node_password": f"password-{number}",
        "token": cluster.tokens.server_token,
        "url": "https://127.9.3.1:6443",
        "version": VERSION,
        "address": f"127.9.2.{number}",
    }
    return JoinRequest(**(values | changes))


def start(cluster: Cluster, name: str, number: int, *, is_server: bool = False) -> list[str]:
    deleted: list[str] = []
    made = kubelet(name, number, is_server=is_server)
    cluster.kubelet_started(made, lambda: deleted.append(name))
    cluster.kubelet_ready(made)
    return deleted


def join_server(cluster: Cluster, timer: HandTimer, name: str, number: int) -> None:
    assert cluster.refuse_server(request(cluster, name, number), f"{name}-0000000{number}") is None
    assert cluster.refuse_node(request(cluster, name, number)) is None
    cluster.server_started(Server(name, f"127.9.2.{number}", VERSION))
    start(cluster, name, number, is_server=True)
    timer.advance(15)


def ready(cluster: Cluster, name: str) -> bool:
    return kube_nodes.is_ready(cluster.store.get("nodes", name))


@pytest.fixture
def timer() -> HandTimer:
    return HandTimer()


@pytest.fixture
def cluster(timer: HandTimer) -> Cluster:
    made = Cluster(timer, Tokens(ca_hash(CA)), CA)
    made.etcd.found("first-00000001", "127.9.2.1")
    made.server_started(Server("first", "127.9.2.1", VERSION))
    assert made.refuse_node(request(made, "first", 1)) is None
    start(made, "first", 1, is_server=True)
    return made


def test_agent_with_the_server_token_becomes_ready(cluster: Cluster) -> None:
    assert cluster.refuse_agent(request(cluster, "agent", 5)) is None
    start(cluster, "agent", 5)
    node = cluster.store.get("nodes", "agent")
    assert kube_nodes.is_ready(node)
    assert node["status"]["nodeInfo"]["systemUUID"] == "uuid-5"
    assert node["spec"].get("taints") is None
    assert kube_nodes.CONTROL_PLANE_LABEL not in node["metadata"]["labels"]


def test_bare_password_joins_without_a_check_of_the_ca(cluster: Cluster) -> None:
    assert cluster.refuse_agent(request(cluster, "agent", 5, token=cluster.tokens.server_password)) is None


def test_agent_with_a_wrong_password_is_unauthorized(cluster: Cluster) -> None:
    refusal = cluster.refuse_agent(request(cluster, "agent", 5, token=f"K10{ca_hash(CA)}::node:wrong"))
    assert refusal is not None
    assert refusal.text.endswith("/v1-k3s/config: 401 Unauthorized")


def test_token_of_another_cluster_is_refused_with_both_hashes(cluster: Cluster) -> None:
    refusal = cluster.refuse_agent(request(cluster, "agent", 5, token=f"K10{'0' * 64}::server:x"))
    assert refusal is not None and refusal.stage is Stage.CONNECTION
    assert refusal.text == (
        f"token CA hash does not match the Cluster CA certificate hash: {'0' * 64} != {cluster.tokens.ca_hash}"
    )


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("", "token must not be empty"),
        ("K10abc::server:x", "invalid token CA hash length"),
        (f"K10{'0' * 64}::server:", "invalid token format"),
    ],
)
def test_unreadable_token_is_refused(token: str, text: str) -> None:
    with pytest.raises(TokenProblem, match=text):
        parse_token(token)


def test_same_name_on_a_fresh_disk_is_refused_until_the_secret_is_gone(cluster: Cluster, timer: HandTimer) -> None:
    assert cluster.refuse_agent(request(cluster, "agent", 5)) is None
    start(cluster, "agent", 5)
    cluster.kubelet_stopped("agent")
    refusal = cluster.refuse_agent(request(cluster, "agent", 6))
    assert refusal is not None and refusal.text.startswith("Node password rejected, duplicate hostname")
    cluster.store.delete("nodes", "agent")
    timer.advance(5)
    assert cluster.store.find("secrets", "agent.node-password.k3s", "kube-system") is None
    assert cluster.refuse_agent(request(cluster, "agent", 6)) is None


def test_bootstrap_token_joins_agents_until_it_ends_and_never_servers(cluster: Cluster, timer: HandTimer) -> None:
    made = cluster.tokens.create(900, "join agent", timer.now())
    token = cluster.tokens.full(f"{made.id}.{made.secret}")
    assert cluster.refuse_agent(request(cluster, "agent", 5, token=token)) is None
    refusal = cluster.refuse_server(request(cluster, "second", 2, token=token), "second-00000002")
    assert refusal is not None and refusal.text.endswith("/v1-k3s/server-bootstrap: 403 Forbidden")
    timer.advance(901)
    refusal = cluster.refuse_agent(request(cluster, "agent", 5, token=token))
    assert refusal is not None and "401 Unauthorized" in refusal.text


def test_server_joins_as_a_learner_and_votes_15_seconds_later(cluster: Cluster, timer: HandTimer) -> None:
    assert cluster.refuse_server(request(cluster, "second", 2), "second-00000002") is None
    start(cluster, "second", 2, is_server=True)
    voter = kube_nodes.condition(cluster.store.get("nodes", "second"), "EtcdIsVoter")
    assert voter is not None and (voter["status"], voter["reason"]) == ("False", "MemberIsLearner")
    timer.advance(15)
    voter = kube_nodes.condition(cluster.store.get("nodes", "second"), "EtcdIsVoter")
    assert voter is not None and (voter["status"], voter["reason"]) == ("True", "MemberNotLearner")


def test_second_learner_has_to_wait(cluster: Cluster, timer: HandTimer) -> None:
    assert cluster.refuse_server(request(cluster, "second", 2), "second-00000002") is None
    refusal = cluster.refuse_server(request(cluster, "third", 3), "third-00000003")
    assert refusal is not None and refusal.stage is Stage.ETCD_WAIT
    assert refusal.text == "etcdserver: too many learner members in cluster"
    timer.advance(15)
    assert cluster.refuse_server(request(cluster, "third", 3), "third-00000003") is None


def test_dead_voter_keeps_new_servers_out(cluster: Cluster, timer: HandTimer) -> None:
    join_server(cluster, timer, "second", 2)
    join_server(cluster, timer, "third", 3)
    cluster.etcd.of_node("third")[0].is_up = False
    refusal = cluster.refuse_server(request(cluster, "fourth", 4), "fourth-00000004")
    assert refusal is not None and refusal.text == "etcdserver: unhealthy cluster"


def test_server_of_the_same_name_with_another_suffix_is_a_duplicate(cluster: Cluster, timer: HandTimer) -> None:
    join_server(cluster, timer, "second", 2)
    refusal = cluster.refuse_server(request(cluster, "second", 9), "second-99999999")
    assert refusal is not None and refusal.stage is Stage.ETCD_FATAL
    assert "duplicate node name found" in refusal.text


def test_sqlite_cluster_refuses_a_second_server(timer: HandTimer) -> None:
    cluster = Cluster(timer, Tokens(ca_hash(CA)), CA, datastore="sqlite")
    cluster.server_started(Server("first", "127.9.2.1", VERSION))
    refusal = cluster.refuse_server(request(cluster, "second", 2), "second-00000002")
    assert refusal is not None and refusal.text.endswith("/v1-k3s/server-bootstrap: 400 Bad Request")


def test_deleting_a_servers_node_removes_its_member(cluster: Cluster, timer: HandTimer) -> None:
    join_server(cluster, timer, "second", 2)
    join_server(cluster, timer, "third", 3)
    cluster.store.delete("nodes", "third")
    timer.advance(3)
    assert cluster.store.find("nodes", "third") is None
    assert [member.name for member in cluster.etcd.members] == ["first-00000001", "second-00000002"]


def test_node_without_etcd_label_leaves_a_ghost_member(cluster: Cluster, timer: HandTimer) -> None:
    join_server(cluster, timer, "second", 2)
    join_server(cluster, timer, "third", 3)
    cluster.store.change("nodes", "third", lambda node: node["metadata"]["labels"].pop(kube_nodes.ETCD_LABEL))
    cluster.store.delete("nodes", "third")
    timer.advance(3)
    assert cluster.store.find("nodes", "third") is None
    assert cluster.etcd.of_node("third")


def test_node_deletion_hangs_without_quorum_and_ends_with_it(cluster: Cluster, timer: HandTimer) -> None:
    join_server(cluster, timer, "second", 2)
    join_server(cluster, timer, "third", 3)
    second, third = cluster.etcd.of_node("second")[0], cluster.etcd.of_node("third")[0]
    second.is_up = third.is_up = False
    assert not cluster.is_available
    cluster.store.delete("nodes", "third")
    timer.advance(60)
    assert "deletionTimestamp" in cluster.store.get("nodes", "third")["metadata"]
    second.is_up = True
    timer.advance(10)
    assert cluster.store.find("nodes", "third") is None


def test_remove_annotation_takes_the_member_out_and_says_so(cluster: Cluster, timer: HandTimer) -> None:
    join_server(cluster, timer, "second", 2)
    cluster.store.change(
        "nodes", "second", lambda node: node["metadata"]["annotations"].update({kube_nodes.REMOVE_MEMBER: "true"})
    )
    timer.advance(2)
    annotations = cluster.store.get("nodes", "second")["metadata"]["annotations"]
    assert annotations[kube_nodes.REMOVED_MEMBER] == "second-00000002"
    assert not cluster.etcd.of_node("second")


def test_silent_kubelet_is_not_ready_after_40_seconds_and_ready_again_when_back(
    cluster: Cluster, timer: HandTimer
) -> None:
    start(cluster, "agent", 5)
    cluster.kubelet_stopped("agent")
    timer.advance(39)
    assert ready(cluster, "agent")
    timer.advance(2)
    found = kube_nodes.condition(cluster.store.get("nodes", "agent"), "Ready")
    assert found is not None and (found["status"], found["reason"]) == ("Unknown", "NodeStatusUnknown")
    start(cluster, "agent", 5)
    assert ready(cluster, "agent")


def test_agent_is_told_when_its_node_was_deleted(cluster: Cluster, timer: HandTimer) -> None:
    deleted = start(cluster, "agent", 5)
    cluster.store.delete("nodes", "agent")
    timer.advance(20)
    assert deleted == ["agent"]


def test_newer_agent_is_refused_as_down_level_server(cluster: Cluster) -> None:
    refusal = cluster.refuse_agent(request(cluster, "agent", 5, version="v1.34.1+k3s1"))
    assert refusal is not None and "incompatible down-level server detected" in refusal.text


def test_unknown_object_is_not_found_in_the_servers_words(cluster: Cluster) -> None:
    with pytest.raises(KubeError, match='nodes "nobody" not found'):
        cluster.store.get("nodes", "nobody")
