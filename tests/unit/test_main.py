"""What main keeps together: work on all nodes at once."""

from __future__ import annotations

import pytest

from homelab import main
from homelab.models import Action, NodePlan, Verdict
from homelab.report import Report
from homelab.runtime import Interruption
from unit.builders import node_facts, node_plan


def test_defect_met_on_one_node_is_its_failure_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    done = []

    def work(node: NodePlan) -> None:
        if node.name == "pve1":
            raise KeyError("vmid")
        done.append(node.name)

    plans = [node_plan(Action.KEEP, node_facts(Verdict.HEALTHY, number=number)) for number in (1, 2)]
    main.side_by_side(work, plans, report, Interruption())

    assert done == ["pve2"]
    assert report.finish() == 1
    assert "defect in homelab: KeyError: 'vmid'" in capsys.readouterr().out
