"""qm's commands that Proxmox VE's own services call, and those that need a console or a file; most can only refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pvelab.answers import refused
from pvelab.commands.tool import Invocation
from pvelab.rules import configs, power, storages

CLEANUP_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "clean-shutdown": {"type": "boolean"},
    "guest-requested": {"type": "boolean"},
}
OVF_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "manifest": {"type": "string"},
    "storage": {"type": "string", "format": "pve-storage-id"},
    "format": {"type": "string", "enum": ["raw", "qcow2", "vmdk"], "optional": 1},
    "dryrun": {"type": "boolean", "optional": 1},
}


async def monitor(run: Invocation) -> int:
    """qm monitor: reads commands from the input; of QEMU's own the lab has none but `info status`."""
    vm = configs.find(run.api.world, run.params["vmid"], run.node)
    run.process.print(f"Entering QEMU Monitor for VM {vm.vmid} - type 'help' for help")
    for line in (await run.process.read()).decode().splitlines():
        command = line.strip()
        if command in ("q", "quit"):
            break
        if command and not vm.is_running:
            run.process.print(f"ERROR: VM {vm.vmid} not running")
        elif command:
            run.process.print(f"VM status: {vm.qmp}" if command == "info status" else f"unknown command: '{command}'")
    return 0


async def vncproxy(run: Invocation) -> int:
    """qm vncproxy: only with the ticket that the API's own call puts into the environment."""
    configs.find_for_power(run.api.world, run.params["vmid"], run.node)
    raise refused("LC_PVE_TICKET not set, VNC proxy without password is forbidden")


async def nbdstop(run: Invocation) -> int:
    """qm nbdstop: what goes wrong is a warning."""
    vm = run.api.world.vms.get(int(run.params["vmid"]))
    if vm is None or not vm.is_running:
        run.process.complain(f"VM {run.params['vmid']} not running")
    return 0


async def migration_tunnel(run: Invocation) -> int:
    """qm mtunnel: the far end of a migration; resumes VMs of this node."""
    world = run.api.world
    if not world.is_quorate:
        run.process.print("no quorum")
        return 0
    run.process.print("tunnel online\nver 1")
    for line in (await run.process.read()).decode().splitlines():
        word, _, vmid = line.partition(" ")
        if line == "quit":
            run.process.print("OK")
            break
        if word == "resume" and vmid.isdigit():
            vm = world.vms.get(int(vmid))
            if vm is None or not vm.is_running:
                run.process.print(f"ERR: resume failed - VM {vmid} not running")
            else:
                power.go_on(world, vm)
                run.process.print("OK")
    return 0


async def cleanup(run: Invocation) -> int:
    """qm cleanup: what is left of a VM that ended; a VM that runs is waited for."""
    vm = run.api.world.vms.get(int(run.params["vmid"]))
    if vm is None:
        return 0
    run.process.complain(f"Starting cleanup for {vm.vmid}")
    if vm.is_running:
        if run.params["clean-shutdown"] == "1" and vm.config.get("lock") == "backup":
            raise refused("skipping cleanup - 'backup' lock is present and vm is running again")
        await run.node.clock.sleep(30)
        raise refused("aborting cleanup, VM is still running after 30 seconds")
    if vm.config.get("lock") == "rollback":
        raise refused("skipping cleanup - 'rollback' lock is present")
    run.process.complain(f"Finished cleanup for {vm.vmid}")
    return 0


async def enroll_efi_keys(run: Invocation) -> int:
    """qm enroll-efi-keys: the lab's EFI disks hold no keys that could be renewed."""
    vm = configs.find(run.api.world, run.params["vmid"], run.node)
    configs.check_lock(vm)
    if vm.is_running:
        raise refused(f"VM {vm.vmid} is running")
    if vm.config.get("template") == "1":
        raise refused(f"VM {vm.vmid} is a template")
    if "efidisk0" not in vm.config:
        raise refused(f"VM {vm.vmid} has no EFI disk configured")
    run.process.print("skipping - no pre-enrolled keys or already got ms-cert=2023k marker")
    return 0


async def import_ovf(run: Invocation) -> int:
    """qm importovf: refuses a manifest that is not there; the lab reads none."""
    manifest = run.params["manifest"]
    if not run.node.files.is_file(run.process.path(manifest)):
        raise refused(f"{manifest}: non-existent or non-regular file")
    storages.usable(run.api.world, run.params["storage"], run.node)
    run.process.complain("qm importovf: not known here")
    return 255
