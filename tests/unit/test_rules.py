"""What is unattended, once a day, or named by a person: the later rules for VMs that are down, and --replace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homelab.errors import Problem
from homelab.models import Action, CarriedOver, Guard, NodeFacts, NodePlan, PowerHistory, Rule, TaskRow, Verdict
from homelab.settings import ApiToken, Secret, StoppedVm, Wishes
from homelab.vm_manager import plan
from unit.builders import DAY_S, LONG_UP, NOW, PAUSED, config, facts, node_config, node_facts, past, stopped, vm

CRON = Wishes(is_unattended=True)
NAMED = Wishes(replaced=frozenset({1}))
FORCED = Wishes(replaced=frozenset({1}), forced=frozenset({1}))
POWER_CUT = replace(LONG_UP, host_boot_time=2_000_000)
JUST_BOOTED = replace(POWER_CUT, host_uptime_s=480)
SNAPSHOT = Guard("it has snapshots", "qm delsnapshot 107 NAME")
NO_ROOM = Problem("storage tank is full", "1 GiB is free", "free some space on it")
TOKEN = ApiToken("root@pam", "homelab", Secret("canary"))


def switched(kind: str, user: str = "me@pve", token_id: str = "", *, at: int = 1_600_000) -> PowerHistory:
    """A long-running host, and the newest finished task about the VM's power."""
    task = TaskRow("UPID:", kind, "107", user, at, at + 1, "OK", token_id)
    return replace(LONG_UP, last_switching=task)


def planned(*nodes: NodeFacts, wishes: Wishes = CRON, **policy: Any) -> tuple[NodePlan, ...]:
    wanted = config(*(node.config for node in nodes), wishes=wishes, **policy)
    return plan(replace(wanted, api=replace(wanted.api, token=TOKEN)), facts(*nodes)).nodes


def plan_of(node: NodeFacts, wishes: Wishes = CRON, **policy: Any) -> NodePlan:
    """The plan for this node beside another one that is healthy."""
    beside = node_facts(Verdict.HEALTHY, vm(node="pve2", vmid=108), number=2)
    return planned(node, beside, wishes=wishes, **policy)[0]


def settled(verdict: Verdict = Verdict.JOINING, **changes: Any) -> NodeFacts:
    """A VM that a person may have replaced, running unless something else is said."""
    return node_facts(verdict, changes.pop("found", vm()), **{"is_settled": True, **changes})


# --- rule 4: unattended ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("down", [stopped(), node_facts(Verdict.PAUSED, vm(**PAUSED))], ids=["stopped", "paused"])
def test_unattended_a_vm_is_started_first_and_not_replaced_if_that_fails(down: NodeFacts) -> None:
    decided = plan_of(down)

    assert (decided.action, decided.rule, decided.may_replace) == (Action.START, Rule.FIRST_STRIKE, False)
    assert decided.problem is None


@pytest.mark.parametrize(
    ("ago_s", "action"), [(60, Action.REPLACE), (DAY_S - 1, Action.REPLACE), (DAY_S, Action.START)]
)
def test_down_again_within_a_day_of_an_unattended_start_it_is_replaced(ago_s: int, action: Action) -> None:
    decided = plan_of(stopped(past=past(struck_at=NOW - ago_s)))

    assert decided.action is action
    if action is Action.REPLACE:
        assert decided.rule is Rule.SECOND_STRIKE
        assert "again, within 24 h of an unattended start" in decided.reason


def test_a_strike_of_the_vm_that_was_replaced_since_does_not_count() -> None:
    then = past(struck_at=NOW - 7200, replaced_at=NOW - 3600)

    assert plan_of(stopped(past=then)).rule is Rule.FIRST_STRIKE


@pytest.mark.parametrize("kind", ["qmstop", "qmshutdown"])
@pytest.mark.parametrize(("user", "token_id"), [("me@pve", ""), ("root@pam", ""), ("root@pam", "terraform")])
def test_a_vm_that_somebody_else_switched_off_stays_off_and_that_is_no_problem(
    kind: str, user: str, token_id: str
) -> None:
    decided = plan_of(stopped(power=switched(kind, user, token_id), past=past(struck_at=NOW - 60)))

    assert (decided.action, decided.rule, decided.problem) == (Action.KEEP, Rule.PARKED, None)
    assert f"parked: {kind} by {user}" in decided.reason


