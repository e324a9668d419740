"""What follows from what was observed: the verdict table, and the rules for stopped and paused VMs in their order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homelab.errors import Problem
from homelab.models import Action, CarriedOver, Guard, K3sFacts, NodeFacts, NodePlan, Past, PowerHistory, Verdict
from homelab.settings import StoppedVm
from homelab.vm_manager import plan
from unit.builders import (
    LONG_UP,
    OTHER_UUID,
    PAUSED,
    UUID,
    agent_node,
    config,
    facts,
    k3s_cluster,
    node_config,
    node_facts,
    node_plan,
    stopped,
    vm,
)
from unit.planned import GUARDED, JUST_BOOTED, POWER_CUT, plan_of, planned

# --- the table of verdicts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [Verdict.HEALTHY, Verdict.JOINING])
def test_a_running_vm_is_kept(verdict: Verdict) -> None:
    decided = plan_of(node_facts(verdict, vm()))

    assert (decided.action, decided.problem) == (Action.KEEP, None)


def test_an_absent_vm_is_created() -> None:
    decided = plan_of(node_facts(Verdict.ABSENT))

    assert (decided.action, decided.problem) == (Action.CREATE, None)


def test_an_absent_vm_of_a_disabled_node_is_not_created_and_that_is_no_problem() -> None:
    decided = plan_of(node_facts(Verdict.ABSENT, config=node_config(is_enabled=False)))

    assert (decided.action, decided.problem) == (Action.NOTHING, None)
    assert "NODE_ENABLED_1=0" in decided.reason


def test_a_vm_in_an_unknown_state_is_kept_and_a_person_is_told() -> None:
    decided = plan_of(
        node_facts(Verdict.UNKNOWN, vm(qmpstatus="io-error"), reason="its state is io-error", cure="free some space")
    )

    assert decided.action is Action.NOTHING
    assert decided.problem == Problem("VM k3s-vm-pve1 (vmid=107) is kept", "its state is io-error", "free some space")


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.UNREACHABLE])
def test_where_nothing_can_be_told_nothing_is_done_and_a_person_is_told(verdict: Verdict) -> None:
    decided = plan_of(node_facts(verdict, reason="no route to host", cure="is it switched on?"))

    assert decided.action is Action.NOTHING
    assert decided.problem == Problem("pve1: nothing done", "no route to host", "is it switched on?")


def test_a_disabled_node_that_is_switched_off_is_no_problem() -> None:
    decided = plan_of(node_facts(Verdict.UNREACHABLE, config=node_config(is_enabled=False)))

    assert (decided.action, decided.problem) == (Action.NOTHING, None)
    assert "NODE_ENABLED_1=0" in decided.reason


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.ABSENT])
def test_the_vm_of_a_disabled_node_is_left_alone_and_that_is_no_problem(verdict: Verdict) -> None:
    decided = plan_of(node_facts(verdict, vm(), config=node_config(is_enabled=False)))

    assert (decided.action, decided.problem) == (Action.NOTHING, None)
    assert decided.reason.endswith("; NODE_ENABLED_1=0")


@pytest.mark.parametrize(("is_ready", "action"), [(True, Action.NOTHING), (False, Action.CREATE)])
def test_an_absent_vm_whose_name_a_ready_member_has_is_not_created(is_ready: bool, action: Action) -> None:
    absent = node_facts(Verdict.ABSENT)
    cluster = k3s_cluster(agent_node("k3s-vm-pve1", is_ready=is_ready))

    (decided,) = plan(config(absent.config), replace(facts(absent), k3s=cluster)).nodes

    assert decided.action is action
    assert (decided.problem is not None) == is_ready
    if decided.problem:
        assert decided.problem.what == "pve1: no VM is made"
        assert "VM_NAME_1" in decided.problem.cure


@pytest.mark.parametrize("down", [stopped(), node_facts(Verdict.PAUSED, vm(**PAUSED))], ids=["stopped", "paused"])
def test_a_vm_that_is_down_is_replaced(down: NodeFacts) -> None:
    decided = plan_of(down)

    assert (decided.action, decided.problem) == (Action.REPLACE, None)


# --- unfinished --------------------------------------------------------------------------------------------------

NEVER_BOOTED = replace(LONG_UP, last_vm_start_time=None, has_never_run=True)


def unfinished(values: dict[str, str] | None = None, **changes: Any) -> NodeFacts:
    found = vm({"tags": "homelab;homelab-unfinished", **(values or {})}, status="stopped", qmpstatus="stopped")
    return node_facts(Verdict.UNFINISHED, found, **changes)


def test_an_unfinished_vm_that_runs_is_finished() -> None:
    running = vm({"tags": "homelab;homelab-unfinished"})

    assert plan_of(node_facts(Verdict.UNFINISHED, running, power=NEVER_BOOTED)).action is Action.FINISH


def test_an_unfinished_vm_that_has_booted_once_is_finished() -> None:
    assert plan_of(unfinished()).action is Action.FINISH


def test_an_unfinished_vm_is_not_deleted_on_a_host_that_has_just_come_up() -> None:
    just_up = replace(NEVER_BOOTED, host_uptime_s=60)

    assert plan_of(unfinished(power=just_up)).action is Action.FINISH
    in_the_making = vm({"tags": "homelab-unfinished"}, status="stopped", qmpstatus="stopped", lock="create")
    assert plan_of(node_facts(Verdict.UNFINISHED, in_the_making, power=just_up)).action is Action.REPLACE


def test_an_unfinished_vm_that_never_booted_is_made_again() -> None:
    assert plan_of(unfinished(power=NEVER_BOOTED)).action is Action.REPLACE


def test_an_unfinished_vm_of_which_no_start_is_known_is_finished_unless_it_is_proven_that_it_never_ran() -> None:
    assert plan_of(unfinished(power=replace(LONG_UP, last_vm_start_time=None))).action is Action.FINISH


def test_making_an_unfinished_vm_again_uses_up_no_replacement() -> None:
    never_booted = unfinished(power=NEVER_BOOTED)

    assert planned(never_booted, stopped(2))[0].action is Action.REPLACE
    assert planned(never_booted, stopped(2))[1].action is Action.REPLACE
    assert planned(never_booted, stopped(2), max_replacements=0)[0].action is Action.REPLACE


def test_a_guarded_unfinished_vm_that_never_booted_is_neither_deleted_nor_started() -> None:
    decided = plan_of(unfinished(power=NEVER_BOOTED, guards=GUARDED))

    assert decided.action is Action.NOTHING
    assert decided.problem is not None
    assert decided.problem.what == "VM k3s-vm-pve1 (vmid=107) is kept"
    assert "it has snapshots; its protection is on" in decided.problem.why


@pytest.mark.parametrize(
    "kept",
    [
        unfinished({"tags": "homelab-unfinished;homelab-keep"}, power=NEVER_BOOTED),
        unfinished(power=NEVER_BOOTED, config=node_config(is_enabled=False)),
    ],
    ids=["tag", "disabled"],
)
def test_an_unfinished_vm_that_is_to_be_kept_is_left_alone_and_that_is_no_problem(kept: NodeFacts) -> None:
    decided = plan_of(kept)

    assert (decided.action, decided.problem) == (Action.NOTHING, None)


# --- guards ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("down", [stopped(), node_facts(Verdict.PAUSED, vm(**PAUSED))], ids=["stopped", "paused"])
def test_a_guarded_vm_that_is_down_is_started_and_reported(down: NodeFacts) -> None:
    decided = plan_of(replace(down, guards=GUARDED))

    assert (decided.action, decided.may_replace) == (Action.START, False)
    assert decided.problem is not None
    assert decided.problem.what == "VM k3s-vm-pve1 (vmid=107) is started, not replaced"
    assert decided.problem.why.endswith("but it has snapshots; its protection is on")
    assert decided.problem.cure == "qm delsnapshot 107 NAME; qm set 107 ..."


@pytest.mark.parametrize("power", [LONG_UP, POWER_CUT, replace(JUST_BOOTED, host_uptime_s=700)])
@pytest.mark.parametrize(
    "found",
    [
        vm({"template": "1"}, status="stopped", qmpstatus="stopped"),
        vm(status="stopped", qmpstatus="stopped", lock="backup"),
        vm(status="stopped", qmpstatus="stopped", is_ha_managed=True),
    ],
    ids=["template", "locked", "ha"],
)
def test_a_template_a_locked_and_an_ha_managed_vm_are_not_even_started(found: Any, power: PowerHistory) -> None:
    decided = plan_of(node_facts(Verdict.STOPPED, found, power=power, guards=(Guard("it may not", "let it"),)))

    assert decided.action is Action.NOTHING
    assert decided.problem is not None
    assert decided.problem.what.endswith("is kept")


# --- the plan as a whole -----------------------------------------------------------------------------------------


def test_the_plan_is_in_the_order_of_n_and_carries_the_warnings() -> None:
    first, second = node_facts(Verdict.ABSENT), node_facts(Verdict.HEALTHY, vm(node="pve2"), number=2)
    observed = replace(facts(first, second), warnings=("NODE_3 is missing",))

    decided = plan(config(first.config, second.config), observed)

    assert [node.name for node in decided.nodes] == ["pve1", "pve2"]
    assert decided.warnings == ("NODE_3 is missing",)


@pytest.mark.parametrize(
    ("action", "node", "then"),
    [
        (Action.CREATE, node_facts(Verdict.ABSENT), Action.NOTHING),
        (Action.REPLACE, stopped(), Action.START),
        (Action.REPLACE, unfinished(), Action.NOTHING),
    ],
    ids=["create", "replace", "make-again"],
)
def test_a_node_that_drops_out_makes_and_deletes_nothing_but_starts_what_is_down(
    action: Action, node: NodeFacts, then: Action
) -> None:
    missing = Problem("bridge vmbr1 is missing", "the bridges there are: vmbr0", "create it")

    dropped = node_plan(action, node).dropped(missing)

    assert (dropped.action, dropped.problem, dropped.may_replace) == (then, missing, False)


@pytest.mark.parametrize(
    ("action", "makes", "writes"),
    [
        (Action.KEEP, False, False),
        (Action.NOTHING, False, False),
        (Action.CREATE, True, True),
        (Action.REPLACE, True, True),
        (Action.START, False, True),
        (Action.FINISH, False, True),
    ],
)
def test_only_create_and_replace_make_a_vm_and_only_keep_and_nothing_write_nothing(
    action: Action, makes: bool, writes: bool
) -> None:
    decided = node_plan(action)

    assert (decided.makes_vm, decided.is_write) == (makes, writes)


def test_asking_for_the_vm_of_a_node_without_one_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="pve1 has no VM"):
        _ = node_facts(Verdict.ABSENT).found


# --- a replacement that an earlier run had begun -----------------------------------------------------------------


def leaving(uuid: str = UUID, **changes: Any) -> NodeFacts:
    """A VM of a node that is down, while the journal says that its replacement was begun."""
    return stopped(past=Past(replacing=CarriedOver(107, uuid, role="homelab-server")), power=POWER_CUT, **changes)


def plan_beside(node: NodeFacts, k3s: K3sFacts, **policy: Any) -> NodePlan:
    return plan(config(node.config, **policy), replace(facts(node), k3s=k3s)).nodes[0]


def test_machine_whose_membership_was_ended_is_replaced_and_not_started() -> None:
    decided = plan_beside(leaving(), k3s_cluster(agent_node("k3s-vm-pve2", system_uuid=OTHER_UUID)))

    assert decided.action is Action.REPLACE
    assert decided.reason == "VM is stopped; an earlier run had begun to replace it"


@pytest.mark.parametrize(
    ("node", "k3s"),
    [
        (leaving(), k3s_cluster(agent_node("k3s-vm-pve1"))),
        (leaving(OTHER_UUID), k3s_cluster()),
        (leaving(guards=GUARDED), k3s_cluster()),
        (leaving(), K3sFacts(is_wanted=True, problem=Problem("k3s cannot be asked", "", ""))),
        (leaving(), K3sFacts(is_wanted=False)),
        (stopped(past=Past(replacing=CarriedOver(107, UUID)), power=POWER_CUT), k3s_cluster()),
    ],
    ids=["still-member", "another-machine", "guarded", "not-to-be-asked", "no-k3s", "never-member"],
)
def test_machine_that_may_be_a_member_yet_is_planned_by_the_rules(node: NodeFacts, k3s: K3sFacts) -> None:
    assert plan_beside(node, k3s).action is Action.START


@pytest.mark.parametrize(("most", "action"), [(1, Action.START), (2, Action.REPLACE)])
def test_replacement_that_was_begun_is_ended_and_counted_before_another_vm_is_replaced(
    most: int, action: Action
) -> None:
    gone = node_facts(Verdict.ABSENT, number=2, past=Past(replacing=CarriedOver(108, OTHER_UUID)))

    first, second = planned(stopped(), gone, max_replacements=most)

    assert (first.action, second.action) == (action, Action.CREATE)
    assert ("MAX_REPLACEMENTS=1 is used up" in first.reason) is (most == 1)


def test_vm_that_never_ran_is_made_again_and_not_counted() -> None:
    gone = node_facts(Verdict.ABSENT, number=2, past=Past(replacing=CarriedOver(108, OTHER_UUID, is_unfinished=True)))

    assert [node.action for node in planned(stopped(), gone)] == [Action.REPLACE, Action.CREATE]


def test_machine_that_is_to_be_kept_is_kept_whatever_was_begun() -> None:
    assert plan_beside(leaving(), k3s_cluster(), stopped_vm=StoppedVm.KEEP).action is Action.KEEP
    assert plan_beside(replace(leaving(), power=JUST_BOOTED), k3s_cluster()).action is Action.KEEP
