"""Stories of replacements: cut off anywhere they go on; what changes under their hands is not deleted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.conftest import Homelab
from e2e.interruptions import Meanwhile, killed, left_over, open_writes, tags
from e2e.world import (
    ALL_MEMBERS,
    NO_JOIN,
    ONLY_PVE3,
    change,
    k3s,
    power_off,
    ready_members,
    servers,
    uuid_of,
    uuids,
    vm_on,
)
from homelab import memory
from homelab.memory import Journal
from homelab.models import CarriedOver
from pvelab.interception import Arrival
from pvelab.lab import Lab
from pvelab.rules import configs
from pvelab.state import World
from support.clock import SteppingClock

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
"""A node's thread that is killed says so."""


def dress(lab: Lab) -> tuple[int, dict[str, str]]:
    """Give the VM of the third node what a replacement keeps; its VMID and settings."""
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"qm set {vmid} --description 'rack 2' --startup order=3 --tags 'homelab;homelab-agent;mine'")
    lab.shell("pve1", "pvesh create /pools --poolid lab")
    lab.shell("pve1", f"pvesh set /pools/lab --vms {vmid}")
    _, vm = vm_on(lab, "pve3")
    return vmid, dict(vm["config"])


CUTS = [
    ("DELETE", "/nodes/pve3/qemu/[0-9]+", False),
    ("DELETE", "/nodes/pve3/qemu/[0-9]+", True),
    ("POST", "/nodes/pve3/qemu", False),
    ("POST", "/nodes/pve3/qemu", True),
    ("POST", "/nodes/pve3/qemu/[0-9]+/status/start", True),
]


@pytest.mark.parametrize(
    ("method", "path", "after"), CUTS, ids=["before-destroy", "destroy", "before-create", "create", "start"]
)
def test_replacement_that_was_killed_goes_on_where_it_was(
    lab: Lab, homelab: Homelab, via: str, method: str, path: str, after: bool
) -> None:
    lab.reset("stopped")
    vmid, before = dress(lab)
    with killed(method, path, after=after):
        homelab("--via", via)

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    found, vm = vm_on(lab, "pve3")
    config = vm["config"]
    assert found == vmid
    assert uuid_of(vm) not in before["smbios1"]
    assert (config["net0"], config["startup"]) == (before["net0"], before["startup"])
    assert config["tags"] == "homelab;homelab-agent;mine"
    assert config["description"].startswith("rack 2\n\nhomelab: replaced 20")
    assert lab.look(lambda world: world.pools["lab"].vmids) == {vmid}
    assert ready_members(lab) == ALL_MEMBERS
    assert "k3s-vm-pve3" not in servers(lab)
    assert k3s(lab)["nodes"]["k3s-vm-pve3"]["uuid"] == uuid_of(vm)
    assert left_over(lab) == {}
    assert open_writes(homelab) == 0


@pytest.mark.parametrize(("method", "path"), [CUTS[1][:2], CUTS[3][:2]], ids=["destroy", "create"])
def test_vm_that_never_ran_is_made_again_as_it_was_however_often_that_is_cut_off(
    lab: Lab, homelab: Homelab, via: str, method: str, path: str
) -> None:
    lab.reset("half-built")
    vmid, before = vm_on(lab, "pve3")
    with killed(method, path, after=True):
        homelab("--via", via, **NO_JOIN)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    found, vm = vm_on(lab, "pve3")
    assert (found, vm["config"]["net0"]) == (vmid, before["config"]["net0"])
    assert "homelab: replaced" not in vm["config"]["description"]
    (journal,) = homelab.home.glob("state/homelab/*/journal.jsonl")
    assert '"replaced"' not in journal.read_text()


def test_unfinished_vm_that_runs_ends_what_was_begun(lab: Lab, homelab: Homelab) -> None:
    lab.reset("half-built")
    with killed("POST", "/nodes/pve3/qemu/[0-9]+/status/start", after=True):
        homelab("--via", "api", **NO_JOIN)

    assert homelab("--via", "api", **NO_JOIN).exit_code == 0

    (journal,) = homelab.home.glob("state/homelab/*/journal.jsonl")
    assert journal.read_text().count('"given-up"') == 1


