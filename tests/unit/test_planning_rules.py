"""The rules about VMs that are down."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homelab.models import Action, NodeFacts, PowerHistory, Verdict
from homelab.settings import StoppedVm
from unit.builders import (
    LONG_UP,
    PAUSED,
    STOPPED,
    node_facts,
    stopped,
    vm,
)
from unit.planned import GUARDED, JUST_BOOTED, POWER_CUT, plan_of, planned

# --- rule 1: kept by choice, and hosts that have just come up ----------------------------------------------------


@pytest.mark.parametrize(
    ("node", "policy", "said"),
    [
        (stopped(), {"stopped_vm": StoppedVm.KEEP}, "STOPPED_VM=keep"),
        (stopped(values={"tags": "homelab;homelab-keep"}), {}, "homelab-keep"),
        (stopped(values={"tags": "homelab-keep"}, power=JUST_BOOTED), {}, "homelab-keep"),
        (stopped(values={"tags": "homelab-keep"}, power=POWER_CUT), {}, "homelab-keep"),
        (stopped(values={"tags": "homelab-keep"}, guards=GUARDED), {}, "homelab-keep"),
    ],
    ids=["policy", "tag", "tag-after-boot", "tag-after-power-cut", "tag-and-guards"],
)
def test_a_vm_kept_by_choice_stays_down_and_that_is_no_problem(
    node: NodeFacts, policy: dict[str, Any], said: str
) -> None:
    decided = plan_of(node, **policy)

    assert (decided.action, decided.problem) == (Action.KEEP, None)
    assert said in decided.reason


NO_UPTIME = PowerHistory()


@pytest.mark.parametrize(
    ("power", "said"),
    [(JUST_BOOTED, "up for only 8 min"), (NO_UPTIME, "its uptime cannot be read")],
    ids=["8-minutes", "unread"],
)
def test_on_a_host_just_up_a_vm_that_starts_by_itself_is_left_to_do_so(power: PowerHistory, said: str) -> None:
    decided = plan_of(stopped(power=power))

    assert decided.action is Action.KEEP
    assert decided.problem is not None
    assert said in decided.problem.why
    assert "10 minutes" in decided.problem.cure


@pytest.mark.parametrize("power", [JUST_BOOTED, NO_UPTIME], ids=["8-minutes", "unread"])
def test_on_a_host_just_up_a_vm_that_does_not_start_by_itself_is_started_and_not_deleted(power: PowerHistory) -> None:
    decided = plan_of(stopped(values={"onboot": "0"}, power=power))

    assert (decided.action, decided.may_replace, decided.problem) == (Action.START, False, None)


@pytest.mark.parametrize(("uptime_s", "action"), [(599, Action.KEEP), (600, Action.START)])
def test_a_host_is_just_up_for_ten_minutes(uptime_s: int, action: Action) -> None:
    assert plan_of(stopped(power=replace(POWER_CUT, host_uptime_s=uptime_s))).action is action


# --- rule 2: power cut -------------------------------------------------------------------------------------------


def test_a_vm_that_ran_before_its_host_booted_is_started_and_replaced_only_if_it_will_not_run() -> None:
    decided = plan_of(stopped(power=POWER_CUT))

    assert (decided.action, decided.may_replace, decided.problem) == (Action.START, True, None)


@pytest.mark.parametrize(
    "power",
    [replace(LONG_UP, last_vm_start_time=None), replace(LONG_UP, host_boot_time=None)],
    ids=["start-unknown", "boot-unknown"],
)
def test_where_it_cannot_be_told_whether_the_host_booted_since_the_vm_is_started(power: PowerHistory) -> None:
    assert plan_of(stopped(power=power)).action is Action.START


def test_two_vms_down_at_once_are_both_started_and_none_is_deleted() -> None:
    paused = node_facts(Verdict.PAUSED, vm(node="pve2", vmid=108, **PAUSED), number=2)

    assert [node.action for node in planned(stopped(), paused)] == [Action.START, Action.START]


@pytest.mark.parametrize("power", [STOPPED, PAUSED, {**STOPPED, "lock": "backup"}], ids=["stopped", "paused", "locked"])
def test_a_vm_that_is_down_counts_among_those_whatever_keeps_it_so(power: dict[str, Any]) -> None:
    elsewhere = node_facts(Verdict.UNKNOWN, vm(node="pve3", vmid=108, **power), number=2)

    assert planned(stopped(), elsewhere)[0].action is Action.START


def test_a_vm_kept_by_choice_counts_among_those_that_are_down() -> None:
    assert planned(stopped(values={"tags": "homelab-keep"}), stopped(2))[1].action is Action.START


def test_a_guarded_vm_is_started_after_a_power_cut_but_not_replaced_if_that_fails() -> None:
    decided = plan_of(stopped(power=POWER_CUT, guards=GUARDED))

    assert (decided.action, decided.may_replace, decided.problem) == (Action.START, False, None)


# --- rule 3: STOPPED_VM=start ------------------------------------------------------------------------------------


def test_by_stopped_vm_start_it_is_started_and_replaced_only_if_that_fails() -> None:
    decided = plan_of(stopped(), stopped_vm=StoppedVm.START)

    assert (decided.action, decided.may_replace) == (Action.START, True)
    assert "STOPPED_VM=start" in decided.reason


# --- rule 5: by hand, within limits ------------------------------------------------------------------------------


def test_without_replacements_left_it_is_started_instead() -> None:
    decided = plan_of(stopped(), max_replacements=0)

    assert (decided.action, decided.may_replace) == (Action.START, False)
    assert "MAX_REPLACEMENTS=0" in decided.reason
