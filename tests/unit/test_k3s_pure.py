"""The pure part of joining: roles, what a failing join's log says, what kubectl prints, what a member is told."""

from __future__ import annotations

import json
import traceback
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import yaml

from homelab.errors import Misunderstood
from homelab.k3s_manager import labels
from homelab.k3s_manager.answers import EtcdMember, parse_members, parse_nodes, parse_version
from homelab.k3s_manager.diagnosis import TROUBLES, diagnose, hopeless
from homelab.k3s_manager.direct import host_in
from homelab.k3s_manager.flags import shared
from homelab.k3s_manager.installing import JoinOrder, config_text
from homelab.k3s_manager.readiness import is_member
from homelab.k3s_manager.redaction import masked
from homelab.k3s_manager.roles import assign, foresee
from homelab.kubernetes import url_at
from homelab.models import Action, K3sFacts, K3sNode, NodePlan, Past, Plan, Verdict
from homelab.settings import Role, Secret
from unit.builders import STOPPED, agent_node, k3s_node, node_config, node_facts, node_plan, servers, vm

# --- roles -------------------------------------------------------------------------------------------------------


def new(number: int, role: Role = Role.AUTO) -> NodePlan:
    """A node that is to get its VM."""
    return node_plan(Action.CREATE, node_facts(Verdict.ABSENT, number=number, config=node_config(number, role=role)))


def tagged(number: int, tag: str) -> NodePlan:
    """A node whose VM bears this tag."""
    found = vm({"tags": f"homelab;{tag}"}, node=f"pve{number}")
    return node_plan(Action.KEEP, node_facts(Verdict.JOINING, found, number=number))


FIRST = k3s_node("first")
SECOND = k3s_node("second")
THIRD = k3s_node("third")
SQLITE = k3s_node("first", is_etcd=False, is_etcd_voter=False)
SERVER, AGENT = Role.SERVER, Role.AGENT


@pytest.mark.parametrize(
    ("cluster", "count", "expected"),
    [
        ([FIRST], 3, [SERVER, SERVER, AGENT]),
        ([FIRST], 2, [SERVER, SERVER]),
        ([FIRST], 1, [AGENT]),
        ([FIRST, SECOND], 2, [SERVER, AGENT]),
        ([FIRST, SECOND, THIRD], 2, [AGENT, AGENT]),
        ([FIRST, SECOND, THIRD, k3s_node("fourth")], 1, [AGENT]),
        ([SQLITE], 3, [AGENT, AGENT, AGENT]),
        ([FIRST, agent_node("worker")], 2, [SERVER, SERVER]),
    ],
    ids=["one-server", "just-enough", "too-few", "two-servers", "three", "four", "sqlite", "agents-do-not-count"],
)
def test_new_vms_become_servers_only_where_that_makes_exactly_three_voters(
    cluster: list[K3sNode], count: int, expected: list[Role]
) -> None:
    roles = assign([new(number + 1) for number in range(count)], cluster)

    assert list(roles.items()) == [(f"pve{number + 1}", role) for number, role in enumerate(expected)]


@pytest.mark.parametrize("role", [SERVER, AGENT])
def test_a_configured_role_wins_over_what_the_vm_was(role: Role) -> None:
    was = {SERVER: agent_node("k3s-vm-pve1"), AGENT: k3s_node("k3s-vm-pve1")}[role]

    assert assign([new(1, role)], [FIRST, was])["pve1"] is role


def test_the_node_s_label_wins_over_the_tag() -> None:
    assert assign([tagged(1, "homelab-server")], [FIRST, agent_node("k3s-vm-pve1")])["pve1"] is AGENT
    assert assign([tagged(1, "homelab-agent")], [FIRST, k3s_node("k3s-vm-pve1")])["pve1"] is SERVER


def test_without_a_node_the_tag_says_what_a_vm_was() -> None:
    roles = assign([tagged(1, "homelab-agent"), tagged(2, "homelab-server"), new(3)], [FIRST])

    assert roles == {"pve1": AGENT, "pve2": SERVER, "pve3": SERVER}


@pytest.mark.parametrize(
    ("was", "others", "role"),
    [
        ("homelab-server", servers(4), SERVER),
        ("homelab-server", servers(3), AGENT),
        ("homelab-server", [SQLITE], AGENT),
        ("homelab-agent", servers(2), AGENT),
        ("", servers(2), SERVER),
    ],
)
def test_vm_that_took_a_place_and_has_not_joined_is_what_was_there_unless_that_place_is_taken(
    was: str, others: list[K3sNode], role: Role
) -> None:
    facts = replace(node_facts(Verdict.JOINING, vm({"tags": "homelab"})), past=Past(role=was))

    assert assign([node_plan(Action.KEEP, facts)], others)["pve1"] is role


def test_configured_servers_count_among_the_three() -> None:
    roles = assign([new(1), new(2, SERVER), new(3)], [FIRST])

    assert roles == {"pve1": SERVER, "pve2": SERVER, "pve3": AGENT}


