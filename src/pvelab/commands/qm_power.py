"""qm's commands around power that are more than one API call."""

from __future__ import annotations

from pvelab.answers import ROOT_SSH, ApiError, refused
from pvelab.commands.tool import Invocation, call_api

_POLL_S = 1.0


async def shutdown(run: Invocation) -> int:
    """qm shutdown: of a VM that is off, or not there, it warns first."""
    warning = await _warning(run)
    if warning:
        run.process.complain(f"{warning}\n")
    return await call_api(run)


async def reboot(run: Invocation) -> int:
    """qm reboot: of a VM that is off, it warns and then fails with the same text."""
    warning = await _warning(run)
    if warning:
        run.process.complain(f"{warning}\n")
        raise refused(warning)
    return await call_api(run)


async def _warning(run: Invocation) -> str:
    vmid = run.params["vmid"]
    try:
        status = await run.get(run.vm_path("/status/current"))
    except ApiError as refusal:
        if refusal.errors:
            raise
        return f"unable to find configuration file for VM {vmid} on node '{run.node.hostname}'"
    if status["qmpstatus"] == "paused" and run.params.get("forceStop") == "1":
        run.process.complain("VM is paused - stop instead of shutdown")
    return f"VM {vmid} not running" if status["status"] == "stopped" else ""


async def unlock(run: Invocation) -> int:
    """qm unlock: silent, with or without a lock."""
    path = run.vm_path("/config")
    if "lock" in await run.get(path):
        await run.api.call("PUT", path, {"delete": "lock", "skiplock": "1"}, ROOT_SSH, run.node.hostname)
    return 0


async def wait(run: Invocation) -> int:
    """qm wait: until the VM is off."""
    vm = run.api.world.vms.get(int(run.params["vmid"]))
    if vm is None or vm.node != run.node.hostname:
        raise refused(f"unable to find configuration file for VM {run.params['vmid']} on node '{run.node.hostname}'")
    waits_until = run.node.clock.now() + float(run.params.get("timeout", "inf"))
    is_first = True
    while (status := await run.get(run.vm_path("/status/current")))["status"] != "stopped":
        if is_first:
            run.process.print(f"waiting until VM {run.params['vmid']} stops (PID {status['pid']})")
            is_first = False
        if run.node.clock.now() >= waits_until:
            raise refused("wait failed - got timeout")
        await run.process.flush()
        await run.node.clock.sleep(_POLL_S)
    return 0
