"""Snapshots of VMs without their memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pvelab import progress
from pvelab.answers import Who, refused
from pvelab.rules import configs, drives, storages, volumes
from pvelab.state import Node, Snapshot, Task, Vm, World


def listed(vm: Vm) -> list[dict[str, Any]]:
    """The VM's snapshots, and the present at the end."""
    found: list[dict[str, Any]] = []
    for one in vm.snapshots.values():
        item = {"name": one.name, "description": one.description, "snaptime": int(one.created_at), "vmstate": 0}
        found.append({**item, **_parent(one.config)})
    current = {"name": "current", "description": "You are here!", "digest": configs.digest(vm)}
    return [*found, {**current, "running": int(vm.is_running), **_parent(vm.config)}]


def config(world: World, vm: Vm, name: str) -> dict[str, Any]:
    """The configuration as a snapshot kept it. Raises ApiError."""
    snapshot = _find(vm, name)
    return {option: configs.typed(world, option, value) for option, value in snapshot.config.items()}


async def take(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST snapshot. Returns the UPID. Raises ApiError where a disk cannot be snapshotted."""
    vm = configs.find(world, params["vmid"], node)
    name = params["snapname"]
    if params.get("vmstate") == "1":
        raise refused("the lab's QEMU cannot save its state")

    async def work(_task: Task) -> progress.Steps:
        configs.check_lock(vm)
        if name in vm.snapshots:
            raise refused(f"snapshot name '{name}' already used")
        if not _is_possible(world, node, vm):
            raise refused("snapshot feature is not available")
        yield world.timings.config_s
        kept = {option: value for option, value in vm.config.items() if option != "lock"}
        vm.snapshots[name] = Snapshot(name, kept, world.clock.now(), params.get("description", ""))
        vm.config["parent"] = name
        configs.save(world, vm)

    return await progress.begin(world, progress.Job(node, "qmsnapshot", str(vm.vmid), who, vm.vmid), work)


async def remove(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """DELETE snapshot. Returns the UPID."""
    vm = configs.find(world, params["vmid"], node)

    async def work(_task: Task) -> progress.Steps:
        configs.check_lock(vm)
        gone = _find(vm, params["snapname"])
        yield world.timings.config_s
        del vm.snapshots[gone.name]
        for values in (vm.config, *(one.config for one in vm.snapshots.values())):
            if values.get("parent") == gone.name:
                values.pop("parent")
                values |= {key: gone.config[key] for key in ("parent",) if key in gone.config}
        configs.save(world, vm)

    return await progress.begin(world, progress.Job(node, "qmdelsnapshot", str(vm.vmid), who, vm.vmid), work)


def _find(vm: Vm, name: str) -> Snapshot:
    if name not in vm.snapshots:
        raise refused(f"snapshot '{name}' does not exist")
    return vm.snapshots[name]


def _parent(values: Mapping[str, str]) -> dict[str, str]:
    return {"parent": values["parent"]} if "parent" in values else {}


def _is_possible(world: World, node: Node, vm: Vm) -> bool:
    for _, drive in drives.of_config(world, vm.config):
        if drives.is_cdrom(drive) or not drives.volume(drive):
            continue
        storage, name = volumes.split(drive["file"])
        place = volumes.at(world, node, storage)
        if storages.in_folder(place.storage) and volumes.parse_name(place.storage, name).format != "qcow2":
            return False
    return True
