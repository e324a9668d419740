"""Disks that go to another storage or VM, VMs that go to another node, and what a disk's storage is able to."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from pvelab import progress
from pvelab.answers import ApiError, WarningLine, Who, bad_parameter, refused
from pvelab.rules import configs, disks, drives, permissions, storages, volume_names, volumes
from pvelab.rules.access import only_root
from pvelab.rules.drives import Drive
from pvelab.rules.volumes import Log, Place
from pvelab.state import Node, Task, Vm, Volume, World

IDENTITY = ("storage", "name", "format", "vmid", "created_at", "used_bytes")
"""What tells two volumes of the same content apart."""


async def move(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST move_disk: to another storage, or to another VM. Returns the UPID. Raises ApiError."""
    if ("storage" in params) == ("target-vmid" in params):
        text = "both 'storage' and 'target-vmid' missing, either needs to be set"
        if "storage" in params:
            text = "either set 'storage' or 'target-vmid', but not both"
        raise ApiError(400, "Parameter verification failed.", dict.fromkeys(("storage", "target-vmid"), text))
    return await (_to_storage if "storage" in params else _to_vm)(world, node, params, who)


async def migrate(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST migrate: all that is refused before the task; the way itself is not in the lab. Raises ApiError."""
    target = params["target"]
    if target == node.hostname:
        raise bad_parameter("target", "target is local node.")
    configs.require_quorum(world)
    if target not in world.nodes or not world.cluster_name:
        raise refused(f"no such cluster node '{target}'")
    only_root(who, params, "force", "migration_type", "migration_network")
    vm = configs.find(world, params["vmid"], node)
    configs.check_lock(vm)
    if vm.is_running and params.get("online") != "1":
        raise refused("can't migrate running VM without --online")
    raise ApiError(501, f"Method 'POST /nodes/{node.hostname}/qemu/{vm.vmid}/migrate' not implemented")


async def _to_storage(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    permissions.require(world, who, f"/storage/{params['storage']}", "Datastore.AllocateSpace")
    vm = configs.find(world, params["vmid"], node)
    _movable(world, node, vm, params)
    if vm.is_running:
        text = f"Method 'POST /nodes/{node.hostname}/qemu/{vm.vmid}/move_disk' of a running VM not implemented"
        raise ApiError(501, text)

    async def work(task: Task) -> progress.Steps:
        drive = _movable(world, node, vm, params)
        yield world.timings.config_s
        _copy(world, node, vm, drive, params, task.log)

    return await progress.begin(world, progress.Job(node, "qmmove", str(vm.vmid), who, vm.vmid), work)


def _movable(world: World, node: Node, vm: Vm, params: Mapping[str, str]) -> Drive:
    """The drive that is to move. Raises ApiError."""
    option, target = params["disk"], params["storage"]
    configs.check_lock(vm)
    configs.check_digest(vm, params.get("digest", ""))
    if option not in vm.config:
        raise refused(f"disk '{option}' does not exist")
    drive = drives.parse(world, option, vm.config[option])
    if drives.is_cdrom(drive) and not drives.is_cloudinit(drive):
        raise refused("you can't move a cdrom")
    storage, name = volume_names.split(drive["file"])
    form = volume_names.parse(storages.find(world, storage), name).format
    if storage == target and params.get("format", form) == form:
        raise refused("you can't move to the same storage with same format")
    if "images" not in storages.usable(world, target, node).content:
        raise bad_parameter("storage", f"storage '{target}' does not support vm images")
    if params.get("delete") == "1" and _is_snapshotted(world, vm, drive["file"]):
        raise refused("you can't move a disk with snapshots and delete the source")
    return drive


def _copy(world: World, node: Node, vm: Vm, drive: Drive, params: Mapping[str, str], log: Log) -> None:
    """Copy the volume; what is in it stays with the VM, and the source is left behind empty or removed."""
    option, source = params["disk"], drive["file"]
    storage, name = volume_names.split(source)
    before, after = volumes.at(world, node, storage), volumes.at(world, node, params["storage"])
    log.append(f"copying volume '{source}' from current storage '{storage}' to target storage '{params['storage']}'")
    if _is_snapshotted(world, vm, source):
        log.append(WarningLine("moving disk with snapshots, snapshots will not be moved!"))
    log.append(f"create full clone of drive {option} ({source})")
    volume = volumes.find(before, name)
    if volume is None:
        raise refused(f"storage migration failed: volume '{source}' does not exist")
    form = volumes.default_format(after.storage, params.get("format", volume.format))
    if drives.is_cloudinit(drive):
        new_name = volumes.full_name(after, vm.vmid, f"vm-{vm.vmid}-cloudinit", form)
    else:
        new_name = volumes.next_name(after, vm.vmid, form)
    made = volumes.allocate(after, vm.vmid, new_name, volume.size_bytes, log, volume.origin)
    log.append(f"allocated target volume '{made.volid}'")
    if not drives.is_cloudinit(drive):
        log.extend(disks.transfer_lines(volume.size_bytes))
    _exchange(before, volume, after, made)
    vm.config[option] = drives.show(world, option, {**drive, "file": volume.volid})
    if params.get("delete") != "1":
        unused = drives.first_unused(vm.config)
        vm.config[unused] = source
        log.append(f"adding source volume '{source}' as '{unused}' to config")
    configs.save(world, vm)
    if params.get("delete") == "1":
        log.append(f"removing source volume '{source}' after successful copy")
        volumes.remove(before, name, log)


def _exchange(before: Place, old: Volume, after: Place, new: Volume) -> None:
    """Let two volumes change places."""
    for field in IDENTITY:
        ours, theirs = getattr(old, field), getattr(new, field)
        setattr(old, field, theirs)
        setattr(new, field, ours)
    before.volumes[new.name], after.volumes[old.name] = new, old


async def _to_vm(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    vmid, target_vmid = int(params["vmid"]), int(params["target-vmid"])
    option = params["disk"]
    target_option = params.get("target-disk", option)
    permissions.require(world, who, f"/vms/{target_vmid}", "VM.Config.Disk")
    if vmid == target_vmid:
        raise bad_parameter("target-vmid", "must be different than source VMID to reassign disk")
    drive = _transferable(world, node, params)
    storage, _ = volume_names.split(drive["file"])
    permissions.require(world, who, f"/storage/{storage}", "Datastore.AllocateSpace")

    async def work(task: Task) -> progress.Steps:
        drive = _transferable(world, node, params)
        yield world.timings.config_s
        task.log.append(f"reassign disk '{option}' from VM '{vmid}' as '{target_option}' to VM '{target_vmid}'")
        _transfer(world, node, drive, params, task.log)

    job = progress.Job(node, "qmmove", f"{vmid}-{option}>{target_vmid}-{target_option}", who, vmid)
    return await progress.begin(world, job, work)


def _transferable(world: World, node: Node, params: Mapping[str, str]) -> Drive:
    vmid, target_vmid, option = int(params["vmid"]), int(params["target-vmid"]), params["disk"]
    target_option = params.get("target-disk", option)
    if target_vmid not in world.vms:
        raise refused(f"could not find target VM {target_vmid}")
    source, target = configs.find(world, vmid, node), world.vms[target_vmid]
    if target.node != source.node:
        raise refused(f"Both VMs need to be on the same node ({source.node} != {target.node})")
    for vm in (source, target):
        configs.check_lock(vm)
    if "1" in (source.config.get("template"), target.config.get("template")):
        raise refused("Can't move disks from or to template VMs")
    if option not in source.config:
        raise refused(f"Disk '{option}' for VM '{vmid}' does not exist")
    if target_option in target.config:
        raise refused(f"Target disk key '{target_option}' is already in use for VM '{target_vmid}'")
    drive = drives.parse(world, option, source.config[option])
    if drives.is_cdrom(drive) and not drives.is_cloudinit(drive):
        raise refused("CD drive contents can't be moved to another VM")
    if _is_snapshotted(world, source, drive["file"]):
        raise refused("Can't move disk used by a snapshot to another VM")
    if source.is_running and not drives.UNUSED.fullmatch(option):
        raise refused("Cannot move disk to another VM while the source VM is running - detach first")
    return drive


def _transfer(world: World, node: Node, drive: Drive, params: Mapping[str, str], log: Log) -> None:
    source, target = world.vms[int(params["vmid"])], world.vms[int(params["target-vmid"])]
    option = params["disk"]
    place, volume = volumes.held(world, node, drive["file"])
    if storages.in_folder(place.storage):
        folder = posixpath.join(place.storage.path, "images", str(target.vmid))
        place.node.files.make_folder(folder, parents=True)
    volumes.rename(place, volume, volumes.next_name(place, target.vmid, volume.format))
    volume.vmid = target.vmid
    if option in drives.boot_devices(source.config):
        log.append(f"removing disk '{option}' from boot order config")
        left = [device for device in drives.boot_devices(source.config) if device != option]
        source.config["boot"] = drives.show_boot(left)
    del source.config[option]
    log.append(f"removing disk '{option}' from VM '{source.vmid}' config")
    configs.save(world, source)
    target_option = params.get("target-disk", option)
    shown = drives.show(world, target_option, {**drive, "file": volume.volid})
    target.config[target_option] = volume.volid if drives.UNUSED.fullmatch(target_option) else shown
    if not drives.UNUSED.fullmatch(target_option):
        log.append(f"update VM {target.vmid}: -{target_option} {shown}")
    configs.save(world, target)


def _is_snapshotted(world: World, vm: Vm, volid: str) -> bool:
    configurations = [snapshot.config for snapshot in vm.snapshots.values()]
    return any(drive["file"] == volid for config in configurations for _, drive in drives.of_config(world, config))
