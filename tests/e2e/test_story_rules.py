"""Stories of restraint: what is never deleted, what is started instead, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from e2e.conftest import Homelab, Run
from e2e.world import nodes_with_running_vm, ready_members, take_out, uuid_of, uuids, vm_on
from pvelab.lab import Lab
from pvelab.rules import configs, power
from pvelab.state import Vm, World

NO_JOIN = {"K3S_EXISTING_NODE_IP": None}
"""Where the cluster has no part in the story."""


def change(lab: Lab, vmid: int, **values: str) -> None:
    """Edit a VM's configuration; an empty text removes a line."""

    def edit(world: World) -> None:
        config = world.vms[vmid].config
        config.update(values)
        world.vms[vmid].config = {key: value for key, value in config.items() if value}

    lab.look(edit)


def power_off(lab: Lab, *nodes: str) -> None:
    """The VMs on these nodes crash."""

    def crash(world: World) -> None:
        for vm in world.vms.values():
            if vm.node in nodes:
                power.switch_off(world, vm)

    lab.look(crash)


def assert_untouched(lab: Lab, before: dict[str, Any]) -> None:
    assert lab.snapshot()["vms"] == before["vms"]
    assert lab.writes == []


# --- kept by choice ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "tags", "reason"),
    [
        pytest.param({"STOPPED_VM": "keep"}, "homelab", "STOPPED_VM=keep", id="setting"),
        pytest.param({}, "homelab;homelab-keep", "it carries the tag homelab-keep", id="tag"),
        pytest.param({"NODE_ENABLED_3": "0"}, "homelab", "NODE_ENABLED_3=0", id="disabled"),
    ],
)
@pytest.mark.parametrize("seed", ["stopped", "paused"])
def test_vm_that_is_down_by_choice_is_kept_and_that_is_no_trouble(
    lab: Lab, homelab: Homelab, via: str, seed: str, settings: dict[str, str], tags: str, reason: str
) -> None:
    lab.reset(seed)
    vmid, _ = vm_on(lab, "pve3")
    change(lab, vmid, tags=tags)
    before = lab.snapshot()

    run = homelab("--via", via, **settings)

    assert run.exit_code == 0, run.text
    assert f"VM k3s-vm-pve3 (vmid={vmid}) is left as it is: VM is {seed}; {reason}" in run.out
    assert_untouched(lab, before)


