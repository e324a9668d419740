"""Changing a VM's configuration: at once, by hot plug, or with the next start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pvelab import progress, schema
from pvelab.answers import ApiError, WarningLine, Who, bad_parameter, refused
from pvelab.formats import split_list
from pvelab.rules import applying, cloudinit, configs, creation, disks, drives
from pvelab.rules.access import ConfigAccess, only_root
from pvelab.rules.drives import UNUSED, Drive
from pvelab.rules.volumes import Log
from pvelab.state import Node, Task, Vm, World

CONTROL = (
    "background_delay",
    "delete",
    "digest",
    "force",
    "import-working-storage",
    "node",
    "revert",
    "skip_cloud_init",
    "skiplock",
    "vmid",
)
APPLIED_AT_ONCE = frozenset(
    {"description", "hookscript", "lock", "migrate_downtime", "migrate_speed", "name", "onboot", "protection",
     "shares", "startup", "tags", "vmstatestorage", *configs.CLOUDINIT_OPTIONS}
)  # fmt: skip
HOT_PLUGGED_BUSES = ("scsi", "virtio")
DEFAULT_MEMORY_MIB = "512"
DEFAULT_HOTPLUG = "network,disk,usb"


@dataclass(frozen=True, slots=True)
class Change:
    """A checked change of one VM's configuration."""

    vm: Vm
    options: Mapping[str, str]
    drives: Mapping[str, Drive]
    deletions: tuple[str, ...]
    reverts: tuple[str, ...]
    is_forced: bool
    shown: str
    access: ConfigAccess


async def update(world: World, node: Node, params: Mapping[str, str], who: Who) -> Log:
    """PUT config: carried out before the answer, once no task holds the VM. Returns the output. Raises ApiError."""
    await progress.until_free(world, int(params["vmid"]))
    change = _check(world, node, params, who)
    log: Log = []
    try:
        _carry_out(world, node, change, log)
    except ApiError as error:
        error.log = log
        raise
    return log


