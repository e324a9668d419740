"""What else a node's shell offers to whoever manages it: uptime, ip, pvecm, systemctl, qemu-img and the like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pvelab.api import Api
from pvelab.commands import hostinfo, journal
from pvelab.commands.neighbours import Neighbours, ip_neighbour, ping
from pvelab.machine import Command, Process
from pvelab.rules import status
from pvelab.rules.images import inspect
from pvelab.state import Interface, Node, World


def node_tools(api: Api, node: Node, neighbours: Neighbours) -> Mapping[str, Command]:
    """The tools of one node, by name."""
    world = api.world
    return {
        "free": partial(hostinfo.free, world, node),
        "ha-manager": partial(hostinfo.ha_manager, world),
        "ip": partial(_ip, node, neighbours),
        "journalctl": partial(journal.journalctl, world, node),
        "nproc": partial(_nproc, node),
        "ping": partial(ping, neighbours, node),
        "pvecm": partial(hostinfo.pvecm, world, node),
        "pveversion": partial(_pveversion, world),
        "qemu-img": partial(_qemu_img, node),
        "systemctl": partial(journal.systemctl, world, node),
        "uname": partial(_uname, world, node),
        "uptime": partial(_uptime, node),
    }


def proc_files(world: World, node: Node) -> Mapping[str, bytes]:
    """What /proc tells of a node."""
    up_s = node.clock.now() - node.booted_at
    memory = status.node_memory(world, node)
    return {
        "uptime": f"{up_s:.2f} {up_s * node.cpus * 0.9:.2f}\n".encode(),
        "meminfo": (
            f"MemTotal:       {memory['total'] >> 10:>8} kB\n"
            f"MemFree:        {memory['free'] >> 10:>8} kB\n"
            f"MemAvailable:   {memory['available'] >> 10:>8} kB\n"
        ).encode(),
        "loadavg": b"0.10 0.10 0.10 1/300 4711\n",
        "cpuinfo": "".join(f"processor\t: {n}\n\n" for n in range(node.cpus)).encode(),
        "stat": f"btime {int(node.booted_at)}\n".encode(),
        "version": f"Linux version {world.profile.kernel} {world.profile.kernel_build}\n".encode(),
        "sys/kernel/hostname": f"{node.hostname}\n".encode(),
    }


async def _nproc(node: Node, process: Process) -> int:
    process.print(str(node.cpus))
    return 0


async def _pveversion(world: World, process: Process) -> int:
    profile = world.profile
    if process.argv[1:] in (["-v"], ["--verbose"]):
        process.print(f"proxmox-ve: {profile.release}.0 (running kernel: {profile.kernel})")
        process.print(f"pve-manager: {profile.version} (running version: {profile.version}/{profile.repoid})")
        process.print(f"proxmox-kernel-{profile.kernel}: {profile.kernel}")
        process.print(f"pve-qemu-kvm: {profile.qemu}")
        return 0
    if process.argv[1:]:
        process.complain(f"pveversion: {' '.join(process.argv[1:])}: not known here")
        return 255
    process.print(f"pve-manager/{profile.version}/{profile.repoid} (running kernel: {profile.kernel})")
    return 0


async def _uname(world: World, node: Node, process: Process) -> int:
    values = {
        "s": "Linux",
        "n": node.hostname,
        "r": world.profile.kernel,
        "v": world.profile.kernel_build,
        "m": "x86_64",
    }
    letters = "".join(word.lstrip("-") for word in process.argv[1:]) or "s"
    letters = "snrvm" if letters == "a" else letters
    if not set(letters) <= set(values):
        process.complain(f"uname: invalid option -- '{letters}'")
        return 1
    process.print(" ".join(values[letter] for letter in values if letter in letters))
    return 0


async def _uptime(node: Node, process: Process) -> int:
    up_s = int(node.clock.now() - node.booted_at)
    days, rest_s = divmod(up_s, 86_400)
    if process.argv[1:] not in ([], ["-p"], ["-s"]):
        process.complain("uptime: only -p and -s are known here")
        return 1
    hours, minutes = rest_s // 3600, rest_s // 60 % 60
    if process.argv[1:] == ["-s"]:
        process.print(_local_time(node.booted_at))
    elif process.argv[1:] == ["-p"]:
        process.print(f"up {days} days, {hours} hours, {minutes} minutes")
    else:
        now = _local_time(node.clock.now()).split()[1]
        process.print(f" {now} up {days} days, {hours:2}:{minutes:02},  1 user,  load average: 0.10, 0.10, 0.10")
    return 0


def _local_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")


async def _qemu_img(node: Node, process: Process) -> int:
    words = [word for word in process.argv[1:] if not word.startswith("--output")]
    if words[:1] != ["info"] or len(words) != 2 or "--output=json" not in process.argv:
        process.complain("qemu-img: only `info --output=json FILE` is known here")
        return 1
    path = process.path(words[1])
    try:
        content = node.files.content(path, process.user)
    except OSError as failed:
        process.complain(f"qemu-img: Could not open '{words[1]}': Could not open '{words[1]}': {failed.strerror}")
        return 1
    facts = inspect(content)
    shown = {
        "virtual-size": facts.size_bytes,
        "filename": words[1],
        "format": facts.format,
        "actual-size": content.allocated_bytes,
        "dirty-flag": False,
    }
    process.print(json.dumps(shown, indent=4))
    return 0


async def _ip(node: Node, neighbours: Neighbours, process: Process) -> int:
    words = [word for word in process.argv[1:] if not word.startswith("-")]
    kind = words[0] if words else ""
    if kind and "neighbour".startswith(kind):
        return ip_neighbour(neighbours, node, words[1:], process)
    if kind and ("address".startswith(kind) or "link".startswith(kind)):
        rows = [_link(n, one) for n, one in enumerate(node.interfaces.values(), 2)]
        is_brief = not {"-br", "-brief"}.isdisjoint(process.argv)
        lines = hostinfo.brief_links(rows) if is_brief else hostinfo.links(rows, node, "address".startswith(kind))
    else:
        process.complain(f'Object "{kind}" is unknown, try "ip help".')
        return 1
    if any(word in ("-j", "-json") for word in process.argv):
        process.print(json.dumps(rows, separators=(",", ":")))
    else:
        for line in lines:
            process.print(line)
    return 0


def _link(index: int, interface: Interface) -> dict[str, Any]:
    address, _, prefix = interface.cidr.partition("/")
    shown = [{"family": "inet", "local": address, "prefixlen": int(prefix), "scope": "global"}] if address else []
    state = "UP" if interface.is_active else "DOWN"
    return {
        "ifindex": index,
        "ifname": interface.name,
        "flags": ["BROADCAST", "MULTICAST", *(["UP", "LOWER_UP"] if interface.is_active else [])],
        "mtu": 1500,
        "operstate": state,
        "link_type": "ether",
        "addr_info": shown,
    }
