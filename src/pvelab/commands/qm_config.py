"""qm's commands that show a VM and its configuration, and those that write it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from pvelab.answers import refused
from pvelab.commands.qm_guest import new_password
from pvelab.commands.tool import Invocation, call_api

_SAFE_IN_URL = "-._~!*'()"
_SAFE_IN_TEXT = "".join(map(chr, [*range(0x20, 0x3A), *range(0x3B, 0x7F)]))


async def config(run: Invocation) -> int:
    """qm config: sorted lines without the digest."""
    params = {name: value for name, value in run.params.items() if name != "vmid"}
    shown = (await run.call("GET", run.vm_path("/config"), params)).data
    for name in sorted(shown):
        value = quote(str(shown[name]), safe=_SAFE_IN_TEXT) if name == "description" else shown[name]
        if name != "digest":
            run.process.print(f"{name}: {value}")
    return 0


async def pending(run: Invocation) -> int:
    """qm pending."""
    return _print_pending(run, await run.get(run.vm_path("/pending")))


async def cloudinit_pending(run: Invocation) -> int:
    """qm cloudinit pending."""
    return _print_pending(run, await run.get(run.vm_path("/cloudinit")))


def _print_pending(run: Invocation, items: list[dict[str, Any]]) -> int:
    for item in sorted(items, key=lambda one: str(one["key"])):
        if item["key"] == "digest":
            continue
        if item.get("delete"):
            run.process.print(f"del {item['key']}: {item['value']}")
            continue
        if "value" in item:
            run.process.print(f"cur {item['key']}: {item['value']}")
        if "pending" in item:
            run.process.print(f"new {item['key']}: {item['pending']}")
    return 0


async def cloudinit_dump(run: Invocation) -> int:
    """qm cloudinit dump."""
    run.process.print(str(await run.get(run.vm_path("/cloudinit/dump"), type=run.params["type"])))
    return 0


async def list_vms(run: Invocation) -> int:
    """qm list: a table, or nothing at all without VMs."""
    vms = (await run.call("GET", f"/nodes/{run.node.hostname}/qemu", run.params)).data
    if vms:
        titles = ("VMID", "NAME", "STATUS", "MEM(MB)", "BOOTDISK(GB)", "PID")
        run.process.print("{:>10} {:<20} {:<10} {:<10} {:>12} {:<10}".format(*titles))
    for vm in sorted(vms, key=lambda one: int(one["vmid"])):
        memory_mib, disk_gib = vm.get("maxmem", 0) / (1 << 20), vm.get("maxdisk", 0) / (1 << 30)
        state = vm.get("qmpstatus") or vm["status"]
        run.process.print(
            f"{vm['vmid']:>10} {vm.get('name', ''):<20} {state:<10} {memory_mib:<10.0f} {disk_gib:>12.2f} "
            f"{vm.get('pid', 0):<10}"
        )
    return 0


async def status(run: Invocation) -> int:
    """qm status: unlike the API it tells paused from running."""
    shown = await run.get(run.vm_path("/status/current"))
    if run.params.get("verbose") != "1":
        run.process.print(f"status: {shown['qmpstatus']}")
        return 0
    for name in sorted(shown):
        if name != "cpu" and not isinstance(shown[name], dict | list):
            run.process.print(f"{name}: {shown[name]}")
    return 0


async def write(run: Invocation) -> int:
    """qm create and qm set: the public keys come from a file, a password without a value from the input."""
    if run.params.get("sshkeys"):
        run.params["sshkeys"] = quote(_file_text(run, run.params["sshkeys"]), safe=_SAFE_IN_URL)
    if run.params.get("cipassword") == "":
        run.params["cipassword"] = await new_password(run)
    return await call_api(run)


def _file_text(run: Invocation, name: str) -> str:
    try:
        return run.node.files.read(run.process.path(name), run.process.user).decode()
    except OSError as failed:
        raise refused(f"can't open '{name}' - {failed.strerror}") from failed