async def update_in_task(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST config: checked at once, carried out by a task. Returns its UPID. Raises ApiError."""
    change = _check(world, node, params, who)

    async def work(task: Task) -> progress.Steps:
        copied = disks.source_bytes(world, node, change.drives)
        yield world.timings.config_s + copied / world.timings.import_bytes_per_s
        _carry_out(world, node, change, task.log)

    return await progress.begin(world, progress.Job(node, "qmconfig", str(change.vm.vmid), who, change.vm.vmid), work)


def _check(world: World, node: Node, params: Mapping[str, str], who: Who) -> Change:
    vmid = int(params["vmid"])
    options = {name: value for name, value in params.items() if name not in CONTROL}
    if "cdrom" in options:
        options["ide2"] = options.pop("cdrom") + ",media=cdrom"
    deletions = split_list(params.get("delete", ""))
    only_root(who, params, "skiplock")
    if not options and not deletions and "revert" not in params:
        raise refused("no options specified")
    if "sshkeys" in options:
        configs.check_sshkeys(options["sshkeys"])
    reverts = split_list(params.get("revert", ""))
    _check_reverts(world, reverts, options)
    _check_deletions(world, deletions, reverts, options)
    access = ConfigAccess(world, who, vmid)
    access.check_options(deletions)
    access.check_options(options)
    wanted = access.check_drives(options)
    access.check_bridges(options)
    vm = configs.find(world, vmid, node)
    configs.require_writable(world, vm)
    configs.check_digest(vm, params.get("digest", ""))
    if params.get("skiplock") != "1":
        configs.check_lock(vm)
    _check_balloon(vm, options)
    plain = {name: value for name, value in options.items() if not drives.is_drive(name)}
    return Change(
        vm=vm,
        options=plain,
        drives=wanted,
        deletions=tuple(deletions),
        reverts=tuple(reverts),
        is_forced=params.get("force") == "1",
        shown=_shown(params),
        access=access,
    )


def _check_reverts(world: World, reverts: list[str], options: Mapping[str, str]) -> None:
    for option in reverts:
        if not _exists(world, option):
            raise bad_parameter("revert", f"unknown option '{option}'")
        if option in options:
            raise bad_parameter("delete", f"you can't use '-{option}' and -revert {option}' at the same time")


def _check_deletions(world: World, deletions: list[str], reverts: list[str], options: Mapping[str, str]) -> None:
    for option in deletions:
        if option in options:
            raise bad_parameter("delete", f"you can't use '-{option}' and -delete {option}' at the same time")
        if option in reverts:
            raise bad_parameter("revert", f"you can't use '-delete {option}' and -revert {option}' at the same time")
        if not _exists(world, option):
            raise bad_parameter("delete", f"unknown option '{option}'")


def _exists(world: World, option: str) -> bool:
    known = schema.load(world.profile.release).properties(drives.CREATE, "POST")
    return option in known and option not in creation.NOT_CONFIG


def _check_balloon(vm: Vm, options: Mapping[str, str]) -> None:
    if "memory" not in options and "balloon" not in options:
        return
    values = {**vm.config, **vm.pending, **options}
    memory_mib = int(values.get("memory", DEFAULT_MEMORY_MIB).removeprefix("current="))
    if int(values.get("balloon", "0")) > memory_mib:
        raise refused("balloon value too large (must be smaller than assigned memory)")


def _shown(params: Mapping[str, str]) -> str:
    words = []
    for name in sorted(params):
        if name not in ("background_delay", "digest", "node", "vmid"):
            words += [f"-{name}", "<hidden>" if name == "cipassword" else params[name]]
    return " ".join(words)


def _carry_out(world: World, node: Node, change: Change, log: Log) -> None:
    vm = change.vm
    log.append(f"update VM {vm.vmid}: {change.shown}")
    _check_boot(change)
    for option in change.reverts:
        vm.pending.pop(option, None)
        vm.unplug.pop(option, None)
    _check_changes(change, log)
    maker = disks.DiskMaker(world, node, vm.vmid, log)
    try:
        made = maker.make(change.drives, vm.config)
    except ApiError:
        maker.undo()
        raise
    values = {**creation.normalised(world, change.options), **made}
    _update_boot_order(world, change, values)
    problems: dict[str, str] = {}
    for option in change.deletions:
        _delete(world, node, change, option, problems)
    for option, value in values.items():
        _set(world, node, vm, option, value)
    if any(drives.is_cloudinit(drives.parse(world, option, text)) for option, text in made.items()):
        cloudinit.generate(world, node, vm, log)
    configs.save(world, vm)
    if problems:
        raise ApiError(400, "Parameter verification failed.", problems)


def _check_changes(change: Change, log: Log) -> None:
    """Judge what depends on the values that are there, and warn of deletions of what is not."""
    present = {**change.vm.config, **change.vm.pending}
    for option in change.deletions:
        if option in present:
            change.access.check_change(option, present[option], None)
        else:
            log.append(WarningLine(f"cannot delete '{option}' - not set in current configuration!"))
    wanted = {**change.options, **{option: drive["file"] for option, drive in change.drives.items()}}
    for option, value in wanted.items():
        drive = change.drives.get(option)
        shown = drives.show(change.access.world, option, drive) if drive else value
        change.access.check_change(option, change.vm.config.get(option), shown)


def _check_boot(change: Change) -> None:
    present = {**change.vm.config, **change.vm.pending, **change.options, **change.drives}
    for device in drives.boot_devices(change.options):
        if device not in present or device in change.deletions:
            raise refused(f"invalid bootorder: device '{device}' does not exist'")


def _update_boot_order(world: World, change: Change, values: dict[str, str]) -> None:
    """Deleted devices leave the boot order, new CD-ROMs join it."""
    if "boot" in values:
        return
    config = {**change.vm.config, **change.vm.pending}
    order = drives.boot_devices(config)
    kept = [device for device in order if device not in change.deletions]
    for option in values:
        if order and drives.is_drive(option) and option not in kept:
            drive = drives.parse(world, option, values[option])
            if drives.is_cdrom(drive) and not drives.is_cloudinit(drive):
                kept.append(option)
    if kept != order:
        values["boot"] = drives.show_boot(kept)


def _delete(world: World, node: Node, change: Change, option: str, problems: dict[str, str]) -> None:
    vm = change.vm
    vm.pending.pop(option, None)
    if option not in vm.config:
        return
    is_disk = drives.is_drive(option) or UNUSED.fullmatch(option)
    if is_disk and vm.config.get("protection") == "1":
        what = f"drive '{option}'" if drives.is_drive(option) else f"unused disk '{vm.config[option].split(',')[0]}'"
        raise refused(f"can't remove {what} - protection mode enabled")
    if not vm.is_running or option in APPLIED_AT_ONCE or UNUSED.fullmatch(option):
        applying.remove_option(world, node, vm, option, change.is_forced, [])
        return
    if drives.is_drive(option) and option == drives.boot_disk(world, vm.config):
        problems[option] = f"hotplug problem - can't unplug bootdisk '{option}'\n"
    elif _is_hot_pluggable(vm, option):
        applying.remove_option(world, node, vm, option, change.is_forced, [])
        return
    vm.unplug[option] = change.is_forced


def _set(world: World, node: Node, vm: Vm, option: str, value: str) -> None:
    vm.unplug.pop(option, None)
    if vm.is_running and option not in APPLIED_AT_ONCE and not _can_apply_running(world, vm, option, value):
        vm.pending[option] = value
        if vm.config.get(option) == value:
            del vm.pending[option]
        return
    vm.pending.pop(option, None)
    applying.set_option(world, node, vm, option, value)


def _can_apply_running(world: World, vm: Vm, option: str, value: str) -> bool:
    if not _is_hot_pluggable(vm, option):
        return False
    if drives.is_drive(option) and option in vm.config:
        before = drives.parse(world, option, vm.config[option])
        return before["file"] == drives.parse(world, option, value)["file"] or drives.is_cdrom(before)
    if drives.NET.fullmatch(option) and option in vm.config:
        before, after = drives.parse_net(world, vm.config[option]), drives.parse_net(world, value)
        return before["model"] == after["model"] and before.get("macaddr") == after.get("macaddr")
    return True


def _is_hot_pluggable(vm: Vm, option: str) -> bool:
    features = vm.config.get("hotplug", DEFAULT_HOTPLUG).replace("1", DEFAULT_HOTPLUG).split(",")
    stem = option.rstrip("0123456789")
    if stem == "net":
        return "network" in features
    return stem in HOT_PLUGGED_BUSES and "disk" in features
