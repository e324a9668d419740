"""What cron is told: what changed, what needs a person who does not know yet, and otherwise nothing at all."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from homelab.errors import ConfigError, HomelabError, Locked, Problem
from homelab.models import Action, Matter, NodePlan, Outcome, Plan, Status, Verdict
from homelab.report import Report
from unit.builders import facts, node_facts, node_plan, stopped, vm

Captured = pytest.CaptureFixture[str]
FULL = Problem("storage tank is full", "1 GiB is free", "free some space on tank")
HEALTHY = node_plan(Action.KEEP, node_facts(Verdict.HEALTHY, vm()))
PARKED = node_plan(Action.KEEP, stopped(2))
OK = Outcome("pve1", Status.OK, "VM k3s-vm-pve1 (vmid=107) is healthy, skipping.")
LEFT = Outcome("pve2", Status.SKIPPED, "VM k3s-vm-pve2 (vmid=108) is left as it is: parked")
CHANGED = Outcome("pve1", Status.CHANGED, "VM k3s-vm-pve1 (vmid=107) started")
FAILED = Outcome.failed("pve2", FULL)
SKIPPED = Outcome("k3s", Status.SKIPPED, "K3S_EXISTING_NODE_IP not set, skipping k3s join")


@dataclass
class Told:
    """Remembers what was told, as long as it is asked about."""

    known: set[Matter] = field(default_factory=set)
    looked_at: set[str] = field(default_factory=set)
    failure: HomelabError | None = None

    def __call__(self, matters: Sequence[Matter], looked_at: Collection[str]) -> list[Matter]:
        if self.failure:
            raise self.failure
        new = [matter for matter in matters if matter not in self.known]
        self.known, self.looked_at = set(matters), set(looked_at)
        return new


def run(told: Told | None, *outcomes: Outcome, plan: Sequence[NodePlan] = (HEALTHY, PARKED), **more: Any) -> Report:
    """A finished run for cron."""
    report = Report(is_cron=True, news=told, **more)
    report.progress("pve1: creating")
    report.fallback("pve1", "connection refused")
    report.show_plan(Plan(tuple(plan), facts().k3s, ("NODE_3 is missing",)))
    report.add(outcomes)
    report.runs("pve1")
    report.finish()
    return report


def test_a_run_in_which_nothing_happened_says_nothing(capsys: Captured) -> None:
    told = Told(known={Matter("", "NODE_3 is missing", is_trouble=False)})
    run(told, OK, SKIPPED)

    assert capsys.readouterr() == ("", "")
    assert told.looked_at == {"", "pve1", "pve2", "k3s"}


def test_a_warning_is_said_once(capsys: Captured) -> None:
    told = Told()
    run(told, OK)
    assert capsys.readouterr() == ("", "warning: NODE_3 is missing\n")

    run(told, OK)
    assert capsys.readouterr() == ("", "")


def test_what_changed_is_said_with_all_of_its_node_and_nothing_of_the_others(capsys: Captured) -> None:
    told = Told()
    run(told, FAILED)
    capsys.readouterr()

    run(told, CHANGED, OK, FAILED)

    out, err = capsys.readouterr()
    assert (out.splitlines()[:2], err) == ([f"pve1  changed  {CHANGED.what}", f"pve1  ok       {OK.what}"], "")
    assert "tank" not in out


def test_a_trouble_is_said_with_its_cure_and_while_it_stands_not_again(capsys: Captured) -> None:
    told = Told()

    assert run(told, OK, FAILED).exit_code == 3
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "pve2  FAILED   storage tank is full: 1 GiB is free"
    assert err.splitlines()[-2:] == ["  try: free some space on tank", "error: storage tank is full: 1 GiB is free"]

    assert run(told, OK, FAILED).exit_code == 3
    assert capsys.readouterr() == ("", "")


def test_a_trouble_beside_one_that_stands_is_said_alone(capsys: Captured) -> None:
    told = Told()
    run(told, FAILED)
    capsys.readouterr()

    run(told, FAILED, Outcome.failed("pve2", Problem("k3s-vm-pve2 is not joined", "no token", "look")))

    text = "".join(capsys.readouterr())
    assert "is not joined" in text
    assert "tank" not in text


def test_a_vm_that_is_left_down_is_named_and_is_no_trouble(capsys: Captured) -> None:
    told = Told()

    assert run(told, LEFT).exit_code == 0
    assert "pve2  skipped  VM k3s-vm-pve2 (vmid=108) is left as it is: parked" in capsys.readouterr().out
    assert Matter("pve2", LEFT.what, is_trouble=False) in told.known


def test_nothing_new_is_no_json_either(capsys: Captured) -> None:
    told = Told()
    run(told, FAILED, is_json=True)
    assert json.loads(capsys.readouterr().out)["exit_code"] == 3

    run(told, FAILED, is_json=True)
    assert capsys.readouterr().out == ""


def test_where_nothing_can_be_remembered_all_is_said(capsys: Captured) -> None:
    run(None, FAILED)
    assert "tank" in capsys.readouterr().out

    run(Told(failure=HomelabError("the journal cannot be used", "disk full", "see to it")), FAILED)
    out, err = capsys.readouterr()
    assert "tank" in out
    assert "warning: the journal cannot be used: disk full" in err


def test_an_interrupted_run_says_all_and_forgets_nothing(capsys: Captured) -> None:
    told = Told(known={Matter("pve9", "old")})
    report = Report(is_cron=True, news=told)
    report.show_plan(Plan((HEALTHY,), facts().k3s))
    report.add([OK])
    report.ending()

    assert report.finish() == 130
    assert "is healthy" in capsys.readouterr().out
    assert told.known == {Matter("pve9", "old")}


def test_interrupted_before_anything_was_begun_it_says_so(capsys: Captured) -> None:
    assert Report(is_cron=True, news=Told()).interrupted() == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_run_that_cannot_go_on_says_so_once(capsys: Captured) -> None:
    told = Told()
    error = HomelabError("no node answers", "timeout", "is the network up?")

    assert Report(is_cron=True, news=told).abort(error) == 1
    assert "error: no node answers: timeout" in capsys.readouterr().err
    assert Report(is_cron=True, news=told, is_json=True).abort(error) == 1
    assert capsys.readouterr() == ("", "")
    assert Report(is_cron=True).abort(Locked("another run is going on")) == 4
    assert "another run is going on" in capsys.readouterr().err


def test_a_wrong_configuration_is_always_said(capsys: Captured) -> None:
    for _ in range(2):
        assert Report(is_cron=True, news=Told()).refuse(ConfigError([FULL])) == 2
        assert "tank" in capsys.readouterr().err


def test_by_hand_all_is_said_and_what_is_over_is_forgotten(capsys: Captured) -> None:
    told = Told(known={Matter("pve2", "storage tank is full: 1 GiB is free")})
    report = Report(news=told)
    report.show_plan(Plan((HEALTHY, PARKED), facts().k3s))
    report.add([OK])
    report.finish()

    assert "is healthy" in capsys.readouterr().out
    assert told.known == set()
