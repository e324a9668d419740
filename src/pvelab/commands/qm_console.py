"""qm's views of a VM: its snapshots as a tree, and its serial console."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pvelab.answers import refused
from pvelab.commands.tool import Invocation

TERMINAL_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "iface": {"type": "string", "enum": ["serial0", "serial1", "serial2", "serial3"], "optional": 1},
    "escape": {"type": "string", "optional": 1},
}
_COLUMNS = 30
_STEP = " " * 4
NO_TERMINAL = "socat[4711] E tcgetattr(0, 0x7ffd3c0b0e60): Inappropriate ioctl for device"
"""What the console's program says on a connection without a terminal; the lab offers no other."""


async def list_snapshots(run: Invocation) -> int:
    """qm listsnapshot: from the oldest to the present."""
    found = await run.get(run.vm_path("/snapshot"))
    names = {one["name"] for one in found}
    children: dict[str, list[dict[str, Any]]] = {}
    for one in sorted(found, key=lambda item: item.get("snaptime", float("inf"))):
        parent = one.get("parent", "")
        children.setdefault(parent if parent in names else "", []).append(one)
    for line in _tree("`->", children.get("", ()), children):
        run.process.print(line)
    return 0


def _tree(
    prefix: str, items: Sequence[Mapping[str, Any]], children: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[str]:
    for one in items:
        when = datetime.fromtimestamp(one["snaptime"], UTC).strftime("%Y-%m-%d %H:%M:%S") if "snaptime" in one else ""
        said = (one.get("description") or "no-description").split("\n")[0]
        width = max(_COLUMNS - len(prefix), 0)
        yield f"{prefix} {one['name']:<{width}} {when:<23} {said}"
        yield from _tree(_STEP + prefix, children.get(one["name"], ()), children)


async def terminal(run: Invocation) -> int:
    """qm terminal: finds the serial port; then there is no terminal to connect it with."""
    config = await run.get(run.vm_path("/config"))
    wanted = run.params.get("iface", "")
    ports = [name for name in sorted(config) if re.fullmatch(r"serial\d", name) and config[name] == "socket"]
    if wanted and wanted not in config:
        raise refused(f"serial interface '{wanted}' is not configured")
    if wanted and wanted not in ports:
        raise refused(f"wrong serial type on interface '{wanted}'")
    if not ports:
        raise refused("unable to find a serial interface")
    if (await run.get(run.vm_path("/status/current")))["status"] != "running":
        raise refused(f"VM {run.params['vmid']} not running")
    run.process.print(f"starting serial terminal on interface {wanted or ports[0]} (press Ctrl+O to exit)")
    run.process.complain(NO_TERMINAL)
    return 0