def test_a_server_whose_vm_is_not_part_of_this_run_counts_too() -> None:
    assert assign([new(2)], [FIRST, k3s_node("k3s-vm-pve1")])["pve2"] is SERVER


# --- what is to become of a plan ----------------------------------------------------------------------------------


def plan_for(*nodes: NodePlan, cluster: K3sFacts) -> Plan:
    return foresee(Plan(nodes, cluster, ("one before",)))


@pytest.mark.parametrize(
    ("roles", "voters", "warned"),
    [
        ([SERVER], 1, "the cluster will have 2 voting servers: if either fails, it stands still"),
        ([SERVER], 3, "the cluster will have 4 voting servers: an even number stands no more failures than 3 do"),
        ([SERVER, SERVER], 1, ""),
        ([AGENT], 2, ""),
        ([Role.AUTO, Role.AUTO, Role.AUTO], 1, ""),
    ],
)
def test_an_even_number_of_voters_is_warned_about_before_anything_is_done(
    roles: list[Role], voters: int, warned: str
) -> None:
    nodes = [new(number, role) for number, role in enumerate(roles, start=1)]

    found = plan_for(*nodes, cluster=K3sFacts(is_wanted=True, nodes=tuple(servers(voters))))

    assert list(found.nodes) == nodes
    assert len(found.warnings) == 1 + bool(warned)
    assert found.warnings[-1].startswith(warned or "one before")


def test_a_server_that_is_made_anew_is_no_further_voter() -> None:
    again = node_plan(Action.REPLACE, node_facts(Verdict.STOPPED, vm(**STOPPED)))
    cluster = K3sFacts(is_wanted=True, nodes=(k3s_node("k3s-vm-pve1"), *servers(3)))

    assert plan_for(again, cluster=cluster).warnings == ("one before",)


def test_no_vm_is_made_to_become_a_server_of_a_cluster_without_etcd() -> None:
    cluster = K3sFacts(is_wanted=True, nodes=(SQLITE,))
    down = node_plan(
        Action.REPLACE, node_facts(Verdict.STOPPED, vm(**STOPPED), config=node_config(1, role=Role.SERVER))
    )

    first, second, third = plan_for(down, new(2, SERVER), new(3), cluster=cluster).nodes

    assert (first.action, second.action, third.action) == (Action.START, Action.NOTHING, Action.CREATE)
    assert second.problem is not None
    assert second.problem.what == "k3s-vm-pve2 cannot become a k3s server"
    assert "K3S_ROLE_2=agent" in second.problem.cure


@pytest.mark.parametrize("cluster", [K3sFacts(is_wanted=False), K3sFacts(is_wanted=True)], ids=["no-join", "no-nodes"])
def test_where_nothing_is_known_of_the_cluster_nothing_is_foreseen(cluster: K3sFacts) -> None:
    assert plan_for(new(1, SERVER), cluster=cluster) == Plan((new(1, SERVER),), cluster, ("one before",))


# --- labels -------------------------------------------------------------------------------------------------------


def test_a_node_s_zone_is_its_proxmox_node_unless_it_is_said_otherwise() -> None:
    own = node_config(1, labels=(("disk", "ssd"),))
    rack = node_config(1, labels=(("topology.kubernetes.io/zone", "rack1"),))

    assert labels.at_registration(own, "pve1") == ("topology.kubernetes.io/zone=pve1", "disk=ssd")
    assert labels.at_registration(rack, "pve1") == ("topology.kubernetes.io/zone=rack1",)


def test_of_a_member_s_labels_only_those_count_that_are_asked_for() -> None:
    asked = node_config(1, labels=(("disk", "ssd"), ("gpu", ""), ("rack", "2")))

    assert labels.lacking(asked, k3s_node("a", labels={"disk": "hdd", "rack": "2"})) == ("disk=ssd", "gpu=")
    assert labels.lacking(node_config(1), k3s_node("a")) == ()


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


# --- what servers share ------------------------------------------------------------------------------------------

UNIT = """\
[Service]
Type=notify
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStart=/usr/local/bin/k3s \\
    server \\
\t'--cluster-init' \\
\t'--disable=traefik' \\
\t'--disable' \\
\t'servicelb' \\
\t'--flannel-backend' \\
\t'host-gw' \\
\t'--disable-network-policy' \\
\t'--embedded-registry=false' \\
\t'--secrets-encryption-provider=secretbox' \\

"""


def test_token_of_the_agents_is_shared_as_a_secret_and_stands_in_the_file_of_a_server_only() -> None:
    found = shared({"/etc/rancher/k3s/config.yaml": "agent-token: canary\ndisable: traefik\n"}, "")

    assert "canary" not in repr(found)
    assert yaml.safe_load(config_text(replace(order(SERVER), shared_flags=found)))["agent-token"] == "canary"
    assert "canary" not in config_text(replace(order(AGENT), shared_flags=found))
    assert shared({"/etc/rancher/k3s/config.yaml": "agent-token:\n"}, "") == {"agent-token": None}


