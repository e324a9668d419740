"""What a VM's configuration may be given, and by whom."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pvelab.answers import ApiError, Who, bad_parameter, forbidden, refused
from pvelab.formats import VOLUME_ID
from pvelab.rules import configs, drives, permissions, storages, volumes
from pvelab.rules.drives import NEW_DISK, Drive
from pvelab.state import World

_OPTIONS = {
    "VM.Config.CPU": "cores cpu cpulimit cpuunits numa smp sockets vcpus affinity",
    "VM.Config.Memory": "memory balloon shares allow-ksm",
    "VM.Config.HWType": "acpi hotplug kvm machine scsihw smbios1 tablet vga watchdog audio0",
    "VM.Config.Options": (
        "agent autostart bios description keyboard localtime migrate_downtime migrate_speed name onboot ostype"
        " protection reboot startdate startup tdf template tags freeze vmgenid"
    ),
    "VM.Config.Cloudinit": " ".join(sorted(configs.CLOUDINIT_OPTIONS)),
    "VM.Config.Disk": "boot bootdisk vmstatestorage import-working-storage",
    "VM.Config.CDROM": "cdrom",
}
PRIVILEGES = {option: privilege for privilege, options in _OPTIONS.items() for option in options.split()}
NUMBERED = {
    "ipconfig": "VM.Config.Cloudinit",
    "net": "VM.Config.Network",
    "numa": "VM.Config.CPU",
    "unused": "VM.Config.Disk",
}


class ConfigAccess:
    """One caller's rights over one VM's configuration."""

    def __init__(self, world: World, who: Who, vmid: int, pool: str = "") -> None:
        self.world = world
        self.who = who
        self.vmid = vmid
        self.pool = pool

    def check_allocate(self) -> None:
        """May the VM be made?"""
        if not any(permissions.has_any(self.world, self.who, path, ["VM.Allocate"]) for path in self._paths()):
            raise forbidden()

    def check_options(self, options: Mapping[str, str]) -> None:
        """May these options be set? Some are for root@pam in person only."""
        if self.who.is_root:
            return
        for option, value in options.items():
            if drives.is_drive(option):
                self._need("VM.Config.Disk" if "media=cdrom" not in value else "VM.Config.CDROM")
            else:
                self._need(self._privilege(option, value))

    def check_drives(self, options: Mapping[str, str]) -> dict[str, Drive]:
        """The drives among the options, parsed; refused where their syntax or source cannot be."""
        found: dict[str, Drive] = {}
        for option in sorted(options):
            if drives.is_drive(option):
                drive = drives.parse(self.world, option, options[option])
                _check_syntax(option, drive)
                self._check_storage(option, drive)
                found[option] = drive
        return found

    def check_bridges(self, options: Mapping[str, str]) -> None:
        """May the VM be put on these bridges?"""
        for option, value in options.items():
            bridge = drives.parse_net(self.world, value).get("bridge") if drives.NET.fullmatch(option) else None
            if bridge:
                permissions.require(self.world, self.who, f"/sdn/zones/localnetwork/{bridge}", "SDN.Use")

    def check_volume(self, volid: str) -> None:
        """May this volume be read?"""
        if volid.startswith("/"):
            if not self.who.is_root:
                text = "Only root can pass arbitrary filesystem paths. at /usr/share/perl5/PVE/Storage.pm line 651."
                raise refused(text)
            return
        check_volume(self.world, self.who, volid, self.vmid)

    def _paths(self) -> list[str]:
        return [f"/vms/{self.vmid}", *([f"/pool/{self.pool}"] if self.pool else [])]

    def _need(self, privilege: str) -> None:
        if not any(permissions.has_any(self.world, self.who, path, [privilege]) for path in self._paths()):
            raise forbidden(f"/vms/{self.vmid}, {privilege}")

    def _privilege(self, option: str, value: str) -> str:
        if option in PRIVILEGES:
            return PRIVILEGES[option]
        stem = option.rstrip("0123456789")
        if stem in NUMBERED:
            return NUMBERED[stem]
        if stem == "serial":
            if value == "socket":
                return "VM.Config.HWType"
            raise refused(f"only root can set '{option}' config for real devices")
        if option == "rng0" or (stem == "usb" and value.startswith("spice")):
            return "VM.Config.HWType"
        raise refused(f"only root can set '{option}' config")

    def _check_storage(self, option: str, drive: Drive) -> None:
        volid = drive["file"]
        new = NEW_DISK.fullmatch(volid)
        if drives.is_cdrom(drive) and volid == "cdrom":
            permissions.require(self.world, self.who, "/", "Sys.Console")
        elif new and not drives.is_cdrom(drive):
            self._check_new_disk(new[1] or "")
        elif volid != "none" and not volid.endswith(":cloudinit"):
            self.check_volume(volid)
        source = drive.get("import-from")
        if source:
            self._check_source(option, source)

    def _check_new_disk(self, name: str) -> None:
        if not name:
            raise refused("no storage ID specified (and no default storage)")
        permissions.require(self.world, self.who, f"/storage/{name}", "Datastore.AllocateSpace")
        if "images" not in storages.find(self.world, name).content:
            raise bad_parameter("storage", f"storage '{name}' does not support vm images")

    def _check_source(self, option: str, source: str) -> None:
        owner = 0
        if VOLUME_ID.fullmatch(source) and not source.startswith("/"):
            name, volume = volumes.split(source)
            parsed = volumes.parse_name(storages.find(self.world, name), volume)
            if parsed.content not in ("images", "import"):
                is_old = self.world.profile.release == storages.RELEASE_BEFORE_IMPORT
                needed = "not an image" if is_old else "needs to be 'images' or 'import'"
                raise bad_parameter(option, f"{source} has wrong type '{parsed.content}' - {needed}")
            owner = parsed.vmid
        if owner:
            permissions.require(self.world, self.who, f"/vms/{owner}", "VM.Clone")
        else:
            self.check_volume(source)


def check_volume(world: World, who: Who, volid: str, vmid: int = 0) -> None:
    """May somebody read this volume, for the sake of that VM? Raises ApiError."""
    name, volume = volumes.split(volid)
    parsed = volumes.parse_name(storages.find(world, name), volume)
    where = f"/storage/{name}"
    if permissions.has_any(world, who, where, ["Datastore.Allocate"]):
        return
    if parsed.content in ("iso", "vztmpl", "import"):
        permissions.require_any(world, who, where, "Datastore.AllocateSpace", "Datastore.Audit")
    elif parsed.content == "images" and parsed.vmid != vmid:
        permissions.require(world, who, where, "Datastore.Audit")
        permissions.require(world, who, f"/vms/{parsed.vmid}", "VM.Config.Disk")
    elif parsed.content != "images":
        raise ApiError(500, f"missing privileges to access {volid}")


def only_root(who: Who, params: Mapping[str, str], *names: str) -> None:
    """Refuse options that only root@pam in person may use."""
    for name in names:
        if params.get(name, "0") != "0" and not who.is_root:
            raise bad_parameter(name, "Only root may use this option.")


def _check_syntax(option: str, drive: Drive) -> None:
    file = drive["file"]
    new = NEW_DISK.fullmatch(file)
    if "import-from" in drive and (not new or float(new[2]) != 0):
        text = "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>"
        raise bad_parameter(option, text)
    is_volume = new or ":" in file or file in ("none", "cdrom")
    if not is_volume and not re.match(r"/dev/.+", file):
        raise bad_parameter(option, f"unable to associate path '{file}' to any storage")
