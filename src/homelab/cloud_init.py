"""What a new VM is told: its Proxmox parameters, and the vendor data for its first boot. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import yaml

from homelab.models import TAG, TAG_UNFINISHED, CarriedOver, ImageOnNode, VmSpec
from homelab.settings import GuestConfig

DESCRIPTION = "Made by homelab. Its settings come from .env; changes by hand are kept until the VM is replaced."


def vm_parameters(spec: VmSpec, guest: GuestConfig, image: ImageOnNode) -> dict[str, str]:
    """Parameters of POST /nodes/{node}/qemu for a VM that boots the cloud image.

    The disk is imported in the create itself (from a path only root may name, the client adds it);
    `sshkeys` is URL-encoded as Proxmox wants it.
    """
    carried = spec.carried or CarriedOver(spec.vmid)
    imported = "" if image.needs_root else f",import-from={image.source}"
    parameters = {
        "vmid": str(spec.vmid),
        "name": spec.name,
        "cores": str(spec.cores),
        "memory": str(spec.memory_mib),
        "cpu": spec.cpu_type,
        "ostype": "l26",
        "scsihw": "virtio-scsi-single",
        "scsi0": f"{spec.disk_storage}:0{imported},discard=on,iothread=1",
        "ide2": f"{spec.disk_storage}:cloudinit",
        "boot": "order=scsi0",
        "serial0": "socket",
        "agent": "1",
        "onboot": "1",
        "tags": ";".join(sorted({TAG, TAG_UNFINISHED, *carried.tags})),
        "description": DESCRIPTION,
        "ciuser": guest.user,
        "sshkeys": quote(guest.public_keys.strip() + "\n", safe=""),
        "ipconfig0": spec.ip_config,
        "ciupgrade": "1" if guest.upgrades_packages else "0",
    }
    if guest.nameserver:
        parameters["nameserver"] = guest.nameserver
    if carried.pool:
        parameters["pool"] = carried.pool
    parameters |= {**_networks(spec.bridges, carried.macs), **carried.kept}
    return {**parameters, "description": spec.notes} if spec.notes else parameters


def _networks(bridges: Sequence[str], macs: Mapping[str, str]) -> dict[str, str]:
    networks = {}
    for position, bridge in enumerate(bridges):
        mac = macs.get(f"net{position}")
        networks[f"net{position}"] = f"virtio={mac},bridge={bridge}" if mac else f"virtio,bridge={bridge}"
    return networks


def vendor_data() -> str:
    """The #cloud-config that installs the guest agent. It stands beside the user data, never instead of it."""
    document: Mapping[str, object] = {
        "package_update": True,
        "packages": ["qemu-guest-agent", "curl"],
        "runcmd": [["systemctl", "enable", "--now", "qemu-guest-agent"]],
    }
    return "#cloud-config\n" + yaml.safe_dump(document, sort_keys=False)


def snippet_name(text: str) -> str:
    """The name carries the content, so that a snippet is never overwritten by another one."""
    return f"homelab-vendor-{hashlib.sha256(text.encode()).hexdigest()[:12]}.yaml"


def is_vendor_data(custom: str) -> bool:
    """Is this value of `cicustom` the snippet that homelab brings for the first boot, and nothing of a person's?"""
    return re.fullmatch(r"vendor=[^,:]+:snippets/homelab-vendor-[0-9a-f]+\.yaml", custom) is not None


def static_address(ip_config: str) -> str | None:
    """The address in `ip=192.0.2.5/24,gw=...`; None where the VM asks for one."""
    for part in ip_config.split(","):
        key, _, value = part.partition("=")
        if key == "ip" and "/" in value:
            return value.partition("/")[0]
    return None
