"""Making changes of a VM's configuration hold: options set and removed, drives attached and detached."""

from __future__ import annotations

from pvelab.rules import configs, drives, volume_names, volumes
from pvelab.rules.drives import UNUSED
from pvelab.rules.volumes import Log
from pvelab.state import Node, Vm, World


def apply_pending(world: World, vm: Vm) -> None:
    """Make what was pending hold: the VM is off."""
    node = world.nodes[vm.node]
    for option, is_forced in list(vm.unplug.items()):
        remove_option(world, node, vm, option, is_forced, [])
    for option, value in list(vm.pending.items()):
        set_option(world, node, vm, option, value)
    if vm.pending or vm.unplug:
        vm.pending.clear()
        vm.unplug.clear()
        configs.save(world, vm)


def detach(world: World, node: Node, vm: Vm, option: str, is_forced: bool, log: Log) -> None:
    """Take a drive out of the configuration: its disk becomes unusedN, or is removed if forced."""
    if option not in vm.config:
        return
    drive = drives.parse(world, option, vm.config.pop(option))
    volid = drives.volume(drive)
    if not volid:
        return
    storage, name = volume_names.split(volid)
    is_image = not drives.is_cdrom(drive) or drives.is_cloudinit(drive)
    if is_image and (is_forced or drives.is_cloudinit(drive) or UNUSED.fullmatch(option)):
        volumes.remove(volumes.at(world, node, storage), name, log)
    elif is_image:
        vm.config[drives.first_unused(vm.config)] = volid


def set_option(world: World, node: Node, vm: Vm, option: str, value: str) -> None:
    """Give an option its value; a drive that is replaced by another becomes unusedN."""
    if drives.is_drive(option):
        volid = drives.volume(drives.parse(world, option, value))
        before = drives.parse(world, option, vm.config[option]) if option in vm.config else None
        if before and drives.volume(before) != volid:
            detach(world, node, vm, option, is_forced=False, log=[])
        for unused in [name for name in vm.config if UNUSED.fullmatch(name) and vm.config[name] == volid]:
            del vm.config[unused]
    vm.config[option] = value


def remove_option(world: World, node: Node, vm: Vm, option: str, is_forced: bool, log: Log) -> None:
    """Remove an option, a drive by detaching it."""
    if drives.is_drive(option) or UNUSED.fullmatch(option):
        detach(world, node, vm, option, is_forced, log)
    else:
        vm.config.pop(option, None)
