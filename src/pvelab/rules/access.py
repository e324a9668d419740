"""What a VM's configuration may be given, and by whom."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from pvelab.answers import ApiError, Who, bad_parameter, forbidden, refused
from pvelab.formats import PROPERTY_FORMATS, VOLUME_ID, split_property_string
from pvelab.rules import configs, drives, permissions, roles, storages, tags, volume_names
from pvelab.rules.drives import NEW_DISK, Drive
from pvelab.state import World

_OPTIONS = {
    "VM.Config.CPU": "cores cpu cpulimit cpuunits numa smp sockets vcpus",
    "VM.Config.Memory": "memory balloon shares allow-ksm",
    "VM.Config.HWType": "acpi hotplug kvm machine scsihw smbios1 tablet vga watchdog audio0 rng0",
    "VM.Config.Options": (
        "agent autostart bios description keyboard localtime migrate_downtime migrate_speed name onboot ostype"
        " protection reboot startdate startup tdf template"
    ),
    "VM.PowerMgmt": "freeze",
    "VM.Config.Cloudinit": " ".join(sorted(configs.CLOUDINIT_OPTIONS)),
    "VM.Config.Disk": "boot bootdisk vmstatestorage",
}
PRIVILEGES = {option: privilege for privilege, options in _OPTIONS.items() for option in options.split()}
NUMBERED = {
    "ipconfig": "VM.Config.Cloudinit",
    "net": "VM.Config.Network",
    "numa": "VM.Config.CPU",
}
MADE_BY_HAND = "custom-"
_CPU = PROPERTY_FORMATS["pve-vm-cpu-conf"]
CLOUDINIT_INSTEAD = "VM.Config.Network"
"""What does for cloud-init as well."""
JUDGED_BY_VALUE = re.compile(r"tags|(?:unused|serial|usb|hostpci|virtiofs)\d+")


class ConfigAccess:
    """One caller's rights over one VM's configuration."""

    def __init__(self, world: World, who: Who, vmid: int, pool: str = "") -> None:
        self.world = world
        self.who = who
        self.vmid = vmid
        self.pool = pool

    def check_creation(self, params: Mapping[str, str]) -> None:
        """May the VM be made, and what is wanted beside its options?"""
        if "storage" in params:
            permissions.require(self.world, self.who, f"/storage/{params['storage']}", "Datastore.AllocateSpace")
        if params.get("ha-managed") == "1":
            permissions.require(self.world, self.who, "/", "Sys.Console")
        if params.get("start") == "1" and roles.has_9(self.world.profile.release):
            self._need("VM.PowerMgmt")
        if not any(permissions.has_any(self.world, self.who, path, ["VM.Allocate"]) for path in self._paths()):
            raise forbidden()

    def check_options(self, options: Collection[str]) -> None:
        """May these options be set or taken away? Some are for root@pam in person only; drives are judged later."""
        for option in options if not self.who.is_root else ():
            if drives.is_drive(option) or JUDGED_BY_VALUE.fullmatch(option):
                continue
            self._need(*self._privileges(option))
            if option == "startup":
                permissions.require(self.world, self.who, "/", "Sys.Modify")

    def check_devices(self, options: Mapping[str, str]) -> None:
        """May a new VM have these ports and devices of the host, and these tags?"""
        for option, value in options.items():
            if not drives.is_drive(option):
                self.check_change(option, None, value)

    def check_change(self, option: str, before: str | None, after: str | None) -> None:
        """May this one be changed from what it was to what it is to be? None is nothing."""
        if self.who.is_root:
            return
        values = [value for value in (before, after) if value]
        stem = option.rstrip("0123456789")
        if drives.is_drive(option):
            for value in values:
                for privilege in self._drive_privileges(option, value):
                    self._need(privilege)
        elif option == "cpu":
            self._check_model(before or "", after or "")
        elif option == "tags":
            self._need("VM.Config.Options")
            tags.check(self.world, self.who, before or "", after or "")
        elif stem == "unused":
            self._need("VM.Config.Disk")
        elif stem == "serial":
            self._check_serial(option, before, after)
        elif stem in ("usb", "hostpci"):
            for value in values:
                self._check_device(option, stem, value)
        elif stem == "net" and before:
            self.check_bridges({option: before})

    def check_drives(self, options: Mapping[str, str]) -> dict[str, Drive]:
        """The drives among the options, parsed; refused where their syntax or source cannot be."""
        found: dict[str, Drive] = {}
        for option in sorted(options):
            if drives.is_drive(option):
                drive = drives.parse(self.world, option, options[option])
                _check_syntax(option, drive)
                self._check_storage(option, drive)
                self._check_medium(option, drive)
                found[option] = drive
            elif drives.UNUSED.fullmatch(option):
                self._check_unused(options[option])
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

    def _need(self, *privileges: str) -> None:
        """One of the privileges, on the VM or its pool."""
        if not any(permissions.has_any(self.world, self.who, path, privileges) for path in self._paths()):
            raise forbidden(f"/vms/{self.vmid}, {'|'.join(privileges)}")

    def _privileges(self, option: str) -> tuple[str, ...]:
        privilege = PRIVILEGES.get(option) or NUMBERED.get(option.rstrip("0123456789"))
        if privilege is None:
            raise refused(f"only root can set '{option}' config")
        return (privilege, CLOUDINIT_INSTEAD) if privilege == "VM.Config.Cloudinit" else (privilege,)

    def _drive_privileges(self, option: str, value: str) -> tuple[str, ...]:
        drive = drives.parse(self.world, option, value)
        if drives.is_cloudinit(drive):
            return ("VM.Config.Cloudinit", "VM.Config.CDROM")
        return ("VM.Config.CDROM",) if drives.is_cdrom(drive) else ("VM.Config.Disk",)

    def _check_model(self, before: str, after: str) -> None:
        """May the VM have this CPU model, if somebody made it? Source: PVE/API2/Qemu.pm of 8.4 and 9.2."""
        had, model = (split_property_string(_CPU, text).get("cputype", "") for text in (before, after))
        if model == had or not model.startswith(MADE_BY_HAND):
            return
        if roles.has_9(self.world.profile.release):
            name = model.removeprefix(MADE_BY_HAND)
            permissions.require(self.world, self.who, f"/mapping/cpu/{name}", "Mapping.Use")
        else:
            permissions.require(self.world, self.who, "/nodes", "Sys.Audit")

    def _check_serial(self, option: str, before: str | None, after: str | None) -> None:
        if {before, after} <= {None, "socket"}:
            self._need("VM.Config.HWType")
        else:
            doing = "delete" if after is None else "set" if before is None else "modify"
            raise refused(f"only root can {doing} '{option}' config for real devices")

    def _check_device(self, option: str, stem: str, value: str) -> None:
        fields = dict(part.partition("=")[::2] if "=" in part else ("host", part) for part in value.split(","))
        if stem == "usb":
            self._need("VM.Config.HWType")
        if fields.get("host", "").lower() == "spice":
            return
        if "host" in fields:
            kind = "real" if stem == "usb" else "non-mapped"
            raise refused(f"only root can set '{option}' config for {kind} devices")
        if "mapping" not in fields:
            raise refused("either 'host' or 'mapping' must be set.")
        kind = "usb" if stem == "usb" else "pci"
        permissions.require(self.world, self.who, f"/mapping/{kind}/{fields['mapping']}", "Mapping.Use")
        self._need("VM.Config.HWType")

    def _check_storage(self, option: str, drive: Drive) -> None:
        volid = drive["file"]
        new = NEW_DISK.fullmatch(volid)
        if drives.is_cdrom(drive) and volid == "cdrom":
            permissions.require(self.world, self.who, "/", "Sys.Console")
        elif new and not drives.is_cdrom(drive):
            self._check_new_disk(new[1] or "")
        elif volid != "none" and not volid.endswith(":cloudinit"):
            self.check_volume(volid)
            if drives.volume(drive) and self._content(volid) not in ("images", "iso"):
                raise bad_parameter(option, "content type needs to be 'images' or 'iso'")
        source = drive.get("import-from")
        if source:
            self._check_source(option, source)

    def _check_medium(self, option: str, drive: Drive) -> None:
        """An ISO image is for a CD-ROM drive only."""
        volid = drives.volume(drive)
        is_new = NEW_DISK.fullmatch(drive["file"]) or volid.endswith(":cloudinit")
        is_old = self.world.profile.release == storages.RELEASE_BEFORE_IMPORT
        if not volid or is_new or is_old or drives.is_cdrom(drive):
            return
        if self._content(volid) == "iso":
            raise bad_parameter(option, "explicit 'media=cdrom' is required for iso images")

    def _check_unused(self, volid: str) -> None:
        if self._content(volid) != "images":
            raise refused(f"unable to use volume {volid} - content type needs to be 'images'")
        self.check_volume(volid)

    def _content(self, volid: str) -> str:
        storage, name = volume_names.split(volid)
        return volume_names.parse(storages.find(self.world, storage), name).content

    def _check_new_disk(self, name: str) -> None:
        if not name:
            raise refused("no storage ID specified (and no default storage)")
        permissions.require(self.world, self.who, f"/storage/{name}", "Datastore.AllocateSpace")
        if "images" not in storages.find(self.world, name).content:
            raise bad_parameter("storage", f"storage '{name}' does not support vm images")

    def _check_source(self, option: str, source: str) -> None:
        owner = 0
        if VOLUME_ID.fullmatch(source) and not source.startswith("/"):
            name, volume = volume_names.split(source)
            parsed = volume_names.parse(storages.find(self.world, name), volume)
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
    name, volume = volume_names.split(volid)
    parsed = volume_names.parse(storages.find(world, name), volume)
    where = f"/storage/{name}"
    if permissions.has_any(world, who, where, ["Datastore.Allocate"]):
        return
    if parsed.content in ("iso", "vztmpl", "import"):
        permissions.require_any(world, who, where, "Datastore.AllocateSpace", "Datastore.Audit")
    elif parsed.content == "backup" and parsed.vmid not in (0, vmid):
        permissions.require(world, who, where, "Datastore.AllocateSpace")
        permissions.require(world, who, f"/vms/{parsed.vmid}", "VM.Backup")
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
