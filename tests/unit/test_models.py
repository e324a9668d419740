"""What Proxmox' configs say, and what follows from plain facts."""

from __future__ import annotations

import pytest

from homelab.errors import ConfigError, HomelabError, Problem
from homelab.models import Action, K3sFacts, NodeFacts, Outcome, Status, Verdict, VmConfig, property_string
from unit.builders import k3s_cluster, k3s_node, node_facts, node_plan, stopped, vm


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("local:vm-107-disk-0,size=50G", {"": "local:vm-107-disk-0", "size": "50G"}),
        ("order=scsi0;ide2", {"order": "scsi0;ide2"}),
        ("import-from=a=b", {"import-from": "a=b"}),
        ("", {}),
    ],
)
def test_a_property_string_is_split_into_its_keys(text: str, parts: dict[str, str]) -> None:
    assert property_string(text) == parts


@pytest.mark.parametrize("tags", ["homelab;homelab-server", "homelab,homelab-server", "homelab homelab-server; "])
def test_tags_are_read_however_they_are_separated(tags: str) -> None:
    assert VmConfig({"tags": tags}).tags == {"homelab", "homelab-server"}


def test_an_empty_config_has_nothing() -> None:
    empty = VmConfig({})

    assert (empty.name, empty.tags, empty.uuid, empty.drives, empty.boot_drives) == ("", frozenset(), "", (), ())
    assert empty.created_at == 0
    assert (empty.is_template, empty.is_protected, empty.starts_on_boot) == (False, False, False)


def test_the_uuid_is_compared_in_lower_case() -> None:
    assert VmConfig({"smbios1": "uuid=0F9F7A3E-1C1D,manufacturer=x"}).uuid == "0f9f7a3e-1c1d"


def test_macs_are_those_of_the_nics_in_upper_case() -> None:
    config = VmConfig(
        {"net0": "virtio=bc:24:11:00:01:07,bridge=vmbr0", "net1": "virtio,bridge=vmbr1", "netmask": "BC:24:11:00:01:08"}
    )

    assert config.macs == {"net0": "BC:24:11:00:01:07"}


def test_a_paused_vm_does_not_run_although_its_status_says_running() -> None:
    assert vm().is_running
    assert not vm(qmpstatus="paused").is_running


@pytest.mark.parametrize(
    ("tags", "is_ours"), [("homelab", True), ("homelab-unfinished", True), ("web;homelab2", False)]
)
def test_a_vm_is_ours_by_its_tag(tags: str, is_ours: bool) -> None:
    assert vm({"tags": tags}).is_ours is is_ours


@pytest.mark.parametrize(
    ("action", "facts", "ends_running"),
    [
        (Action.CREATE, node_facts(Verdict.ABSENT), True),
        (Action.REPLACE, stopped(), True),
        (Action.START, stopped(), True),
        (Action.FINISH, node_facts(Verdict.UNFINISHED, vm()), True),
        (Action.KEEP, node_facts(Verdict.HEALTHY, vm()), True),
        (Action.KEEP, stopped(), False),
        (Action.NOTHING, node_facts(Verdict.HEALTHY, vm()), False),
        (Action.NOTHING, node_facts(Verdict.UNREACHABLE), False),
    ],
    ids=["created", "replaced", "started", "finished", "healthy", "kept-off", "disabled", "unreachable"],
)
def test_vm_that_runs_in_the_end_is_one_that_is_made_started_or_kept_running(
    action: Action, facts: NodeFacts, ends_running: bool
) -> None:
    assert node_plan(action, facts).ends_running is ends_running


def test_a_voter_is_healthy_only_while_its_node_is_ready() -> None:
    cluster = k3s_cluster(k3s_node("a"), k3s_node("b", is_ready=False), k3s_node("c", is_etcd_voter=False))

    assert [node.name for node in cluster.voters] == ["a", "b"]
    assert [node.name for node in cluster.healthy_voters] == ["a"]


def test_a_cluster_is_known_only_when_it_was_asked_for_and_answered() -> None:
    assert k3s_cluster().is_known
    assert not K3sFacts(is_wanted=True, problem=Problem("k3s cannot be asked", "no route", "look")).is_known
    assert not K3sFacts(is_wanted=False).is_known


def test_a_failure_in_the_report_says_what_why_and_what_to_do() -> None:
    outcome = Outcome.failed("pve1", Problem("storage is full", "1 GiB is free", "free some space"))

    assert outcome == Outcome("pve1", Status.FAILED, "storage is full", "1 GiB is free", "free some space")


def test_an_error_shows_its_what_and_why_and_keeps_its_cure_apart() -> None:
    error = HomelabError("no route", "timed out", "is it switched on?")

    assert str(error) == "no route: timed out"
    assert (error.what, error.why, error.cure) == ("no route", "timed out", "is it switched on?")
    assert str(HomelabError("no route")) == "no route"


def test_a_configuration_error_holds_every_problem() -> None:
    problems = [Problem("A", "is empty", "set A"), Problem("B", "is no number", "set B")]

    assert ConfigError(problems).problems == tuple(problems)
    assert str(ConfigError(problems)) == "configuration: A: is empty; B: is no number"
