"""doctor looks at everything that a run needs, names what is amiss with its cure, and changes nothing."""

from __future__ import annotations

import json

from e2e.conftest import Homelab
from pvelab.lab import Lab


def test_healthy_configuration_has_no_findings_and_nothing_is_written(homelab: Homelab, lab: Lab, via: str) -> None:
    run = homelab("doctor", "--via", via)

    assert (run.exit_code, run.err) == (0, "")
    assert run.out.splitlines() == [
        *("pve1  ok", "pve2  ok", "pve3  ok"),
        "3 nodes looked at, nothing is amiss; nothing was changed",
    ]
    assert lab.writes == []
    assert not (homelab.home / "state").exists()


def test_node_that_is_not_reached_is_named_with_its_cure(homelab: Homelab, lab: Lab) -> None:
    lab.fault("node-down", node="pve2")

    text, told = homelab("doctor"), homelab("doctor", "--json")

    assert (text.exit_code, told.exit_code) == (1, 1)
    assert "pve1  ok\npve2  error    node pve2 is not reached: " in text.out
    (finding,) = json.loads(told.out)["findings"]
    assert (finding["node"], finding["severity"]) == ("pve2", "error")
    assert "NODE_HOST_2" in finding["cure"]
