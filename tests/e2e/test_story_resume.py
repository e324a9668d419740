"""Stories of creations that were cut off: the next run finishes or undoes what had been begun."""

from __future__ import annotations

import re

import pytest

from e2e.conftest import Homelab, Run
from e2e.interruptions import killed, left_over, open_writes, tags
from e2e.world import NO_JOIN, ONLY_PVE3, before_call, nodes_with_running_vm, vm_on
from pvelab.lab import Lab
from pvelab.state import World

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
"""A node's thread that is killed says so."""


@pytest.mark.parametrize(
    ("method", "path", "after"),
    [
        ("POST", "/nodes/pve3/qemu", False),
        ("POST", "/nodes/pve3/qemu", True),
        ("PUT", "/nodes/pve3/qemu/[0-9]+/resize", True),
        ("PUT", "/nodes/pve3/qemu/[0-9]+/config", False),
        ("POST", "/nodes/pve3/qemu/[0-9]+/status/start", False),
        ("POST", "/nodes/pve3/qemu/[0-9]+/status/start", True),
    ],
    ids=["before-create", "create", "resize", "before-config", "before-start", "start"],
)
def test_creation_that_was_killed_is_finished_by_the_next_run(
    lab: Lab, homelab: Homelab, via: str, method: str, path: str, after: bool
) -> None:
    with killed(method, path, after=after):
        homelab("--via", via, **NO_JOIN)
    assert nodes_with_running_vm(lab) in (["pve1", "pve2"], ["pve1", "pve2", "pve3"])

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert tags(lab) == dict.fromkeys((100, 101, 102), "homelab")
    assert left_over(lab) == {}
    assert open_writes(homelab) == 0


