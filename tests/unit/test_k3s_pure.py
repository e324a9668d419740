"""The pure part of joining: roles, what a failing join's log says, what kubectl prints, what a member is told."""

from __future__ import annotations

import traceback
from dataclasses import replace

import pytest
import yaml

from homelab.errors import Misunderstood
from homelab.k3s_manager import labels
from homelab.k3s_manager.direct import host_in
from homelab.k3s_manager.flags import shared
from homelab.k3s_manager.installing import JoinOrder, config_text
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
