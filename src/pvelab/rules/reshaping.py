"""Growing disks, turning VMs into templates, cloning."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from pvelab import progress
from pvelab.answers import ApiError, Who, bad_parameter, refused
from pvelab.rules import configs, disks, drives, permissions, snapshots, storages, volume_names, volumes
from pvelab.rules.access import ConfigAccess, only_root
from pvelab.rules.drives import Drive
from pvelab.rules.images import format_size, parse_size
from pvelab.rules.volumes import Log, Place
from pvelab.state import Node, Task, Vm, Volume, World

NOT_CLONED = ("lock", "name", "parent", "template", "vmstate")


async def resize(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """PUT resize: every refusal shows in the task only. Returns the UPID."""
    only_root(who, params, "skiplock")
    vmid = int(params["vmid"])

    async def work(task: Task) -> progress.Steps:
        vm = configs.find(world, vmid, node)
        configs.check_digest(vm, params.get("digest", ""))
        if params.get("skiplock") != "1":
            configs.check_lock(vm)
        yield world.timings.resize_s
        _grow(world, node, vm, params, task)

    return await progress.begin(world, progress.Job(node, "resize", str(vmid), who, vmid), work)


async def make_template(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST template. Returns the UPID. Raises ApiError."""
    vm = configs.find(world, params["vmid"], node)
    configs.check_lock(vm)
    if vm.snapshots:
        raise refused("unable to create template, because VM contains snapshots")
    if vm.config.get("template") == "1" and "disk" not in params:
        raise refused("you can't convert a template to a template")
    if vm.is_running:
        raise refused("you can't convert a VM to template if VM is running")

    async def work(_task: Task) -> progress.Steps:
        configs.check_lock(vm)
        yield world.timings.config_s
        configs.require_writable(world, vm)
        for option, drive in drives.of_config(world, vm.config):
            if drives.volume(drive) and not drives.is_cdrom(drive) and params.get("disk", option) == option:
                vm.config[option] = _make_base(world, node, option, drive)
        vm.config["template"] = "1"
        configs.save(world, vm)

    return await progress.begin(world, progress.Job(node, "qmtemplate", str(vm.vmid), who, vm.vmid), work)