def test_vm_whose_replacement_turns_out_not_to_be_possible_is_started(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    before = uuids(lab)
    lab.fault("image-broken", how="missing")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert ready_members(lab) == ALL_MEMBERS
    assert "VM k3s-vm-pve3 (vmid=102) started (" in run.out
    assert "404" in run.out


def note_begun(homelab: Homelab, node: str, carried: CarriedOver) -> None:
    """As an earlier run does that begins to replace the VM of a node."""
    journal = Journal(homelab.state_folder() / "journal.jsonl", SteppingClock())
    memory.note_replacing(journal, f"k3s-vm-{node}", node, carried)


def test_vm_that_is_gone_is_made_as_noted_even_if_its_storage_is_gone_too(lab: Lab, homelab: Homelab) -> None:
    carried = CarriedOver(
        vmid=321,
        macs={"net0": "BC:24:11:00:03:21"},
        kept={"startup": "order=7"},
        tags=frozenset({"mine"}),
        volumes=("gone:vm-321-disk-0",),
    )
    note_begun(homelab, "pve3", carried)

    run = homelab(**ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert "VM k3s-vm-pve3 (vmid=321) recreated (an earlier run had begun to replace it)" in run.out
    config = lab.snapshot()["vms"][321]["config"]
    assert (config["tags"], config["startup"]) == ("homelab;mine", "order=7")
    assert "BC:24:11:00:03:21" in config["net0"]
    assert "homelab: replaced " in config["description"]


def test_server_that_was_taken_out_of_the_cluster_and_not_deleted_yet_is_replaced_by_a_server(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("stopped-server")
    (vmid, before), *_ = lab.snapshot()["vms"].items()
    note_begun(homelab, "pve1", CarriedOver(vmid, uuid_of(before), role="homelab-server"))
    lab.shell("k3s-server", "kubectl delete node k3s-vm-pve1")
    lab.wait_until(lambda _: "k3s-vm-pve1" not in str(k3s(lab)["members"]))

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert uuids(lab)[vmid] != uuid_of(before)
    assert "k3s-vm-pve1" in servers(lab)
    assert ready_members(lab) == ALL_MEMBERS
    assert tags(lab)[vmid] == "homelab;homelab-server"


def test_replacement_whose_vmid_somebody_took_meanwhile_gets_another(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, before = dress(lab)
    with killed("POST", "/nodes/pve3/qemu"):
        homelab("--via", via)
    lab.shell("pve1", f"qm create {vmid} --name theirs")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    found, vm = vm_on(lab, "pve3")
    assert found == 103
    assert vm["config"]["net0"] == before["net0"]


def test_replacement_that_was_given_up_is_forgotten_once_the_old_vm_runs(lab: Lab, homelab: Homelab) -> None:
    lab.reset("stopped")
    before = uuids(lab)
    with killed("DELETE", "/nodes/pve3/qemu/[0-9]+"):
        homelab(**NO_JOIN)
    lab.shell("pve3", "qm start 102")

    assert homelab(**NO_JOIN).exit_code == 0

    assert uuids(lab) == before
    (journal,) = homelab.home.glob("state/homelab/*/journal.jsonl")
    assert journal.read_text().count('"given-up"') == 1


def change_tags(world: World) -> None:
    """A person marks the third node's VM."""
    (vm,) = (vm for vm in world.vms.values() if vm.node == "pve3")
    vm.config["tags"] = "homelab;homelab-keep"
    configs.save(world, vm)


@pytest.mark.parametrize("settings", [{}, {"STOPPED_VM": "start"}], ids=["by-hand", "does-not-start"])
def test_no_second_vm_is_replaced_while_the_replacement_of_one_is_ended(
    lab: Lab, homelab: Homelab, settings: dict[str, str]
) -> None:
    lab.reset("stopped")
    with killed("POST", "/nodes/pve3/qemu"):
        homelab(**NO_JOIN)
    vmid, vm = vm_on(lab, "pve2")
    power_off(lab, "pve2")
    change(lab, vmid, net0=vm["config"]["net0"].replace("vmbr0", "vmbr9"))

    run = homelab(**settings, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert "recreated (an earlier run had begun to replace it)" in run.out
    assert f"VM k3s-vm-pve2 (vmid={vmid}) does not start" in run.err
    assert uuid_of(vm_on(lab, "pve2")[1]) == uuid_of(vm)


def rename(world: World) -> None:
    """A person gives the third node's VM another name."""
    (vm,) = (vm for vm in world.vms.values() if vm.node == "pve3")
    vm.config["name"] = "mine-now"
    configs.save(world, vm)


def is_stop(arrival: Arrival) -> bool:
    return arrival.path.endswith("/status/stop") or arrival.command_line.startswith("qm stop")


def test_vm_that_is_marked_while_it_is_switched_off_is_not_deleted(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("paused")
    before = uuids(lab)
    Meanwhile(lab, is_stop, change_tags)

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert "is not deleted: it has changed since it was looked at (it is stopped now)" in run.err
    assert uuids(lab) == before
    assert "k3s-vm-pve3" in k3s(lab)["nodes"]


def is_resize(arrival: Arrival) -> bool:
    return arrival.path.endswith("/resize") or arrival.command_line.startswith("qm resize")


def is_start(arrival: Arrival) -> bool:
    return arrival.path.endswith("/status/start") or arrival.command_line.startswith("qm start")


def test_failed_vm_that_somebody_has_taken_over_is_not_taken_away(lab: Lab, homelab: Homelab, via: str) -> None:
    Meanwhile(lab, is_start, rename)
    lab.fault("task-fails", kind="qmstart", node="pve3")

    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert lab.snapshot()["vms"][100]["config"]["name"] == "mine-now"


def change_notes(world: World) -> None:
    """A person writes into the notes of the third node's VM."""
    (vm,) = (vm for vm in world.vms.values() if vm.node == "pve3")
    vm.config["description"] = "do not delete, Bob"
    configs.save(world, vm)


def put_under_ha(world: World) -> None:
    """A person hands the third node's VM to HA, which its config does not show."""
    world.ha["vm:102"] = {"state": "stopped"}


def replicate(world: World) -> None:
    """A person has the disks of the third node's VM copied, which its config does not show."""
    world.replications["102-0"] = {"id": "102-0", "guest": "102", "target": "pve2", "type": "local"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put_under_ha, "it has changed since it was looked at"),
        (replicate, "it is replicated by now (102-0)"),
    ],
    ids=["ha", "replication"],
)
def test_vm_that_is_given_to_ha_or_replicated_while_it_leaves_the_cluster_is_not_deleted(
    lab: Lab, homelab: Homelab, via: str, change: Callable[[World], None], said: str
) -> None:
    lab.reset("stopped")
    before = uuids(lab)
    Meanwhile(lab, lambda arrival: "delete node" in arrival.command_line, change)

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert f"VM k3s-vm-pve3 (vmid=102) is not deleted: {said}" in run.err
    assert uuids(lab) == before


def test_vm_that_changes_while_it_leaves_the_cluster_is_not_deleted(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    before = uuids(lab)
    Meanwhile(lab, lambda arrival: "delete node" in arrival.command_line, change_notes)

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert "VM k3s-vm-pve3 (vmid=102) is not deleted: it has changed since it was looked at" in run.err
    assert uuids(lab) == before
    assert homelab("--via", via).exit_code == 0
    assert lab.snapshot()["vms"][102]["config"]["description"].startswith("do not delete, Bob")
    assert ready_members(lab) == ALL_MEMBERS


def is_password(arrival: Arrival) -> bool:
    is_by_api = (arrival.method, arrival.path) == ("PUT", "/nodes/pve3/qemu/100/config")
    return is_by_api or "--cipassword" in arrival.command_line


@pytest.mark.parametrize("moment", [is_resize, is_password], ids=["resize", "password"])
def test_new_vm_that_a_person_changes_before_its_first_start_is_left_as_it_is_until_the_next_run(
    lab: Lab, homelab: Homelab, via: str, moment: Callable[[Arrival], bool]
) -> None:
    Meanwhile(lab, moment, change_notes)
    password = {"CLOUD_PASSWORD": "canary pass#1"}

    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN, **password)

    assert run.exit_code == 1, run.text
    assert "checksum mismatch" in run.err
    assert tags(lab) == {100: "homelab;homelab-unfinished"}
    assert lab.snapshot()["vms"][100]["status"] == "stopped"
    again = homelab("--via", via, **ONLY_PVE3, **NO_JOIN, **password)
    assert again.exit_code == 0, again.text
    assert tags(lab) == {100: "homelab"}
    assert lab.snapshot()["vms"][100]["config"]["cipassword"].startswith("$5$")


def test_setting_is_not_written_over_a_change_that_came_in_between(lab: Lab, homelab: Homelab, via: str) -> None:
    def takes_mark_away(arrival: Arrival) -> bool:
        is_by_api = (arrival.method, arrival.path) == ("PUT", "/nodes/pve3/qemu/100/config")
        is_by_command = arrival.command_line.startswith("qm set 100 ") and "--tags" in arrival.command_line
        return is_by_command or (is_by_api and lab.look(lambda world: world.vms[100].is_running))

    Meanwhile(lab, takes_mark_away, change_notes)

    run = homelab("--via", via, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert "checksum mismatch" in run.err
    assert tags(lab) == {100: "homelab;homelab-unfinished"}
    assert homelab("--via", via, **ONLY_PVE3, **NO_JOIN).exit_code == 0
    assert tags(lab) == {100: "homelab"}
    assert lab.snapshot()["vms"][100]["config"]["description"] == "do not delete, Bob"