def test_flags_of_the_unit_are_shared_and_replace_what_the_files_say() -> None:
    files = {"/etc/rancher/k3s/config.yaml": "disable: [metrics-server]\ncluster-cidr: 10.52.0.0/16\nnode-name: a\n"}

    assert shared(files, UNIT) == {
        "disable": ["traefik", "servicelb"],
        "cluster-cidr": "10.52.0.0/16",
        "flannel-backend": "host-gw",
        "disable-network-policy": True,
        "embedded-registry": False,
        "secrets-encryption-provider": "secretbox",
    }


def test_a_later_file_replaces_a_key_or_adds_to_it() -> None:
    files = {
        "config.yaml": "disable: traefik\nflannel-backend: vxlan\n",
        "config.yaml.d/10-more.yaml": "disable+: [servicelb]\ntls-san+: [192.0.2.100]\n",
        "config.yaml.d/20-other.yaml": "flannel-backend: none\n",
        "config.yaml.d/30-empty.yaml": "",
    }

    assert shared(files, "") == {
        "disable": ["traefik", "servicelb"],
        "flannel-backend": "none",
        "tls-san": ["192.0.2.100"],
    }


def test_a_drop_in_of_the_unit_has_the_last_word() -> None:
    drop_in = "[Service]\nExecStart=\nExecStart=/usr/local/bin/k3s server --cluster-domain home.lan\n"

    assert shared({}, UNIT + drop_in) == {"cluster-domain": "home.lan"}


@pytest.mark.parametrize(
    ("files", "unit"), [({"a.yaml": "[1]"}, ""), ({"a.yaml": "a: ["}, ""), ({}, "ExecStart=k3s 'server")]
)
def test_settings_that_are_not_understood_are_not_guessed(files: dict[str, str], unit: str) -> None:
    with pytest.raises(Misunderstood, match="is not understood"):
        shared(files, unit)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("disable: traefik\nagent-token: canary: canary\n", "line 2 is not YAML"),
        ("agent-token: *canary\n", "line 1 is not YAML"),
        ("agent-token: 2026-13-13\n", "it is not YAML"),
    ],
)
def test_of_a_config_file_that_is_broken_no_token_is_shown(text: str, why: str) -> None:
    with pytest.raises(Misunderstood) as error:
        shared({"config.yaml": text}, "")

    assert error.value.why == why
    assert "canary" not in "".join(traceback.format_exception(error.value))


# --- what a member is told ---------------------------------------------------------------------------------------

TOKEN = "K10" + "ab" * 32 + "::server:0123456789abcdef"


def order(role: Role) -> JoinOrder:
    shared: dict[str, object] = {"disable": ["servicelb"], "tls-san": ["192.0.2.100"]}
    return JoinOrder("k3s-vm-a", role, "https://192.0.2.10:6443", Secret(TOKEN), "v1.33.4+k3s1", "#!/bin/sh\n", shared)


def test_a_server_joins_with_token_name_and_the_settings_that_servers_share() -> None:
    assert yaml.safe_load(config_text(order(SERVER))) == {
        "server": "https://192.0.2.10:6443",
        "token": TOKEN,
        "node-name": "k3s-vm-a",
        "disable": ["servicelb"],
        "tls-san": ["192.0.2.100"],
    }


def test_labels_are_set_at_registration_whatever_the_role() -> None:
    labelled = replace(order(AGENT), labels=("topology.kubernetes.io/zone=pve1", "disk=ssd"))

    assert yaml.safe_load(config_text(labelled))["node-label"] == ["topology.kubernetes.io/zone=pve1", "disk=ssd"]


def test_an_agent_is_not_told_what_only_servers_understand() -> None:
    assert set(yaml.safe_load(config_text(order(AGENT)))) == {"server", "token", "node-name"}


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("192.0.2.10", "https://192.0.2.10:6443"),
        ("k3s.lan", "https://k3s.lan:6443"),
        ("fd00::1", "https://[fd00::1]:6443"),
    ],
)
def test_server_is_named_by_a_url_that_its_address_allows(address: str, url: str) -> None:
    assert url_at(address) == url
    assert host_in(url) == address


def test_each_role_has_its_own_service() -> None:
    assert (order(SERVER).unit, order(AGENT).unit) == ("k3s", "k3s-agent")


def test_an_order_does_not_show_its_token() -> None:
    assert TOKEN not in repr(order(SERVER))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"k3s agent --token {TOKEN} failed", "k3s agent --token *** failed"),
        (f"token: {TOKEN}", "token: ***"),
        ("bootstrap token abcdef.0123456789abcdef expired", "bootstrap token *** expired"),
        ("k3s agent --token hunter2 --server x", "k3s agent --token *** --server x"),
        ("k3s agent --token=hunter2 --server x", "k3s agent --token=*** --server x"),
        ("k3s server --agent-token hunter2", "k3s server --agent-token ***"),
        ("failed to get CA certs from 192.0.2.10", "failed to get CA certs from 192.0.2.10"),
    ],
)
def test_whatever_looks_like_a_token_is_not_shown(text: str, shown: str) -> None:
    assert masked(text) == shown
