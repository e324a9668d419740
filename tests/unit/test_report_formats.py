"""What a dry run and --json show."""

from __future__ import annotations

import json
from dataclasses import replace

from homelab.errors import ConfigError, NodeFailed, Problem
from homelab.models import GIB, Action, Rule, Size, Verdict
from homelab.report import Report
from homelab.settings import Secret
from unit.builders import node_facts, node_plan, stopped
from unit.reported import ABSENT, FAILED, FULL, HEALTHY, OK, UNREACHABLE, Captured, plan

# --- dry run -----------------------------------------------------------------------------------------------------


def test_a_dry_run_reports_the_plan_and_that_nothing_was_changed(capsys: Captured) -> None:
    report = Report(is_dry_run=True)
    kept = node_plan(Action.NOTHING, node_facts(Verdict.ABSENT, number=4), reason="NODE_ENABLED_4=0")
    report.show_plan(plan(HEALTHY, ABSENT, UNREACHABLE, kept))
    report.finish()

    assert capsys.readouterr().out.splitlines() == [
        "pve1  ok       VM k3s-vm-pve1 (vmid=107): keep: VM is healthy",
        "pve2  change   VM k3s-vm-pve2: create: VM is absent",
        "pve3  FAILED   nothing done: no answer",
        "pve4  skipped  VM k3s-vm-pve4: nothing: NODE_ENABLED_4=0",
        "4 nodes; 1 to change, 1 with a problem; nothing was changed (--dry-run)",
    ]


def test_a_dry_run_names_the_vms_that_would_join(capsys: Captured) -> None:
    joining = replace(
        HEALTHY, facts=replace(HEALTHY.facts, verdict=Verdict.JOINING), reason="running, not in the cluster"
    )
    report = Report(is_dry_run=True)
    report.show_plan(plan(joining))
    report.finish()

    assert "join: running, not in the cluster" in capsys.readouterr().out


def test_a_dry_run_names_what_stands_in_the_way_of_a_replacement(capsys: Captured) -> None:
    started = node_plan(Action.START, stopped(), problem=Problem("is started", "it has snapshots", "remove them"))
    report = Report(is_dry_run=True)
    report.show_plan(plan(started))

    assert report.finish() == 0
    out, err = capsys.readouterr()
    assert out.startswith("pve1  change   VM k3s-vm-pve1 (vmid=107): start")
    assert "  try: remove them\nwarning: VM k3s-vm-pve1 (vmid=107): start" in err


def test_a_dry_run_says_how_large_a_vm_would_be_and_by_which_rule_and_says_it_once(capsys: Captured) -> None:
    size = Size(4, 16384, 200 * GIB)
    replaced = node_plan(Action.REPLACE, stopped(), rule=Rule.BY_HAND, size=size)
    held = node_plan(Action.NOTHING, stopped(2), rule=Rule.HELD, problem=Problem("VM is held", "it was replaced", "x"))
    made = node_plan(Action.CREATE, node_facts(Verdict.ABSENT, number=3), size=replace(size, cores=1))
    report = Report(is_dry_run=True)
    report.show_plan(plan(replaced, held, made))
    report.finish()

    out, err = capsys.readouterr()
    assert out.splitlines()[:3] == [
        "pve1  change   VM k3s-vm-pve1 (vmid=107): replace: VM is stopped; 4 cores, 16384 MiB, disk 200 GiB "
        "[rule 5: by hand]",
        "pve2  FAILED   VM is held: it was replaced [rule 6: once in 24 h]",
        "pve3  change   VM k3s-vm-pve3: create: VM is absent; 1 core, 16384 MiB, disk 200 GiB",
    ]
    assert "replace" not in err.replace("it was replaced", "")


def test_a_dry_run_with_a_problem_ends_in_3_while_some_vm_runs_and_in_1_while_none_does() -> None:
    some, none = Report(is_dry_run=True), Report(is_dry_run=True)
    some.show_plan(plan(HEALTHY, UNREACHABLE))
    none.show_plan(plan(node_plan(Action.START, stopped()), UNREACHABLE))

    assert (some.exit_code, none.exit_code) == (3, 1)


# --- JSON --------------------------------------------------------------------------------------------------------


def test_json_is_the_whole_answer_on_stdout(capsys: Captured) -> None:
    report = Report(is_json=True)
    report.show_plan(plan(HEALTHY, ABSENT, warnings=("NODE_3 is missing",)))
    report.add([OK, FAILED])
    report.runs("pve1")
    code = report.finish()

    assert json.loads(capsys.readouterr().out) == {
        "exit_code": code,
        "dry_run": False,
        "nodes": [
            {
                "node": "pve1",
                "verdict": "healthy",
                "action": "keep",
                "reason": "VM is healthy",
                "rule": None,
                "size": None,
                "vmid": 107,
                "running": True,
            },
            {
                "node": "pve2",
                "verdict": "absent",
                "action": "create",
                "reason": "VM is absent",
                "rule": None,
                "size": None,
                "vmid": None,
                "running": False,
            },
        ],
        "outcomes": [
            {"node": "pve1", "status": "ok", "what": OK.what, "why": "", "cure": ""},
            {"node": "pve3", "status": "failed", "what": FULL.what, "why": FULL.why, "cure": FULL.cure},
        ],
        "warnings": ["NODE_3 is missing"],
    }


def test_json_without_a_plan_is_still_json(capsys: Captured) -> None:
    Report(is_json=True).finish()

    answer = json.loads(capsys.readouterr().out)
    assert (answer["nodes"], answer["outcomes"], answer["warnings"]) == ([], [], [])


def test_json_tells_of_a_configuration_that_is_refused_too(capsys: Captured) -> None:
    problems = [Problem("A", "is empty", "set A"), Problem("B", "is canary", "set B")]
    Report(is_json=True, secrets=(Secret("canary"),)).refuse(ConfigError(problems))

    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "exit_code": 2,
        "problems": [
            {"what": "A", "why": "is empty", "cure": "set A"},
            {"what": "B", "why": "is ***", "cure": "set B"},
        ],
    }
    assert "error: A: is empty" in err


def test_json_tells_of_a_run_that_could_not_go_on_or_was_interrupted(capsys: Captured) -> None:
    report = Report(is_json=True)

    assert report.abort(NodeFailed("no node answers", "timed out", "is the network up?")) == 1
    assert json.loads(capsys.readouterr().out) == {
        "exit_code": 1,
        "problems": [{"what": "no node answers", "why": "timed out", "cure": "is the network up?"}],
    }
    assert report.interrupted() == 130
    assert json.loads(capsys.readouterr().out)["problems"][0]["what"] == "interrupted"