@pytest.mark.parametrize(
    ("power", "then"),
    [
        (LONG_UP, past()),
        (switched("qmstart"), past()),
        (switched("qmstop", "root@pam", "homelab"), past()),
        (switched("qmstop", "root@pam"), past(replacing=CarriedOver(107))),
    ],
    ids=["from-inside", "started-since", "our-token", "our-replacement"],
)
def test_a_vm_that_nobody_else_switched_off_is_not_parked(power: PowerHistory, then: Any) -> None:
    assert plan_of(stopped(power=power, past=then)).rule is Rule.FIRST_STRIKE


def test_what_comes_before_rule_four_comes_before_a_parked_vm() -> None:
    parked = switched("qmstop")
    after_the_cut = replace(parked, host_boot_time=2_000_000)

    assert plan_of(stopped(power=after_the_cut)).rule is Rule.POWER_CUT
    assert plan_of(stopped(power=replace(parked, host_uptime_s=60))).rule is Rule.GRACE
    assert plan_of(stopped(power=parked), stopped_vm=StoppedVm.START).rule is Rule.START
    assert plan_of(stopped(power=parked), stopped_vm=StoppedVm.KEEP).rule is Rule.CHOICE


@pytest.mark.parametrize(
    "beside",
    [
        stopped(2, {"tags": "homelab;homelab-keep"}),
        stopped(2, config=replace(node_config(2), is_enabled=False)),
    ],
    ids=["tag", "disabled"],
)
def test_unattended_a_vm_that_is_down_by_choice_is_no_sign_of_a_power_cut(beside: NodeFacts) -> None:
    assert planned(stopped(power=switched("qmstop")), beside)[0].rule is Rule.PARKED
    assert planned(stopped(), beside)[0].rule is Rule.FIRST_STRIKE
    assert planned(stopped(), beside, wishes=Wishes())[0].rule is Rule.POWER_CUT
    assert planned(stopped(power=switched("qmstop")), beside, stopped(3))[0].rule is Rule.POWER_CUT


def test_by_hand_a_vm_that_somebody_switched_off_is_replaced() -> None:
    decided = plan_of(stopped(power=switched("qmstop")), Wishes())

    assert (decided.action, decided.rule) == (Action.REPLACE, Rule.BY_HAND)


def test_unattended_a_guarded_vm_is_started_each_time_and_never_replaced() -> None:
    first = plan_of(stopped(guards=(SNAPSHOT,)))
    second = plan_of(stopped(guards=(SNAPSHOT,), past=past(struck_at=NOW - 60)))

    assert (first.action, second.action) == (Action.START, Action.START)
    assert second.problem is not None
    assert "it has snapshots" in second.problem.why


# --- rule 6: once in 24 h ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wishes", [Wishes(), CRON], ids=["by-hand", "cron"])
def test_a_vm_is_not_replaced_twice_in_a_day_but_held(wishes: Wishes) -> None:
    then = past(replaced_at=NOW - 3600, struck_at=NOW - 1800)

    decided = plan_of(stopped(past=then), wishes)

    assert (decided.action, decided.rule) == (Action.NOTHING, Rule.HELD)
    assert decided.problem is not None
    assert decided.problem.what == "VM k3s-vm-pve1 (vmid=107) is held"
    assert "replaced less than 24 h ago" in decided.problem.why
    assert "--replace pve1" in decided.problem.cure


def test_times_that_lie_ahead_since_a_clock_was_set_back_delete_nothing() -> None:
    assert plan_of(stopped(past=past(struck_at=NOW + 60))).rule is Rule.FIRST_STRIKE
    assert plan_of(stopped(past=past(replaced_at=NOW + 60)), Wishes()).rule is Rule.HELD
    assert plan_of(stopped(past=past(struck_at=NOW - 60, replaced_at=NOW + 60))).rule is Rule.FIRST_STRIKE


def test_after_a_day_it_may_be_replaced_again() -> None:
    assert plan_of(stopped(past=past(replaced_at=NOW - DAY_S)), Wishes()).action is Action.REPLACE


@pytest.mark.parametrize(
    ("power", "policy"), [(POWER_CUT, {}), (LONG_UP, {"stopped_vm": StoppedVm.START})], ids=["power-cut", "start"]
)
def test_a_vm_that_was_just_replaced_is_started_by_the_other_rules_but_not_replaced_if_that_fails(
    power: PowerHistory, policy: dict[str, Any]
) -> None:
    decided = plan_of(stopped(power=power, past=past(replaced_at=NOW - 60)), Wishes(), **policy)

    assert (decided.action, decided.may_replace) == (Action.START, False)