@pytest.mark.parametrize("task", ["qmcreate", "qmstart", "download"])
def test_task_of_a_killed_run_that_goes_on_is_waited_for(lab: Lab, homelab: Homelab, task: str) -> None:
    with killed("GET", f"/nodes/pve3/tasks/[^/]*:{task}:[^/]*/status"):
        homelab("--via", "api", **ONLY_PVE3, **NO_JOIN)

    run = homelab("--via", "api", **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert "pve3: waiting for POST /nodes/pve3/" in run.err
    assert tags(lab) == {100: "homelab"}
    assert left_over(lab) == {}
    assert open_writes(homelab) == 0


def test_creation_that_failed_after_its_run_was_killed_is_begun_anew(lab: Lab, homelab: Homelab) -> None:
    lab.fault("task-fails", kind="qmcreate", node="pve3")
    with killed("GET", "/nodes/pve3/tasks/[^/]*:qmcreate:[^/]*/status"):
        homelab("--via", "api", **ONLY_PVE3, **NO_JOIN)
    lab.wait_until(lambda world: not world.vms)
    lab.clear_faults()

    assert homelab("--via", "api", **ONLY_PVE3, **NO_JOIN).exit_code == 0

    assert tags(lab) == {100: "homelab"}
    assert open_writes(homelab) == 0


def test_what_was_begun_on_a_node_that_is_disabled_is_left_as_it_is(lab: Lab, homelab: Homelab) -> None:
    with killed("POST", "/nodes/pve3/qemu/[0-9]+/status/start"):
        homelab("--via", "api", **ONLY_PVE3, **NO_JOIN)
    before = lab.snapshot()

    homelab("--via", "api", **{**ONLY_PVE3, "NODE_ENABLED_3": "0"}, **NO_JOIN)

    assert lab.snapshot() == before
    assert open_writes(homelab) == 1


def test_what_was_begun_is_found_again_when_every_address_in_the_configuration_has_changed(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    first, second, _ = lab.env["PVE_IPS"].split(", ")
    with killed("POST", "/nodes/pve3/qemu/[0-9]+/status/start"):
        homelab("--via", via, PVE_IPS=first, **ONLY_PVE3, **NO_JOIN)

    run = homelab("--via", via, PVE_IPS=second, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert open_writes(homelab) == 0
    assert len(list(homelab.home.glob("state/homelab/*/cluster.json"))) == 1


def test_memory_of_another_cluster_with_nodes_of_the_same_names_is_left_alone(homelab: Homelab) -> None:
    with killed("POST", "/nodes/pve3/qemu"):
        homelab(**ONLY_PVE3, **NO_JOIN)
    (known,) = homelab.home.glob("state/homelab/*/cluster.json")
    known.write_text(re.sub('"identity": "[^"]+"', '"identity": "00:11"', known.read_text()))
    theirs = (known.parent / "journal.jsonl").read_text()

    assert homelab(**ONLY_PVE3, **NO_JOIN).exit_code == 0

    assert (known.parent / "journal.jsonl").read_text() == theirs
    assert len(list(homelab.home.glob("state/homelab/*/cluster.json"))) == 2


def test_cluster_that_does_not_show_what_it_is_is_known_by_its_names(lab: Lab, homelab: Homelab) -> None:
    lab.fault("on", do="error", method="GET", path="/nodes/*/certificates/info")

    assert homelab("--via", "api", **ONLY_PVE3, **NO_JOIN).exit_code == 0

    (known,) = homelab.home.glob("state/homelab/*/cluster.json")
    assert '"identity": ""' in known.read_text()


WITHOUT_PVE3: dict[str, str | None] = {"NODE_3": None, "STORAGE_3": None, "IMG_STORAGE_3": None}


def test_what_was_begun_on_a_node_that_is_no_longer_configured_is_told_until_it_is_over(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    with killed("POST", "/nodes/pve3/qemu/[0-9]+/status/start"):
        homelab("--via", via, **ONLY_PVE3, **NO_JOIN)
    assert homelab("--via", via, **WITHOUT_PVE3, **NO_JOIN).exit_code == 0
    before = len(lab.writes)

    run = homelab("--via", via, **WITHOUT_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert "status/start of VM 100, begun by an earlier run, is open, and no NODE_n names that node: " in run.err
    assert "the VM is not finished; set NODE_n=pve3 and run again, or on pve3: qm unlock 100; qm destroy 100" in run.err
    assert lab.writes[before:] == []
    assert open_writes(homelab) == 1
    lab.shell("pve3", "qm destroy 100")
    assert "begun by an earlier run" not in homelab("--via", via, **WITHOUT_PVE3, **NO_JOIN).err
    assert open_writes(homelab) == 0


def cut_off_creation(lab: Lab, homelab: Homelab, via: str, **settings: str | None) -> Run:
    """The third node loses power while it copies the image into the disk of its VM, and comes back."""
    lab.look(lambda world: setattr(world.timings, "import_bytes_per_s", 100.0))
    lab.fault(
        "on", do="power-loss", method="POST", path="/nodes/pve3/qemu", command="qm create", node="pve3", seconds=9
    )
    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN, **settings)
    lab.clear_faults()
    lab.look(lambda world: setattr(world.timings, "import_bytes_per_s", 1e9))
    assert lab.snapshot()["vms"][100]["config"] == {"lock": "create"}
    assert left_over(lab) != {}
    return run


def test_creation_that_a_power_cut_stopped_is_cleared_and_made_again(lab: Lab, homelab: Homelab, via: str) -> None:
    first = cut_off_creation(lab, homelab, via)
    assert first.exit_code == 1, first.text

    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert "pve3: VM 100 was cut off in the making; it is removed" in run.err
    assert tags(lab) == {100: "homelab"}
    assert left_over(lab) == {}
    assert open_writes(homelab) == 0


def test_disk_that_was_there_before_the_creation_stays(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.shell("pve3", "pvesm alloc local 100 vm-100-disk-7.raw 1M")
    cut_off_creation(lab, homelab, via, VMID_3="100")

    run = homelab("--via", via, VMID_3="100", **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert left_over(lab) == {"pve3/local": ["local:100/vm-100-disk-7.raw"]}


def test_without_word_of_what_was_there_before_no_disk_is_removed(lab: Lab, homelab: Homelab) -> None:
    cut_off_creation(lab, homelab, "api")
    (journal,) = homelab.home.glob("state/homelab/*/journal.jsonl")
    journal.write_text("\n".join(line for line in journal.read_text().splitlines() if '"creating"' not in line))
    before = left_over(lab)

    assert homelab("--via", "api", **ONLY_PVE3, **NO_JOIN).exit_code == 0

    assert left_over(lab) == before
    assert tags(lab) == {101: "homelab"}


def test_nothing_is_cleared_while_a_run_from_another_machine_goes_on(lab: Lab, homelab: Homelab, via: str) -> None:
    cut_off_creation(lab, homelab, via)
    until = "homelab: run of elsewhere until 2199-01-01T00:00:00Z"
    lab.shell("pve1", f"pvesh create /pools --poolid homelab-run --comment '{until}'")

    assert homelab("--via", via, **ONLY_PVE3, **NO_JOIN).exit_code == 4

    assert lab.snapshot()["vms"][100]["config"] == {"lock": "create"}


def test_creation_that_a_power_cut_stopped_is_reported_where_only_the_api_answers(lab: Lab, homelab: Homelab) -> None:
    cut_off_creation(lab, homelab, "api")
    lab.fault("ssh-refused", node="pve3")

    for arguments in (["--dry-run"], []):
        run = homelab("--via", "api", *arguments, **ONLY_PVE3, **NO_JOIN)

        assert run.exit_code == 1, run.text
        assert "pve3: VM 100 was cut off in the making: an earlier run began it" in run.err
        assert "on pve3: qm unlock 100 && qm destroy 100" in run.err
        assert lab.snapshot()["vms"][100]["config"] == {"lock": "create"}
        assert list(lab.snapshot()["vms"]) == [100]

    lab.clear_faults()
    assert homelab("--via", "api", **ONLY_PVE3, **NO_JOIN).exit_code == 0
    assert tags(lab) == {100: "homelab"}


def test_dry_run_plans_as_if_what_a_power_cut_stopped_were_cleared(lab: Lab, homelab: Homelab, via: str) -> None:
    cut_off_creation(lab, homelab, via)
    before = lab.snapshot()

    run = homelab("--via", via, "--dry-run", **ONLY_PVE3, **NO_JOIN)

    assert "create" in run.out
    assert lab.snapshot() == before


def test_lock_of_somebody_elses_creation_is_left_alone(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.shell("pve3", "qm create 100 --name theirs && qm set 100 --lock create")

    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert lab.snapshot()["vms"][100]["config"]["lock"] == "create"


def test_unfinished_vm_with_the_lock_of_its_creation_is_unlocked(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("half-built")
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"qm set {vmid} --lock create")

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert tags(lab)[vmid] == "homelab"
    assert "lock" not in lab.snapshot()["vms"][vmid]["config"]


def test_lock_that_somebody_else_has_put_on_an_unfinished_vm_meanwhile_stays(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("half-built")
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"qm set {vmid} --lock create")
    before_call(lab, "GET", "/nodes/pve3/storage/local/content", lambda world: relock(world, vmid))

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert f"VM k3s-vm-pve3 (vmid={vmid}) is not finished: it is locked (create), and stays so: " in run.err
    assert "it has changed since it was looked at" in run.err
    assert lab.snapshot()["vms"][vmid]["config"]["lock"] == "backup"


def relock(world: World, vmid: int) -> None:
    """A backup begins."""
    world.vms[vmid].config["lock"] = "backup"


def test_unfinished_vm_cannot_be_unlocked_by_the_api_alone(lab: Lab, homelab: Homelab) -> None:
    lab.reset("half-built")
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"qm set {vmid} --lock create")
    lab.fault("ssh-refused", node="pve3")

    run = homelab("--via", "api", **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert f"VM k3s-vm-pve3 (vmid={vmid}) is not finished: it is locked (create), and stays so: SSH to " in run.err
    assert f"on pve3: qm unlock {vmid}" in run.err


@pytest.mark.parametrize("kind", ["qmcreate", "resize", "qmstart"])
def test_creation_that_fails_leaves_no_vm_and_no_disk(lab: Lab, homelab: Homelab, via: str, kind: str) -> None:
    lab.fault("task-fails", kind=kind, node="pve3")

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2"]
    assert sorted(tags(lab)) == [100, 101]
    assert left_over(lab) == {}
    lab.clear_faults()
    assert homelab("--via", via, **NO_JOIN).exit_code == 0
    assert sorted(tags(lab)) == [100, 101, 102]


def test_creation_that_cannot_be_cleared_is_in_the_way(lab: Lab, homelab: Homelab, via: str) -> None:
    cut_off_creation(lab, homelab, via)
    lab.fault("on", do="error", command="qm unlock")

    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert "POST /nodes/pve3/qemu of VM 100, begun by an earlier run, is not looked after yet" in run.err
    assert "it is locked (create), and it could not be removed" in run.err
    assert list(lab.snapshot()["vms"]) == [100]


@pytest.mark.parametrize(
    ("wire", "kind"),
    [("api", {"method": "DELETE", "path": "/nodes/pve3/storage/**"}), ("ssh", {"command": "pvesm free"})],
)
def test_disk_of_a_creation_that_cannot_be_removed_is_named(
    lab: Lab, homelab: Homelab, wire: str, kind: dict[str, str]
) -> None:
    cut_off_creation(lab, homelab, wire)
    lab.fault("on", do="error", **kind)

    run = homelab("--via", wire, **ONLY_PVE3, **NO_JOIN)

    assert "warning: pve3: volumes of VMID 100 may be left on local" in run.err
    assert "pvesm list local --vmid 100" in run.err
    assert list(tags(lab)) == [101], run.text


def test_vm_that_failed_and_cannot_be_taken_away_is_left_for_the_next_run(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.fault("task-fails", kind="qmstart", node="pve3")
    lab.fault("on", do="error", method="DELETE", path="/nodes/pve3/qemu/*", command="qm destroy")

    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert "warning: VM k3s-vm-pve3 (vmid=100) is left unfinished for the next run" in run.err
    lab.clear_faults()
    assert homelab("--via", via, **ONLY_PVE3, **NO_JOIN).exit_code == 0
    assert tags(lab) == {100: "homelab"}


def test_what_was_begun_on_a_node_that_is_away_is_looked_after_later(lab: Lab, homelab: Homelab, via: str) -> None:
    with killed("POST", "/nodes/pve3/qemu/[0-9]+/status/start"):
        homelab("--via", via, **NO_JOIN)
    lab.fault("node-down", node="pve3")

    away = homelab("--via", via, **NO_JOIN)

    assert away.exit_code == 3, away.text
    assert "of VM 102, begun by an earlier run, is not looked after yet" in away.err
    assert open_writes(homelab) == 1
    lab.clear_faults()
    assert homelab("--via", via, **NO_JOIN).exit_code == 0
    assert open_writes(homelab) == 0
