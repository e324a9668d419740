"""doctor looks at everything that a run needs, names what is amiss with its cure, and changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.conftest import Homelab, Run
from e2e.planted import FAULTS, TOGETHER, named
from e2e.planting import ONLY_PVE2, Fault
from e2e.world import vm_on
from pvelab.lab import Lab

HEALTHY = [*("pve1  ok", "pve2  ok", "pve3  ok"), "3 nodes looked at, nothing is amiss; nothing was changed"]


def examined(run: Run) -> list[dict[str, Any]]:
    """The findings, which the exit code tells of, too."""
    told = json.loads(run.out)
    assert told["exit_code"] == run.exit_code == (1 if told["findings"] else 0), run.text
    return list(told["findings"])


def is_told(fault: Fault, finding: dict[str, Any]) -> bool:
    """Is it the fault that is named, where it is, as bad as it is, and with its cure?"""
    is_it = (finding["nodes"], finding["severity"]) == (fault.nodes, fault.severity)
    return is_it and fault.what in finding["what"] and fault.cure in finding["cure"]


@pytest.mark.parametrize("seed", ["fresh", "healthy"])
def test_healthy_configuration_has_no_findings_and_nothing_is_written(
    homelab: Homelab, lab: Lab, via: str, seed: str
) -> None:
    lab.reset(seed)

    run = homelab("doctor", "--via", via)

    assert (run.exit_code, run.err) == (0, "")
    assert run.out.splitlines() == HEALTHY
    assert lab.writes == []
    assert not (homelab.home / "state").exists()
    assert not (homelab.home / ".cache").exists()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_is_named_with_its_cure_and_nothing_else(homelab: Homelab, lab: Lab, fault: Fault) -> None:
    fault.plant(lab)
    planted = len(lab.writes)

    (told,) = examined(homelab("doctor", "--json", **fault.settings_in(lab)))

    assert is_told(fault, told), told
    assert lab.writes[planted:] == []


@pytest.mark.parametrize("names", TOGETHER, ids=lambda names: names[0])
def test_faults_are_named_over_ssh_too_each_for_itself(homelab: Homelab, lab: Lab, names: tuple[str, ...]) -> None:
    faults = [named(name) for name in names]
    settings = {key: value for fault in faults for key, value in fault.settings_in(lab).items()}
    for fault in faults:
        fault.plant(lab)
    planted = len(lab.writes)

    told = examined(homelab("doctor", "--json", "--via", "ssh", **settings))

    assert [sum(is_told(fault, one) for one in told) for fault in faults] == [1] * len(faults), told
    assert len(told) == len(faults), told
    assert lab.writes[planted:] == []


def test_token_that_may_not_have_a_node_fetch_files_is_no_finding(homelab: Homelab, lab: Lab) -> None:
    lab.fault("token-lacks", privileges="Sys.AccessNetwork+Sys.Modify")

    assert homelab("doctor").out.splitlines() == HEALTHY


def test_nodes_that_are_off_by_choice_or_not_named_are_not_looked_at(homelab: Homelab, lab: Lab) -> None:
    lab.fault("bridge-missing", node="pve1", bridge="vmbr1")

    assert homelab("doctor", "--node", "pve3").exit_code == 0
    assert homelab("doctor", **ONLY_PVE2).out.startswith("pve2  ok")


def test_no_node_is_fine_where_the_token_is_refused_and_none_was_looked_at(homelab: Homelab, lab: Lab) -> None:
    wrong = lab.env["API_TOKEN"].rpartition("=")[0] + "=00000000-0000-0000-0000-000000000000"

    run = homelab("doctor", API_TOKEN=wrong)

    assert run.exit_code == 1
    assert run.out.splitlines()[0].startswith("all  error    GET /cluster/status: 401 Authentication failed!")
    assert run.out.splitlines()[-1] == "0 nodes looked at, 1 finding; nothing was changed"


def test_machine_that_has_the_name_of_a_vm_in_k3s_is_told(homelab: Homelab, lab: Lab) -> None:
    lab.reset("healthy")
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"qm set {vmid} --name renamed")

    (told,) = examined(homelab("doctor", "--json"))

    assert (told["nodes"], told["what"]) == (["pve3"], "no VM is made")
    assert "kubectl get node k3s-vm-pve3" in told["cure"]


def test_findings_are_told_in_a_table_with_the_cure_below_each(homelab: Homelab, lab: Lab) -> None:
    lab.fault("storage-full", node="pve2", storage="local-zfs")

    run = homelab("doctor", "--quiet")

    assert run.out.splitlines() == [
        "pve1  ok",
        "pve3  ok",
        "pve2  error    storage local-zfs is full: 4.0 GiB are needed, 0.0 GiB are free",
        "      try:     free some space on it, or set IMG_STORAGE_2 (or STORAGE_2) to another",
        "3 nodes looked at, 1 finding; nothing was changed",
    ]
    lab.clear_faults()
    assert homelab("doctor", "--quiet").text == ""


def test_run_tells_everything_that_is_amiss_on_a_node_and_writes_nothing_there(
    homelab: Homelab, lab: Lab, via: str
) -> None:
    lab.fault("bridge-missing", node="pve1", bridge="vmbr1")
    lab.fault("storage-full", node="pve1", storage="local-lvm")

    run = homelab("--via", via, **{"NODE_ENABLED_2": "0"}, K3S_EXISTING_NODE_IP=None)

    assert run.exit_code == 3, run.text
    assert "error: pve1: bridge vmbr1 is missing: the bridges there are: vmbr0" in run.err
    assert "error: pve1: storage local-lvm is full: 4.0 GiB are needed, 0.0 GiB are free" in run.err
    assert [vm["node"] for vm in lab.snapshot()["vms"].values()] == ["pve3"]
    assert [one.what for one in lab.writes if "pve1" in one.what] == []
