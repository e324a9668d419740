"""Destroying VMs, and unlinking single disks."""

from __future__ import annotations

from collections.abc import Mapping

from pvelab import progress
from pvelab.answers import ApiError, Who, refused
from pvelab.formats import split_list
from pvelab.rules import configs, drives, permissions, storages, updates, volume_names, volumes
from pvelab.rules.access import only_root
from pvelab.rules.volumes import Log, Place
from pvelab.state import Node, Task, Vm, World

UNPROTECTED_LOCKS = ("suspended",)


async def destroy(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """DELETE of a VM: refused at once if it runs or is protected; a lock shows in the task. Returns the UPID."""
    only_root(who, params, "skiplock")
    vm = configs.find(world, params["vmid"], node)
    _check_removable(world, vm, params)

    async def work(task: Task) -> progress.Steps:
        _check_removable(world, configs.find(world, vm.vmid, node), params)
        if params.get("skiplock") != "1" and vm.config.get("lock") not in UNPROTECTED_LOCKS:
            configs.check_lock(vm)
        yield world.timings.destroy_s
        _destroy(world, node, vm, params, task.log)

    return await progress.begin(world, progress.Job(node, "qmdestroy", str(vm.vmid), who, vm.vmid), work)


async def unlink(world: World, node: Node, params: Mapping[str, str], who: Who) -> Log:
    """PUT unlink: delete options that are disks. Returns the output."""
    change = {"vmid": params["vmid"], "delete": ",".join(split_list(params["idlist"]))}
    if "force" in params:
        change["force"] = params["force"]
    return await updates.update(world, node, change, who)


def _check_removable(world: World, vm: Vm, params: Mapping[str, str]) -> None:
    if vm.config.get("protection") == "1":
        raise refused(f"can't remove VM {vm.vmid} - protection mode enabled")
    if f"vm:{vm.vmid}" in world.ha and params.get("purge") != "1":
        raise refused(f"unable to remove VM {vm.vmid} - used in HA resources and purge parameter not set.")
    if vm.is_running:
        raise refused(f"VM {vm.vmid} is running - destroy failed")


def _destroy(world: World, node: Node, vm: Vm, params: Mapping[str, str], log: Log) -> None:
    for volid in _own_volumes(world, vm):
        _free(world, node, volid, log)
    if params.get("destroy-unreferenced-disks") == "1":
        _free_unreferenced(world, node, vm, log)
    configs.require_writable(world, vm)
    permissions.forget(world, f"/vms/{vm.vmid}")
    if params.get("purge") == "1":
        log.append(f"purging VM {vm.vmid} from related configurations..")
        _purge(world, vm)
    configs.remove(world, vm)
    world.guests.remove(vm)


def _own_volumes(world: World, vm: Vm) -> list[str]:
    """The VM's own disks that its configuration names, each once."""
    found: dict[str, None] = {}
    for config in (vm.config, vm.pending, *(snapshot.config for snapshot in vm.snapshots.values())):
        for _, drive in drives.of_config(world, config, unused=True):
            volid = drives.volume(drive)
            is_image = not drives.is_cdrom(drive) or drives.is_cloudinit(drive)
            if volid and is_image and _owner(world, volid) == vm.vmid:
                found[volid] = None
    return list(found)


def _owner(world: World, volid: str) -> int:
    storage, name = volume_names.split(volid)
    known = storages.all_storages(world).get(storage)
    return volume_names.parse(known, name).vmid if known else 0


def _free(world: World, node: Node, volid: str, log: Log) -> None:
    storage, name = volume_names.split(volid)
    try:
        volumes.remove(volumes.at(world, node, storage), name, log)
    except ApiError as error:
        if "linked clones" in error.reason:
            raise refused(f"base volume '{volid}' is still in use by linked cloned") from error
        log.append(f"Could not remove disk '{volid}', check manually: {error.reason}")


def _free_unreferenced(world: World, node: Node, vm: Vm, log: Log) -> None:
    for storage in storages.all_storages(world).values():
        if storage.is_disabled or not storages.is_on(storage, node):
            continue
        place = Place(world, node, storage)
        for listed in list(volumes.listing(place, vm.vmid)):
            if listed.vmid == vm.vmid:
                volumes.remove(place, listed.volid.partition(":")[2], log)


def _purge(world: World, vm: Vm) -> None:
    for job in world.backup_jobs.values():
        ids = [one for one in job.get("vmid", "").split(",") if one and one != str(vm.vmid)]
        job["vmid"] = ",".join(ids)
    for name in [name for name, job in world.backup_jobs.items() if not job["vmid"] and not job.get("all")]:
        del world.backup_jobs[name]
    world.ha.pop(f"vm:{vm.vmid}", None)
