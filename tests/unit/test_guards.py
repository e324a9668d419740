"""Reasons not to delete a VM, each with what removes it."""

from __future__ import annotations

from typing import Any

import pytest

from homelab.guards import (
    Attachments,
    data_drives,
    k3s_guards,
    lifted_by_force,
    not_lifted_by_force,
    proxmox_guards,
)
from homelab.models import Guard, K3sFacts, VmConfig, VmFacts
from unit.builders import vm

NAME = "k3s-vm-pve1"


def guards_of(found: VmFacts, **attached: Any) -> tuple[Guard, ...]:
    return proxmox_guards(found, NAME, Attachments(**attached))


def test_an_ordinary_vm_may_be_deleted() -> None:
    assert guards_of(vm()) == ()


@pytest.mark.parametrize(
    ("values", "sentence", "cure"),
    [
        ({"template": "1"}, "it is a template", "VM_NAME_n"),
        ({"protection": "1"}, "its protection is on", "qm set 107 --protection 0"),
        ({"name": "database"}, "its name is database, not k3s-vm-pve1", "VM_NAME_n"),
        ({"name": ""}, "its name is (none), not k3s-vm-pve1", "VM_NAME_n"),
        ({"scsi1": "tank:vm-107-disk-1,size=18T"}, "it has the data disk scsi1 (tank:vm-107-disk-1)", "qm disk move"),
        ({"virtio0": "tank:vm-107-disk-1"}, "it has the data disk virtio0 (tank:vm-107-disk-1)", "qm disk move"),
        ({"unused0": "local-zfs:vm-107-disk-3"}, "it has the data disk unused0", "remove"),
        ({"hostpci0": "0000:01:00,pcie=1"}, "it uses host hardware (hostpci0)", "qm set 107 --delete hostpci0"),
        ({"usb1": "host=18d1:9302,usb3=1"}, "it uses host hardware (usb1)", "qm set 107 --delete usb1"),
        ({"virtiofs0": "media"}, "it uses host hardware (virtiofs0)", "qm set 107 --delete virtiofs0"),
        ({"serial1": "/dev/ttyUSB0"}, "it uses host hardware (serial1)", "qm set 107 --delete serial1"),
        ({"parallel0": "/dev/parport0"}, "it uses host hardware (parallel0)", "qm set 107 --delete parallel0"),
    ],
)
def test_what_its_config_shows_forbids_deleting(values: dict[str, str], sentence: str, cure: str) -> None:
    (guard,) = guards_of(vm(values))

    assert guard.sentence.startswith(sentence)
    assert cure in guard.cure


@pytest.mark.parametrize(
    ("status", "sentence", "cure"),
    [
        ({"lock": "backup"}, "it is locked (backup)", "qm unlock 107"),
        ({"is_ha_managed": True}, "it is managed by Proxmox HA", "ha-manager remove vm:107"),
    ],
)
def test_what_its_status_shows_forbids_deleting(status: dict[str, Any], sentence: str, cure: str) -> None:
    (guard,) = guards_of(vm(**status))

    assert guard.sentence == sentence
    assert cure in guard.cure


@pytest.mark.parametrize(
    ("attached", "sentence", "cure"),
    [
        ({"has_snapshots": True}, "it has snapshots", "qm delsnapshot 107"),
        ({"replication_jobs": ("107-0",)}, "it is replicated (107-0)", "pvesr delete 107-0"),
        (
            {"firewall": ("rules", "enable")},
            "it has firewall settings of its own (rules, enable)",
            "/etc/pve/firewall/107.fw",
        ),
        ({"acl_paths": ("/vms/107",)}, "permissions of its own are given on it", "pveum acl list"),
    ],
)
def test_what_hangs_on_it_elsewhere_forbids_deleting(attached: dict[str, Any], sentence: str, cure: str) -> None:
    (guard,) = guards_of(vm(), **attached)

    assert guard.sentence == sentence
    assert cure in guard.cure


@pytest.mark.parametrize(
    ("unread", "command"),
    [
        ("has_snapshots", "qm listsnapshot 107"),
        ("replication_jobs", "pvesr list"),
        ("firewall", "cat /etc/pve/firewall/107.fw"),
        ("acl_paths", "pveum acl list"),
        ("present", "qm config 107 --current"),
    ],
)
def test_what_cannot_be_read_forbids_deleting(unread: str, command: str) -> None:
    (guard,) = guards_of(vm(), **{unread: None})

    assert "cannot be read" in guard.sentence
    assert command in guard.cure


def test_what_it_has_only_until_its_next_start_forbids_deleting() -> None:
    present = VmConfig({"boot": "order=scsi0", "scsi0": "a:b", "scsi1": "tank:vm-107-disk-1", "usb0": "host=1"})

    sentences = [guard.sentence for guard in guards_of(vm({"scsi0": "a:b", "usb0": "host=1"}), present=present)]

    assert sentences == ["it has the data disk scsi1 (tank:vm-107-disk-1)", "it uses host hardware (usb0)"]


def test_every_reason_is_given_at_once() -> None:
    sentences = [guard.sentence for guard in guards_of(vm({"protection": "1", "usb0": "host=1"}), has_snapshots=True)]

    assert sentences == ["its protection is on", "it uses host hardware (usb0)", "it has snapshots"]


def test_the_case_of_its_name_does_not_matter() -> None:
    assert guards_of(vm({"name": "K3s-VM-pve1"})) == ()


@pytest.mark.parametrize(
    "values",
    [
        {"efidisk0": "local-zfs:vm-107-disk-1,size=1M", "tpmstate0": "local-zfs:vm-107-disk-2,size=4M"},
        {"ide0": "none,media=cdrom"},
        {"boot": "", "bootdisk": "scsi0"},
        {"boot": "order=net0;scsi0"},
        {"scsi0": "file=local-zfs:vm-107-disk-0,size=50G"},
    ],
    ids=["efi-and-tpm", "empty-cd-drive", "old-bootdisk-key", "network-first", "file-as-a-key"],
)
def test_its_boot_disk_and_what_belongs_to_the_machine_are_no_data(values: dict[str, str]) -> None:
    assert data_drives(vm(values).config) == ()


def test_where_no_disk_is_known_to_be_the_boot_disk_every_disk_is_data() -> None:
    assert [drive.key for drive in data_drives(vm({"boot": "order=net0"}).config)] == ["scsi0"]


def test_only_the_first_bootable_disk_is_the_boot_disk() -> None:
    found = vm({"boot": "order=scsi1;scsi0", "scsi1": "local-zfs:vm-107-disk-1"})

    assert [drive.key for drive in data_drives(found.config)] == ["scsi0"]


def test_a_person_who_insists_lifts_all_but_template_protection_and_lock() -> None:
    found = vm({"template": "1", "protection": "1", "hostpci0": "0000:01:00", "scsi1": "t:d", "name": "x"}, lock="move")
    stays = lifted_by_force(guards_of(found, has_snapshots=True, acl_paths=None))

    assert [guard.sentence for guard in stays] == [
        "it is a template",
        "its protection is on",
        "it is locked (move)",
    ]


def test_a_person_who_insists_on_a_replacement_does_not_lift_what_the_cluster_says() -> None:
    found = vm({"tags": "homelab;homelab-agent", "scsi1": "t:d", "protection": "1"})
    stays = not_lifted_by_force((*guards_of(found), *k3s_guards(found, K3sFacts(is_wanted=False))))

    assert [guard.sentence for guard in stays] == [
        "its protection is on",
        "it was joined to a k3s cluster, and K3S_EXISTING_NODE_IP is not set",
    ]
