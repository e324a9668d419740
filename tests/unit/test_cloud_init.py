"""What a new VM is told, as Proxmox and cloud-init read it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from homelab.cloud_init import snippet_name, static_address, vendor_data, vm_parameters
from homelab.models import CarriedOver, ImageOnNode, VmSpec, property_string
from unit.builders import GUEST, SPEC

VOLUME = ImageOnNode("local:import/noble-0123456789ab.qcow2", needs_root=False)
PATH = ImageOnNode("/var/lib/vz/template/iso/noble-0123456789ab.img", needs_root=True)


def parameters(spec: VmSpec = SPEC, image: ImageOnNode = VOLUME, **guest: Any) -> dict[str, str]:
    return vm_parameters(spec, replace(GUEST, **guest), image)


def test_its_disk_is_imported_from_the_image_in_the_create_itself() -> None:
    disk = property_string(parameters()["scsi0"])

    assert disk == {
        "": "local-zfs:0",
        "import-from": "local:import/noble-0123456789ab.qcow2",
        "discard": "on",
        "iothread": "1",
    }


def test_a_vm_that_replaces_one_of_a_pool_is_made_in_that_pool() -> None:
    assert "pool" not in parameters()
    assert parameters(replace(SPEC, carried=CarriedOver(107, pool="prod")))["pool"] == "prod"


def test_an_image_that_only_root_may_name_is_left_to_the_client() -> None:
    assert "import-from" not in parameters(image=PATH)["scsi0"]


def test_it_boots_from_a_virtio_scsi_disk_and_has_cloud_init_console_agent_and_onboot() -> None:
    given = parameters()

    assert given["scsihw"].startswith("virtio-scsi")
    assert given["boot"] == "order=scsi0"
    assert given["ide2"] == "local-zfs:cloudinit"
    assert (given["serial0"], given["agent"], given["onboot"]) == ("socket", "1", "1")


def test_it_has_the_size_and_name_that_were_planned() -> None:
    given = parameters()

    assert (given["vmid"], given["name"]) == ("107", "k3s-vm-pve1")
    assert (given["cores"], given["memory"], given["cpu"]) == ("4", "8192", "host")


def test_its_nics_are_the_bridges_in_their_order() -> None:
    given = parameters()

    assert (given["net0"], given["net1"]) == ("virtio,bridge=vmbr0", "virtio,bridge=vmbr1")
    assert "net2" not in given


def test_user_keys_and_address_reach_cloud_init_as_they_were_configured() -> None:
    given = parameters(public_keys="ssh-ed25519 AAAA+/= me@laptop\nssh-rsa BBBB you@desk\n\n")

    assert given["ciuser"] == "ubuntu"
    assert unquote(given["sshkeys"]) == "ssh-ed25519 AAAA+/= me@laptop\nssh-rsa BBBB you@desk\n"
    assert not set(given["sshkeys"]) & set(" +/=\n")
    assert given["ipconfig0"] == "ip=192.0.2.5/24,gw=192.0.2.1"


def test_packages_are_upgraded_only_when_asked_for() -> None:
    assert parameters()["ciupgrade"] == "0"
    assert parameters(upgrades_packages=True)["ciupgrade"] == "1"


def test_a_name_server_is_given_only_when_configured() -> None:
    assert "nameserver" not in parameters()
    assert parameters(nameserver="192.0.2.53")["nameserver"] == "192.0.2.53"


def test_it_is_marked_as_ours_and_unfinished() -> None:
    assert parameters()["tags"] == "homelab;homelab-unfinished"


def test_neither_a_password_nor_user_data_of_our_own_is_among_the_parameters() -> None:
    assert not {"cipassword", "cicustom"} & set(parameters())


def test_a_replacement_keeps_macs_notes_startup_order_and_tags() -> None:
    carried = CarriedOver(
        vmid=107,
        macs={"net0": "BC:24:11:00:01:07"},
        kept={"description": "my notes", "startup": "order=3"},
        tags=frozenset({"rack-2"}),
    )
    spec = replace(SPEC, carried=carried)

    given = parameters(spec)

    assert given["net0"] == "virtio=BC:24:11:00:01:07,bridge=vmbr0"
    assert given["net1"] == "virtio,bridge=vmbr1"
    assert (given["description"], given["startup"]) == ("my notes", "order=3")
    assert given["tags"] == "homelab;homelab-unfinished;rack-2"
    assert parameters(replace(spec, notes="my notes, replaced"))["description"] == "my notes, replaced"


def test_vendor_data_installs_the_agent_and_leaves_user_name_and_keys_to_the_user_data() -> None:
    text = vendor_data()
    document = yaml.safe_load(text)

    assert text.startswith("#cloud-config\n")
    assert "qemu-guest-agent" in document["packages"]
    assert ["systemctl", "enable", "--now", "qemu-guest-agent"] in document["runcmd"]
    assert not {"users", "user", "hostname", "password", "chpasswd", "ssh_authorized_keys"} & set(document)


def test_another_content_gets_another_snippet_name() -> None:
    assert snippet_name("a") == snippet_name("a")
    assert snippet_name("a") != snippet_name("b")
    assert snippet_name("a").endswith(".yaml")


@pytest.mark.parametrize(
    ("ip_config", "address"),
    [
        ("ip=192.0.2.5/24,gw=192.0.2.1", "192.0.2.5"),
        ("gw=192.0.2.1,ip=192.0.2.5/24", "192.0.2.5"),
        ("ip=dhcp", None),
        ("ip=dhcp,ip6=2001:db8::5/64", None),
    ],
)
def test_the_address_of_a_vm_is_known_beforehand_only_when_it_is_static(ip_config: str, address: str | None) -> None:
    assert static_address(ip_config) == address
