"""Snapshots of VMs without their memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pvelab import progress
from pvelab.answers import Who, refused
from pvelab.machine import AgentError, AgentSilent
from pvelab.rules import configs, drives, permissions, power, storages, volume_names, volumes
from pvelab.rules.volumes import Log, Place
from pvelab.state import Node, Snapshot, Task, Vm, Volume, World

RESERVED = ("current", "pending")
STOP_S = 5.0


def listed(vm: Vm) -> list[dict[str, Any]]:
    """The VM's snapshots, and the present at the end."""
    found: list[dict[str, Any]] = []
    for one in vm.snapshots.values():
        item = {"name": one.name, "description": one.description, "snaptime": int(one.created_at), "vmstate": 0}
        found.append({**item, **_parent(one.config)})
    current = {"name": "current", "description": "You are here!", "digest": configs.digest(vm)}
    return [*found, {**current, "running": int(vm.is_running), **_parent(vm.config)}]


def config(world: World, vm: Vm, name: str) -> dict[str, Any]:
    """The configuration as a snapshot kept it, with its time and description. Raises ApiError."""
    snapshot = find(vm, name)
    shown = {option: configs.typed(world, option, value) for option, value in snapshot.config.items()}
    described = {"description": snapshot.description} if snapshot.description else {}
    return {**shown, "snaptime": int(snapshot.created_at), **described}


def describe(world: World, vm: Vm, name: str, description: str) -> None:
    """PUT snapshot/{name}/config. Raises ApiError."""
    configs.check_lock(vm)
    find(vm, name).description = description
    configs.save(world, vm)


