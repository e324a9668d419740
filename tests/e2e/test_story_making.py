"""Stories of making: what must be seen before a VM is made, deleted or finished, and what stands in its way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.conftest import Homelab
from e2e.interruptions import Meanwhile
from e2e.world import NO_JOIN, before_call, uuids, vm_on
from pvelab.lab import Lab
from pvelab.rules import configs, power, status
from pvelab.state import Acl, Task, Vm, World

# --- absent, or only not to be seen ------------------------------------------------------------------------------


def test_token_that_may_not_see_vms_makes_none(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")

    def restrict(world: World) -> None:
        (token,) = world.tokens.values()
        token.is_separated = True
        world.acls.add(Acl("/", token.tokenid, "PVESysAdmin"))

    lab.look(restrict)
    before = lab.snapshot()

    run = homelab("--via", "api")

    assert run.exit_code == 1, run.text
    assert "error: pve1, pve2, pve3: nothing done: no VM of that name is visible: but the API token" in run.err
    assert "give the token VM.Audit: pveum acl modify /vms" in run.err
    assert lab.snapshot()["vms"] == before["vms"]
    assert lab.writes == []


WITHOUT_PVE3 = {"NODE_3": None, "STORAGE_3": None, "IMG_STORAGE_3": None}


def switch_off_pve3_for_long(lab: Lab) -> None:
    """Its VMs stay listed without a name, and nobody reads their names over SSH."""
    lab.fault("node-down", node="pve3")
    lab.fault("ssh-refused", node="pve1")
    lab.fault("ssh-refused", node="pve2")
    lab.wait_until(lambda world: not status.has_statistics(world, world.nodes["pve3"]), timeout_s=400)


def test_names_on_a_member_that_is_off_hide_no_vm_that_is_listed(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    switch_off_pve3_for_long(lab)

    run = homelab("--via", "api", **WITHOUT_PVE3)

    assert run.exit_code == 0, run.text
    assert run.out.count("is healthy, skipping.") == 2
    assert lab.writes == []


def test_vm_that_may_be_on_a_member_that_is_off_is_not_made_a_second_time(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy", without="pve1")
    switch_off_pve3_for_long(lab)

    run = homelab("--via", "api", **WITHOUT_PVE3, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert "pve1: nothing done: the names of some VMs cannot be read" in run.err
    assert lab.writes == []


@pytest.mark.parametrize("seed", ["fresh", "stopped"])
def test_without_quorum_nothing_is_written(lab: Lab, homelab: Homelab, via: str, seed: str) -> None:
    lab.reset(seed)
    for node in ("pve1", "pve2"):
        lab.fault("node-down", node=node)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert "the Proxmox cluster has no quorum" in run.err
    assert "pvecm status" in run.err
    assert lab.writes == []


def test_vm_on_which_a_task_runs_is_kept(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    before = lab.snapshot()

    def begin_backup(world: World) -> None:
        now = int(world.clock.now())
        upid = f"UPID:pve3:00001000:00001000:{now:08X}:vzdump:{vmid}:root@pam:"
        world.tasks[upid] = Task(upid, "pve3", 0x1000, 0x1000, now, "vzdump", str(vmid), "root@pam")

    lab.look(begin_backup)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert "a Proxmox task is running on it (vzdump)" in run.err
    assert "--source active" in run.err
    assert lab.snapshot()["vms"] == before["vms"]
    assert lab.writes == []


# --- changed meanwhile -------------------------------------------------------------------------------------------


def backed_up(world: World) -> None:
    now = int(world.clock.now())
    upid = f"UPID:pve3:00001000:00001000:{now:08X}:vzdump:102:root@pam:"
    world.tasks[upid] = Task(upid, "pve3", 0x1000, 0x1000, now, "vzdump", "102", "root@pam")


def started_by_a_person(world: World) -> None:
    vm = world.vms[102]
    power.switch_on(world, world.nodes["pve3"], vm, [])


def given_a_disk(world: World) -> None:
    world.vms[102].config["scsi1"] = "local:102/vm-102-disk-9.raw,size=8G"


def moved_away(world: World) -> None:
    world.vms[102].node = "pve2"


def edited(world: World) -> None:
    world.vms[102].config["onboot"] = "0"


@pytest.mark.parametrize(
    ("change", "said", "cure"),
    [
        (started_by_a_person, "it has changed since it was looked at (it is running now)", "run again to decide on"),
        (edited, "it has changed since it was looked at (it is stopped now)", "run again to decide on what is there"),
        (backed_up, "a Proxmox task is running on it (vzdump)", "--source active"),
        (given_a_disk, "it has the data disk scsi1", "qm disk move 102 scsi1"),
        (moved_away, "look where it is now", "qm list on each node"),
    ],
)
def test_vm_that_changes_between_the_look_and_the_deletion_is_not_deleted(
    lab: Lab, homelab: Homelab, via: str, change: Callable[[World], None], said: str, cure: str
) -> None:
    lab.reset("stopped")
    before = uuids(lab)
    before_call(lab, "GET", "/nodes/pve3/storage/local/content", change)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert uuids(lab) == before
    assert said in run.err
    assert cure in run.err


# --- another run at the same time --------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), [("GET", "/nodes/pve1/qemu"), ("POST", "/nodes/pve1/qemu")])
def test_vm_that_another_run_has_made_meanwhile_is_not_made_a_second_time(
    lab: Lab, homelab: Homelab, via: str, method: str, path: str
) -> None:
    def take(world: World) -> None:
        if 100 not in world.vms:
            configs.add(world, Vm(100, "pve1", {"name": "K3s-vm-pve1", "memory": "512"}, world.clock.now()))

    before_call(lab, method, path, take)

    run = homelab("--via", via, NODE_ENABLED_2="0", NODE_ENABLED_3="0", **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert list(lab.snapshot()["vms"]) == [100]
    assert "pve1: VM k3s-vm-pve1 is not made a second time: VM 100 has that name by now" in run.err
    assert "run again when that has ended" in run.err


def test_while_another_run_makes_a_vm_on_the_node_none_is_made_there(lab: Lab, homelab: Homelab, via: str) -> None:
    def begin(world: World) -> None:
        now = int(world.clock.now())
        upid = f"UPID:pve1:00001000:00001000:{now:08X}:qmcreate:100:root@pam:"
        world.tasks[upid] = Task(upid, "pve1", 0x1000, 0x1000, now, "qmcreate", "100", "root@pam")

    before_call(lab, "GET", "/nodes/pve1/qemu", begin)

    run = homelab("--via", via, NODE_ENABLED_2="0", NODE_ENABLED_3="0", **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert lab.snapshot()["vms"] == {}
    assert "is not made a second time: another VM is just being made there" in run.err


def test_vm_that_comes_and_goes_while_one_is_made_is_not_in_the_way(lab: Lab, homelab: Homelab) -> None:
    read = "/nodes/pve2/qemu/300/config"

    def comes(world: World) -> None:
        configs.add(world, Vm(300, "pve2", {"memory": "512"}, world.clock.now()))

    Meanwhile(lab, lambda arrival: arrival.path.endswith("/download-url"), comes)
    Meanwhile(lab, lambda arrival: arrival.path == read, lambda world: configs.remove(world, world.vms[300]))

    run = homelab("--via", "api", NODE_ENABLED_2="0", NODE_ENABLED_3="0", **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert [request.path for request in lab.requests].count(read) == 1
    assert list(lab.snapshot()["vms"]) == [100]
