"""What state each node's VM is found in, from what Proxmox and k3s show; `cannot tell` is never `no`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from homelab.errors import Problem
from homelab.health_checker import why_not_member
from homelab.models import (
    ClusterStatus,
    K3sFacts,
    Verdict,
)
from unit.builders import DAY_S, OTHER_UUID, PAUSED, STOPPED, agent_node, k3s_cluster, node_config, vm
from unit.observing import NO_ANSWER, QUORATE, observe, observed
from unit.proxmox_reads import NOW, ProxmoxReads, start_task

# --- running -----------------------------------------------------------------------------------------------------


def test_a_running_vm_is_healthy_where_no_cluster_is_asked_for() -> None:
    found = observed(ProxmoxReads([vm()]))

    assert (found.verdict, found.vm_title) == (Verdict.HEALTHY, "VM k3s-vm-pve1 (vmid=107)")


def test_for_a_healthy_vm_nothing_but_list_status_and_config_is_read() -> None:
    pve = ProxmoxReads([vm()])
    observe(pve, node_config())

    assert pve.asked == ["resources", "vm_status pve1 107", "vm_config pve1 107"]


def test_a_running_vm_that_is_being_backed_up_is_healthy() -> None:
    assert observed(ProxmoxReads([vm(lock="backup")])).verdict is Verdict.HEALTHY


def test_a_running_ready_member_is_healthy() -> None:
    assert observed(ProxmoxReads([vm()]), k3s=k3s_cluster(agent_node("k3s-vm-pve1"))).verdict is Verdict.HEALTHY


@pytest.mark.parametrize(
    ("k3s", "reason"),
    [
        (k3s_cluster(), "not in the cluster yet"),
        (k3s_cluster(agent_node("k3s-vm-pve1", is_ready=False)), "is not Ready"),
        (k3s_cluster(agent_node("k3s-vm-pve1", system_uuid=OTHER_UUID)), "is another machine"),
        (K3sFacts(is_wanted=True, problem=Problem("k3s cannot be asked", "no route", "")), "no route"),
    ],
    ids=["no-node", "not-ready", "another-machine", "cannot-be-asked"],
)
def test_a_running_vm_that_is_no_proven_ready_member_is_joining(k3s: K3sFacts, reason: str) -> None:
    found = observed(ProxmoxReads([vm()]), k3s=k3s)

    assert found.verdict is Verdict.JOINING
    assert reason in found.reason


def test_membership_goes_by_the_name_in_lower_case() -> None:
    assert why_not_member(vm({"name": "K3s-VM-pve1"}), k3s_cluster(agent_node("k3s-vm-pve1"))) == ""


def test_a_vm_on_another_node_is_found_there_and_healthy() -> None:
    found = observed(ProxmoxReads([vm({"name": "k3s-vm-pve1"}, node="pve2")]))

    assert (found.verdict, found.found.node) == (Verdict.HEALTHY, "pve2")


# --- down --------------------------------------------------------------------------------------------------------


def test_a_stopped_vm_is_stopped_with_its_power_history() -> None:
    found = observed(ProxmoxReads([vm(**STOPPED)]))

    assert (found.verdict, found.reason, found.guards) == (Verdict.STOPPED, "VM is stopped", ())
    assert found.power.host_uptime_s == 30 * DAY_S
    assert found.power.host_boot_time == NOW - 30 * DAY_S
    assert found.power.last_vm_start_time == NOW - DAY_S
    assert not found.power.host_booted_after_vm


def test_a_paused_vm_is_paused_and_its_last_start_is_told_by_its_uptime() -> None:
    found = observed(ProxmoxReads([vm(**PAUSED, uptime_s=3600)]))

    assert (found.verdict, found.reason) == (Verdict.PAUSED, "VM is paused")
    assert found.power.last_vm_start_time == NOW - 3600


@pytest.mark.parametrize("down", [STOPPED, PAUSED], ids=["stopped", "paused"])
def test_after_a_boot_of_the_host_the_last_run_of_a_vm_lies_before_it(down: Mapping[str, Any]) -> None:
    found = observed(ProxmoxReads([vm(**{**down, "uptime_s": DAY_S})], uptime_s=1200))

    assert found.power.host_booted_after_vm


def test_only_starts_that_went_well_count_as_the_last_start() -> None:
    rows = [
        start_task(NOW - 10, exit_status="start failed: exit code 1"),
        start_task(NOW - 20, end_time=None, exit_status=""),
        start_task(NOW - 30, kind="qmstop"),
        start_task(NOW - 40, exit_status="WARNINGS: 1"),
        start_task(NOW - 50),
    ]

    assert observed(ProxmoxReads([vm(**STOPPED)], task_rows=rows)).power.last_vm_start_time == NOW - 40


def test_starts_of_an_earlier_vm_with_the_same_vmid_do_not_count() -> None:
    made = vm({"meta": f"creation-qemu=10.0.13,ctime={NOW - 60}"}, **STOPPED)

    assert observed(ProxmoxReads([made], task_rows=[start_task(NOW - 90)])).power.last_vm_start_time is None
    assert observed(ProxmoxReads([made], task_rows=[start_task(NOW - 60)])).power.last_vm_start_time == NOW - 60


def test_a_vm_without_any_start_on_record_counts_as_run_before_the_boot() -> None:
    found = observed(ProxmoxReads([vm(**STOPPED)], task_rows=[]))

    assert found.power.last_vm_start_time is None
    assert found.power.host_booted_after_vm


@pytest.mark.parametrize("down", [STOPPED, PAUSED], ids=["stopped", "paused"])
def test_an_uptime_that_cannot_be_read_is_not_guessed(down: Mapping[str, Any]) -> None:
    found = observed(ProxmoxReads([vm(**down)], failing={"host": NO_ANSWER, "host_time": NO_ANSWER}))

    assert (found.power.host_uptime_s, found.power.host_boot_time) == (None, None)
    assert found.power.host_booted_after_vm


def test_a_vm_that_is_down_comes_with_every_guard_of_proxmox_and_k3s() -> None:
    pve = ProxmoxReads([vm({"protection": "1"}, **STOPPED)], failing={"has_snapshots": NO_ANSWER})

    found = observed(pve, k3s=K3sFacts(is_wanted=True, problem=Problem("k3s cannot be asked", "no route", "")))

    assert [guard.sentence for guard in found.guards] == [
        "its protection is on",
        "its snapshots cannot be read",
        "k3s cannot be asked, and this VM is or may be a member",
    ]


@pytest.mark.parametrize(
    "unread", ["has_snapshots", "own_firewall", "vm_acl_paths", "replication_jobs", "present_config"]
)
def test_what_hangs_on_a_vm_and_cannot_be_read_guards_it(unread: str) -> None:
    (guard,) = observed(ProxmoxReads([vm(**STOPPED)], failing={unread: NO_ANSWER})).guards

    assert "cannot be read" in guard.sentence


def test_a_disk_that_is_to_be_detached_at_the_next_start_guards_its_vm() -> None:
    (guard,) = observed(ProxmoxReads([vm(**STOPPED)], until_start={"scsi1": "tank:vm-107-disk-1,size=18T"})).guards

    assert guard.sentence == "it has the data disk scsi1 (tank:vm-107-disk-1)"


# --- unfinished --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [{}, STOPPED, PAUSED, {**STOPPED, "lock": "create"}])
def test_a_vm_that_carries_the_tag_is_unfinished_whatever_its_power(power: Mapping[str, Any]) -> None:
    found = observed(ProxmoxReads([vm({"tags": "homelab;homelab-unfinished"}, **power)]))

    assert found.verdict is Verdict.UNFINISHED


def test_an_unfinished_vm_whose_start_tasks_cannot_be_read_is_unknown_not_never_booted() -> None:
    pve = ProxmoxReads([vm({"tags": "homelab-unfinished"}, **STOPPED)], failing={"tasks": NO_ANSWER})

    assert observed(pve).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("rows", "has_never_run"),
    [
        ([("qmcreate", -10)], True),
        ([("qmcreate", -10), ("qmconfig", 30)], True),
        ([("qmcreate", -10), ("qmstart", 30)], False),
        ([("qmcreate", -10), ("qmigrate", 30)], False),
        ([("qmcreate", -7200), ("qmdestroy", -3600)], False),
        ([("qmconfig", 30)], False),
        ([], False),
    ],
    ids=["made", "made-and-changed", "started", "migrated", "made-elsewhere", "rotated", "empty"],
)
def test_that_a_vm_never_ran_is_told_by_the_task_that_made_it_and_no_start_since(
    rows: list[tuple[str, int]], has_never_run: bool
) -> None:
    made_at = NOW - 3600
    found = vm({"tags": "homelab-unfinished", "meta": f"creation-qemu=10.0.13,ctime={made_at}"}, **STOPPED)
    tasks = [start_task(made_at + after_s, kind=kind) for kind, after_s in rows]

    assert observed(ProxmoxReads([found], task_rows=tasks)).power.has_never_run is has_never_run


# --- unknown -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "qmpstatus", ["io-error", "internal-error", "guest-panicked", "prelaunch", "suspended", "finish-migrate"]
)
def test_a_vm_in_any_other_state_is_unknown_with_a_command_that_shows_more(qmpstatus: str) -> None:
    found = observed(ProxmoxReads([vm(qmpstatus=qmpstatus)]))

    assert found.verdict is Verdict.UNKNOWN
    assert qmpstatus in found.reason
    assert "qm status 107 --verbose" in found.cure
    assert "scripts/delete_vm.py pve1 107" in found.cure


def test_a_state_that_proxmox_does_not_detail_is_unknown() -> None:
    found = observed(ProxmoxReads([vm(status="unknown", qmpstatus="")]))

    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "its state is unknown")


@pytest.mark.parametrize(
    "power",
    [STOPPED, PAUSED, {"qmpstatus": "prelaunch"}],
    ids=["stopped", "paused", "backup-of-a-stopped-vm"],
)
def test_a_locked_vm_that_does_not_run_is_unknown(power: Mapping[str, Any]) -> None:
    found = observed(ProxmoxReads([vm(**power, lock="backup")]))

    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "it is locked (backup)")
    assert "qm unlock 107" in found.cure


def test_the_pools_that_can_be_seen_are_noted() -> None:
    reads = ProxmoxReads([vm()], pools=frozenset({"homelab-run"}))
    assert observe(reads, node_config()).pools == {"homelab-run"}


@pytest.mark.parametrize("tags", ["homelab", "homelab;homelab-unfinished"])
def test_a_vm_on_which_a_task_runs_is_unknown(tags: str) -> None:
    pve = ProxmoxReads([vm({"tags": tags}, **STOPPED)], active=[start_task(NOW, kind="vzdump", exit_status="")])

    found = observed(pve)

    assert found.verdict is Verdict.UNKNOWN
    assert "vzdump" in found.reason
    assert "--source active" in found.cure


@pytest.mark.parametrize("cluster", [replace(QUORATE, is_quorate=False), None], ids=["no-quorum", "not-asked"])
def test_without_quorum_a_vm_that_is_down_is_unknown(cluster: ClusterStatus | None) -> None:
    found = observed(ProxmoxReads([vm(**STOPPED)]), cluster=cluster)

    assert found.verdict is Verdict.UNKNOWN
    assert "VM is stopped" in found.reason
    assert "no quorum" in found.reason
    assert "pvecm status" in found.cure


def test_without_quorum_a_running_vm_is_still_healthy() -> None:
    assert observed(ProxmoxReads([vm()]), cluster=None).verdict is Verdict.HEALTHY


def test_a_vm_that_is_down_on_another_node_is_left_alone() -> None:
    found = observed(ProxmoxReads([vm({"name": "k3s-vm-pve1"}, node="pve2", **STOPPED)]))

    assert found.verdict is Verdict.UNKNOWN
    assert found.reason == "VM is stopped, and it is on pve2, not on pve1: left alone"
    assert "qm migrate 107 pve1" in found.cure


@pytest.mark.parametrize("read", ["vm_status", "vm_config", "active_tasks"])
def test_a_vm_that_cannot_be_asked_is_unknown(read: str) -> None:
    found = observed(ProxmoxReads([vm(**STOPPED)], failing={read: NO_ANSWER}))

    assert (found.verdict, found.cure) == (Verdict.UNKNOWN, "is it switched on?")
    assert "connection refused" in found.reason


def test_a_vm_that_goes_away_while_it_is_looked_at_is_unknown_not_absent() -> None:
    assert observed(ProxmoxReads([vm()], vanished=frozenset({107}))).verdict is Verdict.UNKNOWN


def test_when_the_vms_cannot_be_listed_no_vm_is_absent() -> None:
    found = observed(ProxmoxReads(failing={"resources": NO_ANSWER}))

    assert found.verdict is Verdict.UNKNOWN
    assert "cannot be listed" in found.reason
    assert found.cure == "is it switched on?"


def test_one_node_in_trouble_does_not_hide_the_others() -> None:
    first, second = vm(**STOPPED), vm(node="pve2", vmid=108)

    found = observe(
        ProxmoxReads([first, second]),
        node_config(1),
        node_config(2),
        unreached={"pve1": Problem("pve1 does not answer", "timed out", "is it switched on?")},
    )

    assert [node.verdict for node in found.nodes] == [Verdict.UNREACHABLE, Verdict.HEALTHY]
    assert found.nodes[0].reason == "pve1 does not answer: timed out"
    assert found.nodes[0].cure == "is it switched on?"