# --- named by a person -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "node",
    [
        settled(),
        settled(Verdict.HEALTHY),
        settled(Verdict.UNKNOWN, found=vm(qmpstatus="io-error")),
        settled(Verdict.PAUSED, found=vm(**PAUSED)),
        stopped(is_settled=True, past=past(replaced_at=NOW - 60)),
        stopped(is_settled=True, power=switched("qmstop")),
        stopped(is_settled=True, power=POWER_CUT),
    ],
    ids=["joining", "healthy", "io-error", "paused", "held", "parked", "power-cut"],
)
def test_a_vm_that_a_person_names_is_replaced_whatever_its_state(node: NodeFacts) -> None:
    decided = plan_of(node, NAMED, max_replacements=0)

    assert (decided.action, decided.rule, decided.problem) == (Action.REPLACE, Rule.ASKED, None)


@pytest.mark.parametrize(
    ("node", "action", "reason", "cure"),
    [
        (settled(guards=(SNAPSHOT,)), Action.KEEP, "it has snapshots", "qm delsnapshot"),
        (stopped(is_settled=True, guards=(SNAPSHOT,)), Action.NOTHING, "it has snapshots", "qm delsnapshot"),
        (settled(found=vm({"tags": "homelab-keep"})), Action.KEEP, "the tag homelab-keep", "--force-replace pve1"),
        (stopped(is_settled=True, power=JUST_BOOTED), Action.NOTHING, "up for only 8 min", "--force-replace pve1"),
        (settled(is_settled=False, reason="no quorum", cure="look"), Action.KEEP, "no quorum", "look"),
        (stopped(reason="a task is running", cure="wait"), Action.NOTHING, "a task is running", "wait"),
        (
            settled(config=node_config(is_enabled=False)),
            Action.NOTHING,
            "NODE_ENABLED_1=0",
            "set NODE_ENABLED_1=1",
        ),
    ],
    ids=["guard", "guard-down", "keep", "grace", "no-quorum", "task", "disabled"],
)
def test_what_forbids_that_is_said_with_its_cure_and_nothing_is_done(
    node: NodeFacts, action: Action, reason: str, cure: str
) -> None:
    decided = plan_of(node, NAMED)

    assert decided.action is action
    assert decided.problem is not None
    assert decided.problem.what == "VM k3s-vm-pve1 (vmid=107) is not replaced"
    assert reason in decided.problem.why
    assert cure in decided.problem.cure


@pytest.mark.parametrize(
    "node",
    [settled(found=vm({"tags": "homelab-keep"})), stopped(is_settled=True, power=JUST_BOOTED)],
    ids=["keep", "grace"],
)
def test_force_goes_over_the_tag_and_the_time_after_a_boot(node: NodeFacts) -> None:
    assert plan_of(node, FORCED).action is Action.REPLACE


def test_force_does_not_go_over_the_guards_that_are_left() -> None:
    assert plan_of(settled(guards=(SNAPSHOT,)), FORCED).action is Action.KEEP


@pytest.mark.parametrize(("verdict", "action"), [(Verdict.ABSENT, Action.CREATE), (Verdict.UNKNOWN, Action.NOTHING)])
def test_where_there_is_no_vm_naming_it_changes_nothing(verdict: Verdict, action: Action) -> None:
    assert plan_of(node_facts(verdict), NAMED).action is action


def test_a_running_vm_whose_replacement_turns_out_impossible_is_kept_running() -> None:
    decided = plan_of(settled(), NAMED)

    assert decided.dropped(NO_ROOM).action is Action.KEEP
    assert decided.dropped(NO_ROOM).ends_running


# --- only some nodes ---------------------------------------------------------------------------------------------


def test_only_the_nodes_that_are_asked_for_are_planned_but_all_count_as_down() -> None:
    only_one = Wishes(only=frozenset({1}))
    observed = [stopped(), stopped(2), node_facts(Verdict.HEALTHY, vm(node="pve3"), number=3)]
    decided = plan(config(*(node.config for node in observed), wishes=only_one), facts(*observed))

    assert [node.name for node in decided.nodes] == ["pve1"]
    assert decided.nodes[0].rule is Rule.POWER_CUT
    assert [node.name for node in decided.others] == ["pve2", "pve3"]