def test_nothing_is_made_on_a_disabled_node(lab: Lab, homelab: Homelab, via: str) -> None:
    run = homelab("--via", via, NODE_ENABLED_2="0", **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve3"]
    assert "NODE_ENABLED_2=0, nothing is wanted there" in run.out


@pytest.mark.parametrize("seed", ["stopped", "paused"])
def test_with_stopped_vm_start_it_goes_on_as_it_was(lab: Lab, homelab: Homelab, via: str, seed: str) -> None:
    lab.reset(seed)
    before = uuids(lab)

    run = homelab("--via", via, STOPPED_VM="start")

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert "k3s-vm-pve3 (vmid=102) started" in run.out
    assert "STOPPED_VM=start" in run.out


@pytest.mark.parametrize("seed", ["healthy", "unknown"])
def test_vm_of_a_disabled_node_is_left_alone_whatever_its_state(
    lab: Lab, homelab: Homelab, via: str, seed: str
) -> None:
    lab.reset(seed)
    if seed == "healthy":
        take_out(lab, "k3s-vm-pve3")
    before = lab.snapshot()["vms"]

    run = homelab("--via", via, NODE_ENABLED_3="0")

    assert run.exit_code == 0, run.text
    assert lab.snapshot()["vms"] == before
    assert "k3s-vm-pve3" not in ready_members(lab) or seed == "unknown"
    assert "VM k3s-vm-pve3 (vmid=102) is left as it is: " in run.out
    assert "; NODE_ENABLED_3=0" in run.out


# --- guarded -----------------------------------------------------------------------------------------------------


def data_disk(lab: Lab, vmid: int) -> None:
    lab.shell("pve1", f"qm set {vmid} --scsi1 local-lvm:8")


def data_disk_until_the_next_start(lab: Lab, vmid: int) -> None:
    data_disk(lab, vmid)
    lab.look(lambda world: world.vms[vmid].unplug.update(scsi1=False))


def snapshot(lab: Lab, vmid: int) -> None:
    lab.shell("pve1", f"qm snapshot {vmid} before")


def passthrough(lab: Lab, vmid: int) -> None:
    lab.shell("pve1", f"qm set {vmid} --hostpci0 0000:01:00.0")


def protection(lab: Lab, vmid: int) -> None:
    lab.shell("pve1", f"qm set {vmid} --protection 1")


def firewall(lab: Lab, vmid: int) -> None:
    lab.shell("pve1", f"pvesh create /nodes/pve1/qemu/{vmid}/firewall/rules --action ACCEPT --type in")


def permission(lab: Lab, vmid: int) -> None:
    lab.shell("pve1", f"pvesh set /access/acl --path /vms/{vmid} --users root@pam --roles PVEVMUser")


def replication(lab: Lab, vmid: int) -> None:
    job = {"id": f"{vmid}-0", "guest": str(vmid), "target": "pve2", "type": "local"}
    lab.look(lambda world: world.replications.update({f"{vmid}-0": job}))


@pytest.mark.parametrize(
    ("guard", "sentence", "cure"),
    [
        (data_disk, "it has the data disk scsi1 (local-lvm:vm-", "qm disk move"),
        (data_disk_until_the_next_start, "it has the data disk scsi1 (local-lvm:vm-", "qm disk move"),
        (snapshot, "it has snapshots", "qm delsnapshot"),
        (passthrough, "it uses host hardware (hostpci0)", "--delete hostpci0"),
        (protection, "its protection is on", "--protection 0"),
        (firewall, "it has 1 firewall rule(s) of its own", ".fw"),
        (permission, "permissions of its own are given on it", "pveum acl list"),
        (replication, "it is replicated (", "pvesr delete"),
    ],
)
def test_guarded_vm_that_is_down_is_started_and_the_guard_is_named_with_its_cure(
    lab: Lab, homelab: Homelab, via: str, guard: Callable[[Lab, int], None], sentence: str, cure: str
) -> None:
    lab.reset("stopped-server")
    vmid, _ = vm_on(lab, "pve1")
    guard(lab, vmid)
    before = uuids(lab)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert f"started (VM is stopped, but {sentence}" in run.out
    assert cure in run.err


def template(lab: Lab, vmid: int) -> None:
    lab.shell("pve1", f"qm template {vmid}")


def high_availability(lab: Lab, vmid: int) -> None:
    lab.shell("pve1", f"pvesh create /cluster/ha/resources --sid vm:{vmid}")


@pytest.mark.parametrize(
    ("guard", "sentence", "cure"),
    [
        (template, "it is a template", "VM_NAME_n"),
        (high_availability, "it is managed by Proxmox HA", "ha-manager remove vm:"),
    ],
)
@pytest.mark.parametrize("seed", ["stopped-server", "power-cut"])
def test_template_and_ha_managed_vm_are_not_even_started(
    lab: Lab, homelab: Homelab, via: str, guard: Callable[[Lab, int], None], sentence: str, cure: str, seed: str
) -> None:
    lab.reset(seed)
    vmid, before = vm_on(lab, "pve1")
    guard(lab, vmid)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    after = lab.snapshot()["vms"][vmid]
    assert (after["status"], after["config"]["smbios1"]) == ("stopped", before["config"]["smbios1"])
    assert f"VM k3s-vm-pve1 (vmid={vmid}) is kept: " in run.err
    assert sentence in run.err
    assert cure in run.err


def test_vm_that_was_joined_is_not_deleted_where_no_cluster_is_named(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    change(lab, vmid, tags="homelab;homelab-agent")
    before = uuids(lab)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert "it was joined to a k3s cluster, and K3S_EXISTING_NODE_IP is not set" in run.out


# --- how many ----------------------------------------------------------------------------------------------------


def test_where_no_replacement_is_allowed_the_vm_is_started(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    before = uuids(lab)

    run = homelab("--via", via, MAX_REPLACEMENTS="0", **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert "MAX_REPLACEMENTS=0 is used up" in run.out
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]


def test_two_vms_down_at_once_are_started_not_deleted(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    power_off(lab, "pve2", "pve3")
    before = uuids(lab)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert run.out.count("as after a power cut") == 2


def test_vm_that_is_down_on_another_node_counts_among_those_that_are_down(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    lab.shell("pve2", "qm stop 101 && qm destroy 101 && sleep 2")
    twin(lab, 140, "pve1", "k3s-vm-pve2")
    _, before = vm_on(lab, "pve3")

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert uuid_of(vm_on(lab, "pve3")[1]) == uuid_of(before)
    assert "and it is on pve1, not on pve2: left alone" in run.err
    assert run.out.count("as after a power cut") == 1


def test_of_those_that_do_not_start_after_a_power_cut_only_as_many_as_allowed_are_replaced(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("power-cut")
    before = uuids(lab)
    for node in ("pve2", "pve3"):
        vmid, vm = vm_on(lab, node)
        change(lab, vmid, net0=vm["config"]["net0"].replace("vmbr0", "vmbr9"))

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    after = uuids(lab)
    changed = [vmid for vmid in before if before[vmid] != after[vmid]]
    assert len(changed) == 1
    assert len(nodes_with_running_vm(lab)) == 2
    assert run.err.count("does not start: ") == 1
    assert "bridge 'vmbr9' does not exist" in run.err


def test_vm_whose_start_still_goes_on_after_its_time_is_not_replaced(lab: Lab, homelab: Homelab) -> None:
    lab.reset("power-cut")
    before = uuids(lab)
    lab.fault("on", do="task-never-ends", method="POST", path="/nodes/pve3/qemu/102/status/start")

    run = homelab("--via", "api", **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert uuids(lab) == before
    assert "VM k3s-vm-pve3 (vmid=102) does not start: task qmstart of VM 102 on pve3: not within" in run.err


def test_vm_that_does_not_start_and_may_not_be_deleted_is_reported(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, vm = vm_on(lab, "pve3")
    change(lab, vmid, protection="1", net0=vm["config"]["net0"].replace("vmbr0", "vmbr9"))
    before = uuids(lab)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert uuids(lab) == before
    assert f"VM k3s-vm-pve3 (vmid={vmid}) does not start" in run.err
    assert "make vmbr9 on the node, or set NETWORK_IFACES_n" in run.err
    assert "its protection is on" in run.text


@pytest.mark.parametrize(
    ("settings", "problem", "cure"),
    [
        ({"NETWORK_IFACES_3": "vmbr7"}, "bridge vmbr7 is missing", "create it on pve3"),
        ({"VM_MEMORY_3": "60000"}, "not enough memory for the VM", "set VM_MEMORY_3"),
        ({"IMG_STORAGE_3": "tank"}, "storage tank is not there", "set IMG_STORAGE_3"),
    ],
)
def test_vm_whose_replacement_could_not_be_made_is_started_instead(
    lab: Lab, homelab: Homelab, via: str, settings: dict[str, str], problem: str, cure: str
) -> None:
    lab.reset("stopped")
    before = uuids(lab)

    run = homelab("--via", via, **settings, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert problem in run.out
    assert cure in run.err


# --- whose VM is it ----------------------------------------------------------------------------------------------


def twin(lab: Lab, vmid: int, node: str, name: str) -> None:
    """Another VM of that name appears on a node."""

    def add(world: World) -> None:
        vm = Vm(vmid, node, {"name": name, "memory": "512", "meta": "creation-qemu=10.0.13"}, world.clock.now())
        configs.add(world, vm)

    lab.look(add)


def test_of_two_vms_of_one_name_neither_is_touched(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    twin(lab, 300, "pve1", "k3s-vm-pve3")
    before = lab.snapshot()

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert f"k3s-vm-pve3 is not one VM: that name is carried by {vmid} on pve3, 300 on pve1" in run.err
    assert "set VMID_3 to the right one" in run.err
    assert_untouched(lab, before)


def test_vmid_in_the_configuration_tells_which_of_two_is_meant(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    vmid, _ = vm_on(lab, "pve3")
    twin(lab, 300, "pve1", "k3s-vm-pve3")

    run = homelab("--via", via, VMID_3=str(vmid), **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert run.out.count("is healthy, skipping.") == 3
    assert lab.writes == []


@pytest.mark.parametrize(
    ("vmid", "said", "cure"),
    [
        ("100", "VMID_3=100 is another VM: it is named k3s-vm-pve1 on pve1, not k3s-vm-pve3", "set VM_NAME_3"),
        ("900", "VMID_3=900 is not there: the name k3s-vm-pve3 is carried by 102 on pve3", "set VMID_3=102"),
    ],
)
def test_vmid_that_is_not_that_vm_stops_the_node(
    lab: Lab, homelab: Homelab, via: str, vmid: str, said: str, cure: str
) -> None:
    lab.reset("stopped")
    before = lab.snapshot()

    run = homelab("--via", via, VMID_3=vmid, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert said in run.err
    assert cure in run.err
    assert_untouched(lab, before)


def only_pve1_but_its_vm_is_on_pve3(homelab: Homelab, via: str) -> Run:
    gone = {f"{key}_{n}": None for key in ("NODE", "STORAGE", "IMG_STORAGE") for n in (2, 3)}
    return homelab("--via", via, VM_NAME_1="k3s-vm-pve3", **gone, **NO_JOIN)


def test_running_vm_on_another_node_is_left_there_and_that_is_said(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")

    run = only_pve1_but_its_vm_is_on_pve3(homelab, via)

    assert run.exit_code == 0, run.text
    assert "is healthy, skipping. (on pve3, not on pve1: kept there)" in run.out
    assert lab.writes == []


def test_stopped_vm_on_another_node_is_left_alone_and_reported(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    before = lab.snapshot()

    run = only_pve1_but_its_vm_is_on_pve3(homelab, via)

    assert run.exit_code == 1, run.text
    assert "VM is stopped, and it is on pve3, not on pve1: left alone" in run.err
    assert "qm migrate 102 pve1" in run.err
    assert_untouched(lab, before)


def test_healthy_vm_of_the_old_script_is_kept_and_named_as_such(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    vmid, _ = vm_on(lab, "pve3")
    change(lab, vmid, tags="")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert f"VM k3s-vm-pve3 (vmid={vmid}) is healthy, skipping. (not made by homelab)" in run.out
    assert lab.writes == []


def test_stopped_vm_of_the_old_script_follows_the_same_rules(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    change(lab, vmid, tags="")
    before = uuids(lab)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab)[vmid] != before[vmid]
    assert "homelab" in lab.snapshot()["vms"][vmid]["config"]["tags"].split(";")


def test_replacement_is_made_in_the_pool_of_the_vm_that_it_replaces(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"pvesh create /pools --poolid prod; pvesh set /pools/prod --vms {vmid}")
    before = uuids(lab)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab)[vmid] != before[vmid]
    assert lab.look(lambda world: world.pools["prod"].vmids) == {vmid}


def test_locked_vm_that_runs_is_healthy_and_its_lock_is_named(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    vmid, _ = vm_on(lab, "pve3")
    change(lab, vmid, lock="backup")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert "is healthy, skipping. (locked: backup)" in run.out
    assert lab.writes == []
