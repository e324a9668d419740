"""doctor looks at everything that a run needs, names what is amiss with its cure, and changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.conftest import Homelab
from e2e.planted import FAULTS, Fault
from pvelab.lab import Lab


def examined(run: Any) -> list[dict[str, Any]]:
    told = json.loads(run.out)
    assert told["exit_code"] == run.exit_code == (1 if told["findings"] else 0), run.text
    return list(told["findings"])


def test_healthy_configuration_has_no_findings_and_nothing_is_written(homelab: Homelab, lab: Lab, via: str) -> None:
    run = homelab("doctor", "--via", via)

    assert (run.exit_code, run.err) == (0, "")
    assert run.out.splitlines() == [
        *("pve1  ok", "pve2  ok", "pve3  ok"),
        "3 nodes looked at, nothing is amiss; nothing was changed",
    ]
    assert lab.writes == []
    assert not (homelab.home / "state").exists()


@pytest.mark.parametrize(
    ("fault", "wire"),
    [pytest.param(fault, wire, id=f"{fault.name}-{wire}") for fault in FAULTS for wire in fault.wires],
)
def test_each_fault_is_named_with_its_cure_and_nothing_else(
    homelab: Homelab, lab: Lab, fault: Fault, wire: str
) -> None:
    fault.plant(lab)
    planted = len(lab.writes)

    told = examined(homelab("doctor", "--json", "--via", wire, **fault.settings))

    assert [(one["nodes"], one["severity"]) for one in told] == [(fault.nodes, fault.severity)], told
    assert fault.what in told[0]["what"]
    assert fault.cure in told[0]["cure"]
    assert lab.writes[planted:] == []
