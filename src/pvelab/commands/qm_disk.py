"""qm disk import and rescan, which no API method offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pvelab.answers import ApiError, refused
from pvelab.commands.options import UsageRefused
from pvelab.commands.tool import Invocation
from pvelab.rules import configs, disks, drives, storages, volumes
from pvelab.state import Vm

IMPORT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "source": {"type": "string"},
    "storage": {"type": "string", "format": "pve-storage-id"},
    "format": {"type": "string", "enum": ["raw", "qcow2", "vmdk"], "optional": 1},
    "target-disk": {"type": "string", "optional": 1},
}
WITHOUT_TARGET = "8.2"
"""The release whose qm disk import knows no --target-disk."""


async def import_disk(run: Invocation) -> int:
    """qm disk import: a file of the node becomes an unused disk of the VM, or the one named."""
    world, node, params = run.api.world, run.node, run.params
    if "target-disk" in params and world.profile.release == WITHOUT_TARGET:
        raise UsageRefused("unable to parse option", ["Unknown option: target-disk"])
    vm = configs.find(world, int(params["vmid"]), node)
    source = params["source"]
    if not source.startswith("/") and not node.files.is_file(run.process.path(source)):
        raise refused(f"{source}: non-existent or non-regular file")
    path = run.process.path(source)
    disks.source_file(node, path)
    volumes.at(world, node, params["storage"])
    configs.check_lock(vm)
    run.process.print(f"importing disk '{source}' to VM {vm.vmid} ...")
    wanted = {"file": f"{params['storage']}:0", "import-from": path}
    if "format" in params:
        wanted["format"] = params["format"]
    target = params.get("target-disk") or drives.first_unused(vm.config)
    log: list[str] = []
    maker = disks.DiskMaker(world, node, vm.vmid, log)
    try:
        made = maker.make({"scsi0": wanted}, {})
    except ApiError:
        maker.undo()
        run.show(log)
        raise
    run.show(log[:-1])
    volid = drives.volume(drives.parse(world, "scsi0", made["scsi0"]))
    await run.process.flush()
    await node.clock.sleep(node.files.content(path).allocated_bytes / world.timings.import_bytes_per_s)
    if target in vm.config:
        raise refused(f"cowardly refusing to overwrite existing entry: {target}")
    vm.config[target] = volid
    configs.save(world, vm)
    run.process.print(f"{target}: successfully imported disk '{volid}'")
    return 0


async def rescan(run: Invocation) -> int:
    """qm disk rescan: disks that no configuration names become unused disks of the VM whose id they bear."""
    is_dry, world = run.params.get("dryrun") == "1", run.api.world
    run.process.print(
        "NOTE: running in dry-run mode, won't write changes out!\nrescan volumes..." if is_dry else "rescan volumes..."
    )
    for vm in list(world.vms.values()):
        if vm.node == run.node.hostname and run.params.get("vmid", str(vm.vmid)) == str(vm.vmid):
            config = dict(vm.config)
            for volid in _unnamed_volumes(run, vm):
                option = drives.first_unused(config)
                config[option] = volid
                run.process.print(f"VM {vm.vmid} add unreferenced volume '{volid}' as '{option}' to config")
            if not is_dry and config != vm.config:
                vm.config = config
                configs.save(world, vm)
    return 0


def _unnamed_volumes(run: Invocation, vm: Vm) -> list[str]:
    world, node = run.api.world, run.node
    named = {text.partition(",")[0] for text in vm.config.values()}
    places = [
        volumes.Place(world, node, storage)
        for storage in storages.all_storages(world).values()
        if storages.is_on(storage, node) and "images" in storage.content and not storage.is_disabled
    ]
    return [
        one.volid
        for place in places
        for one in volumes.listing(place, vm.vmid)
        if one.content == "images" and one.volid not in named and "cloudinit" not in one.volid
    ]
