"""Making a VM."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from pvelab import progress
from pvelab.answers import ApiError, Who, bad_parameter, forbidden, refused
from pvelab.formats import VOLUME_ID
from pvelab.rules import configs, disks, drives, power, storages, volume_names, volumes
from pvelab.rules.access import ConfigAccess
from pvelab.rules.drives import Drive
from pvelab.state import Node, Task, Vm, World

NOT_CONFIG = (
    "archive",
    "bwlimit",
    "force",
    "ha-managed",
    "import-working-storage",
    "live-restore",
    "node",
    "pool",
    "start",
    "storage",
    "unique",
    "vmid",
)
PLAIN_CRYPT = "$"


@dataclass(frozen=True, slots=True)
class Order:
    """A VM to be made: its options, its drives parsed, and what is to happen afterwards."""

    vmid: int
    options: Mapping[str, str]
    drives: Mapping[str, Drive]
    pool: str = ""
    starts: bool = False


async def create(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """Check, reserve the VMID and start the task. Returns its UPID. Raises ApiError."""
    order = _order(world, node, params, who)
    _reserve(world, node, order)
    job = progress.Job(node, "qmcreate", str(order.vmid), who, order.vmid)
    return await progress.begin(world, job, lambda task: _make(world, node, order, task))


def check_new_vmid(world: World, vmid: int) -> None:
    """Refuse a VMID that is taken."""
    if vmid in world.vms:
        raise refused(f"unable to create VM {vmid} - VM {vmid} already exists on node '{world.vms[vmid].node}'")


def normalised(world: World, options: Mapping[str, str]) -> dict[str, str]:
    """Options as the configuration keeps them: MACs made up, tags sorted, passwords hashed, empty ones left out."""
    done: dict[str, str] = {}
    for name, value in options.items():
        if name == "tags":
            done[name] = configs.sort_tags(value)
        elif name == "sshkeys":
            configs.check_sshkeys(value)
            done[name] = value
        elif name == "description":
            done[name] = value.rstrip()
        elif name == "cipassword":
            done[name] = value if value.startswith(PLAIN_CRYPT) else _crypt(world, value)
        elif drives.NET.fullmatch(name):
            done[name] = drives.canonical_net(world, value)
        else:
            done[name] = value
    return {name: value for name, value in done.items() if value != ""}


def _order(world: World, node: Node, params: Mapping[str, str], who: Who) -> Order:
    vmid = int(params["vmid"])
    if "pool" in params and params["pool"] not in world.pools:
        raise forbidden(f"pool '{params['pool']}' does not exist")
    access = ConfigAccess(world, who, vmid, params.get("pool", ""))
    access.check_creation(params)
    if "archive" in params:
        _check_archive(world, node, access, params)
        raise ApiError(501, f"Method 'POST /nodes/{node.hostname}/qemu' with 'archive' not implemented")
    options = {name: value for name, value in params.items() if name not in NOT_CONFIG}
    if "cdrom" in options:
        options["ide2"] = options.pop("cdrom") + ",media=cdrom"
    wanted = access.check_drives(options)
    access.check_options(options)
    access.check_devices(options)
    access.check_bridges(options)
    plain = {name: value for name, value in options.items() if not drives.is_drive(name)}
    return Order(vmid, normalised(world, plain), wanted, params.get("pool", ""), params.get("start") == "1")


def _check_archive(world: World, node: Node, access: ConfigAccess, params: Mapping[str, str]) -> None:
    """Refuse what cannot be restored: drives beside it, something that is no backup, nothing there."""
    for option in sorted(params):
        if drives.is_drive(option):
            raise bad_parameter(option, "option conflicts with option 'archive'")
    archive = params["archive"]
    if archive == "-":
        raise refused("pipe requires cli environment")
    if not VOLUME_ID.fullmatch(archive):
        access.check_volume(f"/{archive}")
        raise refused(f"can't find file '{archive}'")
    storage, name = volume_names.split(archive)
    if volume_names.parse(storages.find(world, storage), name).content != "backup":
        raise refused(f"unable to use volume {archive} - content type needs to be 'backup'")
    volumes.require(world, node, archive)


def _reserve(world: World, node: Node, order: Order) -> None:
    configs.require_quorum(world)
    check_new_vmid(world, order.vmid)
    configs.add(world, Vm(order.vmid, node.hostname, {"lock": "create"}, world.clock.now()))
    if order.pool:
        world.pools[order.pool].vmids.add(order.vmid)


async def _make(world: World, node: Node, order: Order, task: Task) -> progress.Steps:
    vm = world.vms[order.vmid]
    maker = disks.DiskMaker(world, node, order.vmid, task.log)
    try:
        copied = disks.source_bytes(world, node, order.drives)
        yield world.timings.create_s
        made = maker.make(order.drives, {})
        yield copied / world.timings.import_bytes_per_s
    except ApiError as error:
        maker.undo()
        configs.remove(world, vm)
        raise refused(f"unable to create VM {order.vmid} - {error.reason}") from error
    vm.config = complete(world, {**order.options, **made})
    configs.save(world, vm)
    if order.starts:
        task.log.append("Execute autostart")
        _autostart(world, node, vm)


def complete(world: World, options: Mapping[str, str]) -> dict[str, str]:
    """A new VM's configuration with what Proxmox adds of its own."""
    config = dict(options)
    config.setdefault("boot", drives.default_boot(world, config))
    if "uuid=" not in config.get("smbios1", ""):
        config["smbios1"] = ",".join(filter(None, [f"uuid={configs.new_uuid(world)}", config.get("smbios1", "")]))
    if config.get("vmgenid", "1") == "1":
        config["vmgenid"] = configs.new_uuid(world)
    config["meta"] = f"creation-qemu={world.profile.qemu},ctime={int(world.clock.now())}"
    return config


def _autostart(world: World, node: Node, vm: Vm) -> None:
    try:
        power.switch_on(world, node, vm, [])
    except ApiError:
        return


def _crypt(world: World, password: str) -> str:
    salt = f"{world.random.getrandbits(48):012x}"
    digest = hashlib.sha256((salt + password).encode()).hexdigest()[:43]
    return f"$5${salt}${digest}"
