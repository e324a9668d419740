"""How a node describes itself and its cluster on its command line: memory, links, members, high availability."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pvelab.machine import Process
from pvelab.rules import status
from pvelab.state import Node, World

_UNITS = {"-b": 1, "-k": 1 << 10, "-m": 1 << 20, "-g": 1 << 30}
_HUMAN = (("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10))
_TITLES = ("total", "used", "free", "shared", "buff/cache", "available")
LOOPBACK = (
    "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000",
    "    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00",
)
LOOPBACK_ADDRESS = ("    inet 127.0.0.1/8 scope host lo", "       valid_lft forever preferred_lft forever")


async def free(world: World, node: Node, process: Process) -> int:
    """free [-b|-k|-m|-g|-h]"""
    options = process.argv[1:]
    if not set(options) <= {*_UNITS, "-h"}:
        process.complain(f"free: {' '.join(options)}: not known here")
        return 1
    memory = status.node_memory(world, node)
    unit = _UNITS[options[-1]] if options and options[-1] in _UNITS else 1 << 10

    def shown(size_bytes: int) -> str:
        return _human(size_bytes) if "-h" in options else str(size_bytes // unit)

    rows = [("Mem:", [memory["total"], memory["used"], memory["free"], 0, 0, memory["available"]]), ("Swap:", [0] * 3)]
    process.print(
        f"{'':<8}" + "".join(f"{name:>12}" for name in ["total", "used", "free", "shared", "buff/cache", "available"])
    )
    for name, sizes in rows:
        process.print(f"{name:<8}" + "".join(f"{shown(size):>12}" for size in sizes))
    return 0


def _human(size_bytes: int) -> str:
    for name, unit in _HUMAN:
        if size_bytes >= unit:
            amount = size_bytes / unit
            return f"{amount:.1f}{name}" if amount < 10 else f"{amount:.0f}{name}"
    return f"{size_bytes}B"


async def pvecm(world: World, node: Node, process: Process) -> int:
    """pvecm status|nodes"""
    verb = " ".join(process.argv[1:])
    if verb not in ("status", "nodes"):
        process.complain(f"pvecm: {verb or 'no command'}: not known here")
        return 255
    if not world.cluster_name:
        process.complain(
            "Error: Corosync config '/etc/pve/corosync.conf' does not exist - is this node part of a cluster?"
        )
        return 2
    online = [one for one in world.nodes.values() if one is node or (one.is_up and not world.is_split)]
    is_status = verb == "status"
    for line in (*(_status(world, node, online) if is_status else ()), *_members(node, online, has_ids=is_status)):
        process.print(line)
    return 0


def _status(world: World, node: Node, online: Sequence[Node]) -> Iterator[str]:
    needed = len(world.nodes) // 2 + 1
    yield from ("Cluster information", "-------------------", f"Name:             {world.cluster_name}")
    yield from (f"Config Version:   {len(world.nodes)}", "Transport:        knet", "Secure auth:      on", "")
    yield from ("Quorum information", "------------------", "Quorum provider:  corosync_votequorum")
    yield from (f"Nodes:            {len(online)}", f"Node ID:          0x{node.nodeid:08x}")
    yield from (f"Quorate:          {'Yes' if world.is_quorate else 'No'}", "")
    yield from ("Votequorum information", "----------------------", f"Expected votes:   {len(world.nodes)}")
    yield from (f"Highest expected: {len(world.nodes)}", f"Total votes:      {len(online)}")
    yield f"Quorum:           {needed}{'' if world.is_quorate else ' Activity blocked'}"
    yield from (f"Flags:            {'Quorate ' if world.is_quorate else ''}", "")


def _members(node: Node, online: Sequence[Node], *, has_ids: bool) -> Iterator[str]:
    yield from (*(() if has_ids else ("",)), "Membership information", "----------------------")
    yield "    Nodeid      Votes Name"
    for one in online:
        number, name = (f"0x{one.nodeid:08x}", one.address) if has_ids else (str(one.nodeid), one.hostname)
        yield f"{number:>10} {1:>10} {name}{' (local)' if one is node else ''}"


async def ha_manager(world: World, process: Process) -> int:
    """ha-manager status"""
    if process.argv[1:] != ["status"]:
        process.complain(f"ha-manager: {' '.join(process.argv[1:]) or 'no command'}: not known here")
        return 255
    process.print("quorum OK" if world.is_quorate else "quorum No quorum on node")
    for sid in sorted(world.ha):
        vm = world.vms.get(int(sid.partition(":")[2]))
        if vm:
            process.print(f"service {sid} ({vm.node}, {'started' if vm.is_running else 'stopped'})")
    return 0


def links(rows: Sequence[Mapping[str, Any]], node: Node, with_addresses: bool) -> list[str]:
    """`ip address` or `ip link`, the loopback first."""
    lines = [*LOOPBACK, *(LOOPBACK_ADDRESS if with_addresses else ())]
    bridges = {port: one.name for one in node.interfaces.values() for port in one.ports.split()}
    for row in rows:
        name = row["ifname"]
        master = f" master {bridges[name]}" if name in bridges else ""
        lines.append(
            f"{row['ifindex']}: {name}: <{','.join(row['flags'])}> mtu 1500 qdisc noqueue{master}"
            f" state {row['operstate']} group default qlen 1000"
        )
        for address in row["addr_info"] if with_addresses else ():
            lines.append(f"    inet {address['local']}/{address['prefixlen']} scope global {name}")
            lines.append("       valid_lft forever preferred_lft forever")
    return lines


def brief_links(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """`ip -br address`, the loopback first."""
    lines = [f"{'lo':<16} {'UNKNOWN':<14} 127.0.0.1/8 "]
    for row in rows:
        addresses = "".join(f"{one['local']}/{one['prefixlen']} " for one in row["addr_info"])
        lines.append(f"{row['ifname']:<16} {row['operstate']:<14} {addresses}")
    return lines
