"""Drives and network cards in a VM's configuration: parsed, printed, told apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pvelab import schema
from pvelab.formats import join_property_string
from pvelab.state import World

CREATE = "/nodes/{node}/qemu"
DRIVE = re.compile(r"(?:ide|sata|scsi|virtio)\d+|efidisk0|tpmstate0")
UNUSED = re.compile(r"unused\d+")
NET = re.compile(r"net\d+")
NEW_DISK = re.compile(r"(?:([^/:\s]+):)?(\d+(?:\.\d+)?)")
CLOUDINIT_VOLUME = re.compile(r"[^:]+:(?:\d+/)?vm-\d+-cloudinit(?:\.\w+)?")
BUSES = ("ide", "scsi", "virtio", "sata")

Drive = dict[str, str]


def is_drive(option: str) -> bool:
    """Is it scsi0, ide2, efidisk0 ...?"""
    return DRIVE.fullmatch(option) is not None


def parse(world: World, option: str, text: str) -> Drive:
    """A drive's fields; `file` is the volume."""
    return schema.parse_properties(_schema(world, option), text)


def show(world: World, option: str, drive: Mapping[str, str]) -> str:
    """A drive as Proxmox writes it."""
    return join_property_string(schema.property_format(_schema(world, option)), drive)


def canonical_net(world: World, text: str) -> str:
    """A network card as Proxmox writes it, with a MAC address made up if it has none."""
    fields = schema.parse_properties(_schema(world, "net0"), text)
    model = fields.pop("model")
    mac = fields.pop("macaddr", "") or new_mac(world)
    return ",".join([f"{model}={mac}", *(f"{key}={fields[key]}" for key in sorted(fields))])


def parse_net(world: World, text: str) -> dict[str, str]:
    """A network card's fields: model, macaddr, bridge ..."""
    return schema.parse_properties(_schema(world, "net0"), text)


def new_mac(world: World) -> str:
    """A MAC address in Proxmox's own range."""
    return "BC:24:11:" + ":".join(f"{world.random.randrange(256):02X}" for _ in range(3))


def is_cdrom(drive: Mapping[str, str]) -> bool:
    """Is it a CD-ROM, the cloud-init drive included?"""
    return drive.get("media") == "cdrom"


def is_cloudinit(drive: Mapping[str, str]) -> bool:
    """Is it the drive with the cloud-init data?"""
    return CLOUDINIT_VOLUME.fullmatch(drive["file"]) is not None


def volume(drive: Mapping[str, str]) -> str:
    """The drive's volume id; empty for none, cdrom and device paths."""
    return drive["file"] if ":" in drive["file"] and not drive["file"].startswith("/") else ""


def of_config(world: World, config: Mapping[str, str], *, unused: bool = False) -> Iterator[tuple[str, Drive]]:
    """Every drive of a configuration with its option, by option name."""
    for option in sorted(config):
        if is_drive(option) or (unused and UNUSED.fullmatch(option)):
            yield option, parse(world, option, config[option])


def boot_devices(config: Mapping[str, str]) -> list[str]:
    """The devices of the boot order."""
    order = config.get("boot", "")
    return order.removeprefix("order=").split(";") if order.startswith("order=") else []


def show_boot(devices: list[str]) -> str:
    """A boot order as Proxmox writes it."""
    return f"order={';'.join(devices)}" if devices else " "


def default_boot(world: World, config: Mapping[str, str]) -> str:
    """The boot order of a VM that was given none: first disk, first CD-ROM, first network card."""
    names = [f"{bus}{n}" for bus in BUSES for n in range(schema.COUNTS[bus])]
    present = [(name, parse(world, name, config[name])) for name in names if name in config]
    disks = [name for name, drive in present if not is_cdrom(drive)]
    cdroms = [name for name, drive in present if is_cdrom(drive)]
    nets = [name for name in (f"net{n}" for n in range(schema.COUNTS["net"])) if name in config]
    return show_boot(disks[:1] + cdroms[:1] + nets[:1])


def boot_disk(world: World, config: Mapping[str, str]) -> str:
    """The option of the disk the VM boots from, empty if there is none."""
    for device in boot_devices(config):
        if is_drive(device) and device in config and not is_cdrom(parse(world, device, config[device])):
            return device
    return ""


def first_unused(config: Mapping[str, str]) -> str:
    """The lowest free unusedN."""
    return next(name for name in (f"unused{n}" for n in range(256)) if name not in config)


def _schema(world: World, option: str) -> Mapping[str, object]:
    return schema.load(world.profile.release).properties(CREATE, "POST")[option]
