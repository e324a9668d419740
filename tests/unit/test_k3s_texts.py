"""What is understood of the texts that k3s and kubectl write. Pure."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest

from homelab.errors import Misunderstood
from homelab.k3s_manager.answers import EtcdMember, parse_members, parse_nodes, parse_version
from homelab.k3s_manager.diagnosis import TROUBLES, diagnose, hopeless
from homelab.k3s_manager.readiness import is_member
from homelab.models import K3sNode
from unit.builders import k3s_node, vm

# --- what the log says -------------------------------------------------------------------------------------------

PASSWORD_REJECTED = (
    "Waiting to retrieve agent configuration; server is not ready: Node password rejected, duplicate hostname or "
    "contents of '/etc/rancher/node/password' may not match server node-passwd entry"
)
CANNOT_REACH = "failed to get CA certs: Get https://192.0.2.10:6443/cacerts: context deadline exceeded"


@pytest.mark.parametrize(
    ("line", "cause", "cure", "final"),
    [
        (PASSWORD_REJECTED, "password of an earlier machine", "delete secret k3s-vm-a.node-password.k3s", True),
        ("etcd cluster join failed: duplicate node name found, please use", "etcd", "delete node k3s-vm-a", True),
        (
            "token CA hash does not match the Cluster CA certificate hash: A != B",
            "different",
            "K3S_EXISTING_NODE_IP",
            True,
        ),
        ("https://192.0.2.10:6443/v1-k3s/config: 401 Unauthorized", "refuses the token", "node-token", True),
        ("failed to validate token: not authorized", "refuses the token", "node-token", True),
        ("critical configuration value mismatch between servers", "differ", "/etc/rancher/k3s/config.yaml", True),
        ("https://192.0.2.10:6443/v1-k3s/server-bootstrap: 400 Bad Request", "SQLite", "K3S_ROLE_n=agent", True),
        ("bootstrap data already found and encrypted with different token", "token", "server token", True),
        ("panic: runtime error: invalid memory address or nil pointer dereference", "crashes", "VM_CPU_TYPE", True),
        ("the member has been permanently removed from the cluster", "member of etcd", "scripts/delete_vm.py", True),
        ('no default routes found in "/proc/net/route"', "no default route", "CLOUD_IP_CONFIG_n", True),
        ("x509: certificate has expired or is not yet valid: current time is before", "clocks", "time", True),
        ("etcdserver: too many learner members in cluster", "still joining", "wait five minutes", False),
        (CANNOT_REACH, "port 6443", "NETWORK_IFACES_n", False),
        ("https://192.0.2.10:6443/v1-k3s/server-bootstrap: 403 Forbidden", "one of agents", "node-token", True),
        ("extracting data: write /var/lib/rancher/k3s: no space left on device", "full", "VM_DISK_SIZE_n", True),
        ('level=fatal msg="failed to find memory cgroup (v2)"', "memory cgroup", "/proc/cmdline", True),
        ("containerd exited: exit status 1", "containerd", "containerd.log", False),
        (
            "this server is a not a member of the etcd cluster. Found [a=https://192.0.2.1:2380], expect: b=https://",
            "not the one under which it joined",
            "CLOUD_IP_CONFIG_n",
            False,
        ),
        ("tls: failed to verify: x509: certificate is valid for 10.43.0.1, not 192.0.2.9", "not name", "tls-san", True),
        ("incompatible down-level server detected", "newer", "K3S_VERSION", True),
        ("nodes is forbidden: User system:k3s-controller cannot list resource", "too old", "K3S_VERSION", False),
        ("open /run/flannel/subnet.env: no such file or directory", "too old", "K3S_VERSION", False),
        (
            "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [node-role.kubernetes.io/x]",
            "a label that no Node",
            "kubectl label node k3s-vm-a",
            True,
        ),
        ("etcd cluster: etcdserver: unhealthy cluster", "members is down", "/db/info", False),
        ("Failed to check local etcd status for learner management: context deadline exceeded", "etcd", "2380", False),
        ("https://127.0.0.1:6444/v1-k3s/config: 503 Service Unavailable", "quorum", "kubectl get nodes", False),
        (
            r'msg="failed to get CA certs: Get \"https://k3s:6443/cacerts\": dial tcp: lookup k3s: no such host"',
            "look up",
            "CLOUD_NAMESERVER",
            False,
        ),
    ],
)
def test_a_known_line_of_the_log_gives_its_cause_and_cure(line: str, cause: str, cure: str, final: bool) -> None:
    journal = f"Starting k3s agent\n{line}\nsomething else\n"

    problem = diagnose("k3s-vm-a", journal)

    assert problem is not None
    assert problem.what == "k3s-vm-a does not join"
    assert cause in problem.why
    assert cure in problem.cure
    assert hopeless("k3s-vm-a", journal) == (problem if final else None)


def test_the_newest_trouble_counts() -> None:
    problem = diagnose("k3s-vm-a", f"{PASSWORD_REJECTED}\n{CANNOT_REACH}\n")

    assert problem is not None
    assert "6443" in problem.why
    assert hopeless("k3s-vm-a", f"{PASSWORD_REJECTED}\n{CANNOT_REACH}\n") is None
    assert hopeless("k3s-vm-a", f"{CANNOT_REACH}\n{PASSWORD_REJECTED}\n") is not None


@pytest.mark.parametrize("journal", ["", "Running load balancer k3s-agent-load-balancer\nall is well\n"])
def test_a_log_without_known_trouble_gives_no_diagnosis(journal: str) -> None:
    assert diagnose("k3s-vm-a", journal) is None
    assert hopeless("k3s-vm-a", journal) is None


def test_every_trouble_has_a_cause_and_a_cure_and_no_text_hides_behind_another() -> None:
    assert all(trouble.cause and trouble.cure for trouble in TROUBLES)
    assert [first.text for first, later in combinations(TROUBLES, 2) if first.text in later.text] == []


# --- what kubectl and k3s print ----------------------------------------------------------------------------------


def item(**changes: Any) -> dict[str, Any]:
    """A Node as kubectl prints it; `changes` go into metadata and status by their key."""
    metadata = {
        "name": "k3s-vm-pve1",
        "labels": {"node-role.kubernetes.io/control-plane": "true", "node-role.kubernetes.io/etcd": "true"},
    }
    status = {
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "EtcdIsVoter", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "192.0.2.5"}, {"type": "Hostname", "address": "k3s-vm-pve1"}],
        "nodeInfo": {"systemUUID": "0F9F7A3E-1C1D-4F0E-9A68-9F2B8A6D1107", "kubeletVersion": "v1.33.4+k3s1"},
    }
    return {"metadata": {**metadata, **changes.get("metadata", {})}, "status": {**status, **changes.get("status", {})}}


def parsed(**changes: Any) -> K3sNode:
    (node,) = parse_nodes(json.dumps({"items": [item(**changes)]}), "192.0.2.10")
    return node


def test_a_ready_server_is_read_in_full_with_its_uuid_in_lower_case() -> None:
    labels = item()["metadata"]["labels"]
    assert parsed() == k3s_node("k3s-vm-pve1", addresses=("192.0.2.5", "k3s-vm-pve1"), labels=labels)


def test_a_node_without_role_labels_is_an_agent() -> None:
    node = parsed(metadata={"labels": {}}, status={"conditions": [{"type": "Ready", "status": "True"}]})

    assert (node.is_ready, node.is_server, node.is_etcd, node.is_etcd_voter) == (True, False, False, False)


@pytest.mark.parametrize(
    ("condition", "counts", "healthy"),
    [
        ({"status": "True", "reason": "MemberNotLearner"}, True, True),
        ({"status": "False", "reason": "Unhealthy"}, True, False),
        ({"status": "False", "reason": "MemberIsLearner"}, False, True),
        ({"status": "False", "reason": "NotAMember"}, False, True),
    ],
)
def test_a_member_of_etcd_that_does_not_answer_counts_all_the_same(
    condition: dict[str, str], counts: bool, healthy: bool
) -> None:
    conditions = [{"type": "Ready", "status": "True"}, {"type": "EtcdIsVoter", **condition}]
    node = parsed(status={"conditions": conditions})

    assert (node.is_etcd_voter, node.is_etcd_healthy) == (counts, healthy)
    assert node.voting_since is None
    assert is_member(node, vm()) is (counts and healthy)


def test_it_is_known_since_when_a_member_votes() -> None:
    voter = {"type": "EtcdIsVoter", "status": "True", "lastTransitionTime": "2025-11-22T08:00:00Z"}

    assert parsed(status={"conditions": [voter]}).voting_since == 1_763_798_400
    assert parsed(status={"conditions": [{**voter, "status": "False"}]}).voting_since is None


@pytest.mark.parametrize(
    "conditions",
    [[], [{"type": "Ready", "status": "Unknown"}], [{"type": "Ready", "status": "False"}]],
    ids=["none-yet", "kubelet-gone", "not-ready"],
)
def test_only_the_condition_ready_with_the_status_true_makes_a_node_ready(conditions: list[dict[str, str]]) -> None:
    assert not parsed(status={"conditions": conditions}).is_ready


def test_the_order_of_the_conditions_does_not_matter() -> None:
    conditions = [{"type": "EtcdIsVoter", "status": "False"}, {"type": "Ready", "status": "True"}]

    assert (
        parsed(status={"conditions": conditions}).is_ready,
        parsed(status={"conditions": conditions[::-1]}).is_ready,
    ) == (True, True)


def test_a_node_that_is_being_deleted_is_not_ready() -> None:
    assert not parsed(metadata={"deletionTimestamp": "2025-11-22T08:00:00Z"}).is_ready


def test_a_cluster_without_nodes_is_an_empty_list() -> None:
    assert parse_nodes('{"items": []}', "192.0.2.10") == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "error: You must be logged in to the server",
        "[]",
        "{}",
        '{"items": null}',
        '{"items": ["k3s-vm-pve1"]}',
        '{"items": [{"metadata": {"name": "a"}, "status": {}}]}',
        '{"items": [{"metadata": {"name": "a"}, "status": {"nodeInfo": {"systemUUID": null}}}]}',
    ],
)
def test_an_answer_that_is_no_list_of_nodes_is_never_an_empty_cluster(text: str) -> None:
    with pytest.raises(Misunderstood, match=r"192\.0\.2\.10"):
        parse_nodes(text, "192.0.2.10")


def test_etcd_members_are_read_with_their_addresses() -> None:
    urls = {"peerURLs": ["https://a:2380"], "clientURLs": ["https://a:2379"]}
    text = json.dumps({"members": [{"ID": 1, "name": "srv1-ab12cd34", **urls}, {"ID": 2, "name": "srv2-12345678"}]})

    first, second = parse_members(text, "192.0.2.10")

    assert (first, second.node) == (EtcdMember("srv1-ab12cd34", urls=("https://a:2380", "https://a:2379")), "srv2")


@pytest.mark.parametrize("text", ["", "failed to get etcd MemberList", "{}", "[]", '{"members": [1]}'])
def test_an_answer_that_is_no_list_of_members_is_never_an_empty_one(text: str) -> None:
    with pytest.raises(Misunderstood, match="etcd members"):
        parse_members(text, "192.0.2.10")


def test_versions_are_in_their_order() -> None:
    in_order = ["v1.9.12+k3s1", "v1.32.9+k3s1", "v1.33.4+k3s1", "v1.33.4+k3s2", "v1.33.10+k3s1", "v1.34.0-rc1+k3s1"]
    numbers = [parse_version(version) for version in in_order]

    assert numbers == sorted(numbers)


@pytest.mark.parametrize("text", ["", "latest", "v1.33.x+k3s1", "v1.33.4+k3sx"])
def test_a_version_that_is_none_is_not_guessed(text: str) -> None:
    with pytest.raises(Misunderstood, match="version"):
        parse_version(text)
