"""Stories of restraint: reasons not to delete a VM, each with its cure; what is down is started instead."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from e2e.conftest import Homelab
from e2e.world import NO_JOIN, change, nodes_with_running_vm, uuids, vm_on
from pvelab.lab import Lab


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


def firewall_group(lab: Lab, vmid: int) -> None:
    lab.shell("pve1", f"pvesh create /nodes/pve1/qemu/{vmid}/firewall/rules --action web --type group")


def firewall_alias(lab: Lab, vmid: int) -> None:
    lab.shell("pve1", f"pvesh create /nodes/pve1/qemu/{vmid}/firewall/aliases --name desk --cidr 192.0.2.1")


def firewall_set(lab: Lab, vmid: int) -> None:
    lab.shell("pve1", f"pvesh create /nodes/pve1/qemu/{vmid}/firewall/ipset --name trusted")


def firewall_options(lab: Lab, vmid: int) -> None:
    lab.shell("pve1", f"pvesh set /nodes/pve1/qemu/{vmid}/firewall/options --enable 1 --policy_in DROP")


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
        (firewall, "it has firewall settings of its own (rules)", ".fw"),
        (firewall_group, "it has firewall settings of its own (rules)", ".fw"),
        (firewall_alias, "it has firewall settings of its own (aliases)", ".fw"),
        (firewall_set, "it has firewall settings of its own (IP sets)", ".fw"),
        (firewall_options, "it has firewall settings of its own (enable, policy_in)", ".fw"),
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


@pytest.mark.parametrize(("joins_again", "exit_code"), [(True, 0), (False, 3)], ids=["ready-again", "not-ready"])
def test_guarded_vm_that_was_started_is_as_wanted_once_it_is_a_member_again(
    lab: Lab, homelab: Homelab, joins_again: bool, exit_code: int
) -> None:
    lab.reset("stopped")
    permission(lab, 102)
    if not joins_again:
        lab.fault("stuck-boot", vm="k3s-vm-pve3")

    run = homelab("--json")

    assert run.exit_code == exit_code, run.text
    assert json.loads(run.out)["exit_code"] == exit_code
    assert "started (VM is stopped, but permissions of its own are given on it)" in run.out


def test_vm_that_was_joined_is_not_deleted_where_no_cluster_is_named(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    change(lab, vmid, tags="homelab;homelab-agent")
    before = uuids(lab)

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert "it was joined to a k3s cluster, and K3S_EXISTING_NODE_IP is not set" in run.out