async def take(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST snapshot. Returns the UPID. Raises ApiError where a disk cannot be snapshotted."""
    name = params["snapname"]
    if name in RESERVED or name.lower() == RESERVED[1]:
        raise refused(f"unable to use snapshot name '{name.lower()}' (reserved name)")
    vm = configs.find(world, params["vmid"], node)
    if params.get("vmstate") == "1" and vm.is_running:
        raise refused("the lab's QEMU cannot save its state")

    async def work(task: Task) -> progress.Steps:
        if vm.config.get("template") == "1":
            raise refused("you can't take a snapshot if it's a template")
        configs.check_lock(vm)
        if name in vm.snapshots:
            raise refused(f"snapshot name '{name}' already used")
        if not is_possible(world, node, vm.config):
            raise refused("snapshot feature is not available")
        yield world.timings.config_s
        _tell_of_freezing(world, vm, task.log)
        kept = {option: value for option, value in vm.config.items() if option != "lock"}
        for option, place, volume in _disks(world, node, kept):
            task.log.append(f"snapshotting 'drive-{option}' ({volume.volid})")
            if place.storage.type == "lvmthin":
                task.log.append(f'  Logical volume "snap_{volume.name}_{name}" created.')
        vm.snapshots[name] = Snapshot(name, kept, world.clock.now(), params.get("description", ""))
        vm.config["parent"] = name
        configs.save(world, vm)

    return await progress.begin(world, progress.Job(node, "qmsnapshot", str(vm.vmid), who, vm.vmid), work)


async def remove(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """DELETE snapshot. Returns the UPID; a missing VM shows in the task only."""
    vmid = int(params["vmid"])

    async def work(task: Task) -> progress.Steps:
        vm = configs.find(world, vmid, node)
        gone = find(vm, params["snapname"])
        configs.check_lock(vm)
        yield world.timings.config_s
        for _, place, volume in _disks(world, node, gone.config):
            if place.storage.type == "lvmthin":
                task.log.append(f'  Logical volume "snap_{volume.name}_{gone.name}" successfully removed.')
        del vm.snapshots[gone.name]
        for values in (vm.config, *(one.config for one in vm.snapshots.values())):
            if values.get("parent") == gone.name:
                values.pop("parent")
                values |= {key: gone.config[key] for key in ("parent",) if key in gone.config}
        configs.save(world, vm)

    return await progress.begin(world, progress.Job(node, "qmdelsnapshot", str(vmid), who, vmid), work)


async def roll_back(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST rollback: the configuration as it was, the VM off unless `start` says otherwise. Returns the UPID."""
    vmid, starts = int(params["vmid"]), params.get("start") == "1"
    if starts:
        permissions.require(world, who, f"/vms/{vmid}", "VM.PowerMgmt")

    async def work(task: Task) -> progress.Steps:
        vm = configs.find(world, vmid, node)
        if vm.config.get("template") == "1":
            raise refused("you can't rollback if vm is a template")
        snapshot = find(vm, params["snapname"])
        for _, _, volume in _disks(world, node, snapshot.config):
            if volume.origin is not None:
                raise refused(f"the lab cannot bring back what was on '{volume.volid}'")
        configs.check_lock(vm)
        if vm.is_running:
            yield STOP_S
            power.switch_off(world, vm)
        yield world.timings.config_s
        _restore(world, vm, snapshot)
        if starts:
            power.switch_on(world, node, vm, task.log)

    return await progress.begin(world, progress.Job(node, "qmrollback", str(vmid), who, vmid), work)


def find(vm: Vm, name: str) -> Snapshot:
    """The snapshot of that name. Raises ApiError."""
    if name not in vm.snapshots:
        raise refused(f"snapshot '{name}' does not exist")
    return vm.snapshots[name]


def is_possible(world: World, node: Node, config: Mapping[str, str]) -> bool:
    """Can every disk be snapshotted? Raw images in a folder cannot, nor can base images."""
    return not any(
        volume.is_base
        or place.storage.type == "lvm"
        or (storages.in_folder(place.storage) and volume.format != "qcow2")
        for _, place, volume in _disks(world, node, config)
    )


def has_feature(world: World, node: Node, config: Mapping[str, str], feature: str, *, of_snapshot: bool) -> bool:
    """Are all disks on storages that can take a snapshot, be cloned without a copy, or be copied?"""
    if feature == "snapshot":
        return is_possible(world, node, config)
    if feature == "clone":
        return not of_snapshot and all(volume.is_base for _, _, volume in _disks(world, node, config))
    return not of_snapshot or all(
        place.storage.type == "lvmthin" or volume.format == "qcow2" for _, place, volume in _disks(world, node, config)
    )


def nodes_with_disks(world: World, node: Node, config: Mapping[str, str]) -> list[str]:
    """The members that reach every disk of a configuration which is on that node."""
    used = [
        volume_names.split(drive["file"])[0] for _, drive in drives.of_config(world, config) if drives.volume(drive)
    ]
    named = [storages.find(world, name) for name in used]

    def is_reached(member: Node) -> bool:
        return not any(
            one.is_disabled
            or not storages.is_on(one, member)
            or (not one.nodes and not one.is_shared and member.hostname != node.hostname)
            for one in named
        )

    return [member.hostname for member in world.nodes.values() if is_reached(member)]


def _disks(world: World, node: Node, config: Mapping[str, str]) -> Iterator[tuple[str, Place, Volume]]:
    """The disks that a configuration names and that are there, CD-ROMs left out."""
    for option, drive in drives.of_config(world, config):
        if drives.volume(drive) and not drives.is_cdrom(drive):
            storage, name = volume_names.split(drive["file"])
            place = volumes.at(world, node, storage)
            volume = volumes.find(place, name)
            if volume:
                yield option, place, volume


def _tell_of_freezing(world: World, vm: Vm, log: Log) -> None:
    """What is said of the guest's file systems before its disks are snapshotted."""
    if not vm.is_running:
        return
    if vm.config.get("agent", "0").split(",")[0] not in ("1", "enabled=1"):
        log.append("skipping guest filesystem freeze - disabled in VM options")
        return
    try:
        world.guests.agent(vm, "ping", {})
    except (AgentSilent, AgentError):
        log.append("skipping guest filesystem freeze - agent configured but not running?")


def _restore(world: World, vm: Vm, snapshot: Snapshot) -> None:
    before, kept = vm.config, {drive["file"] for _, drive in drives.of_config(world, snapshot.config)}
    vm.config = {**snapshot.config, "parent": snapshot.name}
    if "vmgenid" in vm.config:
        vm.config["vmgenid"] = configs.new_uuid(world)
    vm.pending.clear()
    vm.unplug.clear()
    for _, drive in drives.of_config(world, before):
        if drives.volume(drive) and not drives.is_cdrom(drive) and drive["file"] not in kept:
            vm.config[drives.first_unused(vm.config)] = drive["file"]
    configs.save(world, vm)


def _parent(values: Mapping[str, str]) -> dict[str, str]:
    return {"parent": values["parent"]} if "parent" in values else {}