async def clone(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST clone: a full copy, or a linked one of a template. Returns the UPID. Raises ApiError."""
    vm = configs.find_for_power(world, params["vmid"], node)
    new_vmid = int(params["newid"])
    _check_target(world, node, params)
    configs.require_quorum(world)
    configs.check_lock(vm)
    if "snapname" in params:
        snapshots.find(vm, params["snapname"])
    is_full = params.get("full", "0" if vm.config.get("template") == "1" else "1") == "1"
    _check_clonable(world, node, vm, params, is_full=is_full)
    _check_clone_access(world, vm, params, who)
    if new_vmid in world.vms:
        raise refused(f"unable to create VM {new_vmid}: config file already exists")
    made = Vm(new_vmid, node.hostname, {"lock": "clone"}, world.clock.now())
    configs.add(world, made)

    async def work(task: Task) -> progress.Steps:
        task.log.append(f"creating a clone of VM {vm.vmid} with ID {new_vmid}")
        yield world.timings.create_s
        cloner = _Cloner(world, node, made, task.log, is_full, params)
        made.config = cloner.config(vm)
        configs.save(world, made)

    return await progress.begin(world, progress.Job(node, "qmclone", str(vm.vmid), who, vm.vmid), work)


def _is_unused(option: str) -> bool:
    return drives.UNUSED.fullmatch(option) is not None


def _check_target(world: World, node: Node, params: Mapping[str, str]) -> None:
    """Is there the node, and the storage, that a clone is to go to?"""
    target = params.get("target", node.hostname)
    if target not in (node.hostname, "localhost") and (target not in world.nodes or not world.cluster_name):
        raise refused(f"no such cluster node '{target}'")
    if "storage" in params:
        place = volumes.at(world, node, params["storage"])
        if "images" not in place.storage.content:
            raise bad_parameter("storage", f"storage '{params['storage']}' does not support vm images")
        if target not in (node.hostname, "localhost") and not place.storage.is_shared:
            raise refused(f"can't clone to non-shared storage '{params['storage']}'")


def _check_clonable(world: World, node: Node, vm: Vm, params: Mapping[str, str], *, is_full: bool) -> None:
    """A linked clone stays where its base is, and needs one."""
    for name in ("storage", "format"):
        if name in params and not is_full:
            raise refused(f"parameter '{name}' not allowed for linked clones")
    for option, drive in drives.of_config(world, vm.config) if not is_full else ():
        if drives.volume(drive) and not drives.is_cdrom(drive):
            storage, name = volume_names.split(drive["file"])
            volume = volumes.find(volumes.at(world, node, storage), name)
            if volume is None or not volume.is_base:
                raise refused(f"Linked clone feature is not supported for '{drive['file']}' ({option})")


def _check_clone_access(world: World, vm: Vm, params: Mapping[str, str], who: Who) -> None:
    """May the clone take up space where its disks go, and be on its bridges? Source: PVE/API2/Qemu.pm."""
    for _, drive in drives.of_config(world, vm.config):
        if drive["file"] == "cdrom":
            permissions.require(world, who, "/", "Sys.Console")
        elif drives.volume(drive) and not drives.is_cdrom(drive):
            storage = params.get("storage", volume_names.split(drive["file"])[0])
            permissions.require(world, who, f"/storage/{storage}", "Datastore.AllocateSpace")
    ConfigAccess(world, who, vm.vmid).check_bridges(vm.config)


def _grow(world: World, node: Node, vm: Vm, params: Mapping[str, str], task: Task) -> None:
    option = params["disk"]
    if option not in vm.config:
        raise refused(f"disk '{option}' does not exist")
    drive = drives.parse(world, option, vm.config[option])
    storage, name = volume_names.split(drive["file"])
    if drives.is_cdrom(drive):
        raise refused("you can't resize a cdrom")
    try:
        permissions.require(world, Who(task.user, task.tokenid), f"/storage/{storage}", "Datastore.AllocateSpace")
    except ApiError as denied:
        raise refused(f"{denied.status} {denied.reason}") from denied
    place = volumes.at(world, node, storage)
    volume = volumes.find(place, name)
    if volume is None:
        raise refused(f"Could not determine current size of volume '{drive['file']}'")
    wanted = parse_size(params["size"])
    size_bytes = volume.size_bytes + wanted if params["size"].startswith("+") else wanted
    if size_bytes < volume.size_bytes:
        raise refused("shrinking disks is not supported")
    if size_bytes > volume.size_bytes:
        volumes.resize(place, volume, size_bytes, task.log)
        configs.require_writable(world, vm)
        drive["size"] = format_size(size_bytes)
        vm.config[option] = drives.show(world, option, drive)
        configs.save(world, vm)


def _make_base(world: World, node: Node, option: str, drive: Drive) -> str:
    place, volume = volumes.held(world, node, drive["file"])
    folder, file = posixpath.split(volume.name)
    volumes.rename(place, volume, posixpath.join(folder, file.replace("vm-", "base-", 1)))
    volume.is_base = True
    return drives.show(world, option, {**drive, "file": volume.volid})


@dataclass(frozen=True, slots=True)
class _Cloner:
    """Makes one clone."""

    world: World
    node: Node
    vm: Vm
    log: Log
    is_full: bool
    params: Mapping[str, str]

    def config(self, source: Vm) -> dict[str, str]:
        """The clone's configuration, its disks made."""
        named = self.params.get("snapname")
        values = snapshots.find(source, named).config if named else source.config
        config = {name: value for name, value in values.items() if name not in NOT_CLONED and not _is_unused(name)}
        config["name"] = self.params.get("name", f"Copy-of-VM-{values.get('name', source.vmid)}")
        if "description" in self.params:
            config["description"] = self.params["description"]
        kept = [part for part in values.get("smbios1", "").split(",") if part and not part.startswith("uuid=")]
        config["smbios1"] = ",".join([f"uuid={configs.new_uuid(self.world)}", *kept])
        if "vmgenid" in values:
            config["vmgenid"] = configs.new_uuid(self.world)
        for option, drive in drives.of_config(self.world, config):
            if drives.volume(drive) and (not drives.is_cdrom(drive) or drives.is_cloudinit(drive)):
                config[option] = self._drive(option, drive)
        for option in [one for one in config if drives.NET.fullmatch(one)]:
            card = drives.parse_net(self.world, config[option])
            config[option] = config[option].replace(card["macaddr"], drives.new_mac(self.world))
        return config

    def _drive(self, option: str, drive: Drive) -> str:
        place, volume = volumes.held(self.world, self.node, drive["file"])
        is_copied = self.is_full or drives.is_cloudinit(drive)
        copied = self._full(place, option, volume) if is_copied else self._linked(place, option, volume)
        return drives.show(self.world, option, {**drive, "file": copied.volid})

    def _full(self, place: Place, option: str, volume: Volume) -> Volume:
        self.log.append(f"create full clone of drive {option} ({volume.volid})")
        place = volumes.at(self.world, self.node, self.params.get("storage", place.storage.name))
        wanted = self.params.get("format", volume.format)
        if drives.is_cloudinit({"file": volume.volid}):
            return self._cloudinit(place, volume)
        name = volumes.next_name(place, self.vm.vmid, wanted if storages.in_folder(place.storage) else "raw")
        made = volumes.allocate(place, self.vm.vmid, name, volume.size_bytes, self.log, volume.origin)
        self.log.append(f"allocated target volume '{made.volid}'")
        self.log.extend(disks.transfer_lines(made.size_bytes))
        return made

    def _cloudinit(self, place: Place, volume: Volume) -> Volume:
        """A drive for cloud-init's data, which is written when the clone starts."""
        name = volumes.full_name(place, self.vm.vmid, f"vm-{self.vm.vmid}-cloudinit", volume.format)
        made = volumes.allocate(place, self.vm.vmid, name, volume.size_bytes, self.log)
        self.log.append(f"allocated target volume '{made.volid}'")
        return made

    def _linked(self, place: Place, option: str, volume: Volume) -> Volume:
        self.log.append(f"create linked clone of drive {option} ({volume.volid})")
        is_file = storages.in_folder(place.storage)
        own = volumes.next_name(place, self.vm.vmid, "qcow2" if is_file else "raw")
        if not is_file:
            made = volumes.allocate(place, self.vm.vmid, own, volume.size_bytes, self.log, volume.origin)
            made.parent = volume.name
            return made
        return self._linked_file(place, volume, posixpath.basename(own))

    def _linked_file(self, place: Place, volume: Volume, file: str) -> Volume:
        parent = f"../{volume.name}"
        vmid = self.vm.vmid
        self.log.append(f"clone {volume.name}: images, {file}, {vmid} to {file} (base={parent})")
        chatter: Log = []
        name = f"{volume.name}/{vmid}/{file}"
        made = volumes.allocate(place, vmid, name, volume.size_bytes, chatter, volume.origin)
        made.parent = parent
        where = volume_names.path(place.storage, name)
        self.log.append(
            f"Formatting '{where}', fmt=qcow2 cluster_size=131072 extended_l2=on preallocation=off"
            f" compression_type=zlib size={volume.size_bytes} backing_file={parent} backing_fmt={volume.format}"
            " lazy_refcounts=off refcount_bits=16"
        )
        return made
