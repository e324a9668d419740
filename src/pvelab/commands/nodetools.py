"""What else a node's shell offers to whoever manages it: uptime, ip, pvecm, systemctl, qemu-img and the like."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pvelab.api import Api
from pvelab.machine import Command, Process
from pvelab.rules import status
from pvelab.rules.images import inspect
from pvelab.state import Interface, Node, World


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A machine that a node has heard of on one of its bridges."""

    address: str
    device: str
    mac: str
    state: str = "REACHABLE"


Neighbours = Callable[[Node], Sequence[Neighbour]]
_RUNNING_UNITS = frozenset(
    ("corosync", "cron", "pve-cluster", "pve-firewall", "pvedaemon", "pveproxy", "pvestatd", "qmeventd", "ssh", "sshd")
)
_INACTIVE = 3
_UNKNOWN_UNIT = 4


def node_tools(api: Api, node: Node, neighbours: Neighbours) -> Mapping[str, Command]:
    """The tools of one node, by name."""
    world = api.world
    return {
        "ip": partial(_ip, node, neighbours),
        "nproc": partial(_nproc, node),
        "pvecm": partial(_pvecm, world, node),
        "pveversion": partial(_pveversion, world),
        "qemu-img": partial(_qemu_img, node),
        "systemctl": _systemctl,
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
    if process.argv[1:]:
        process.complain("pveversion: options are not known here")
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


async def _systemctl(process: Process) -> int:
    words = [word for word in process.argv[1:] if not word.startswith("-")]
    if len(words) != 2 or words[0] not in ("is-active", "is-enabled"):
        process.complain(f"systemctl: {' '.join(process.argv[1:]) or 'no command'}: not known here")
        return 1
    is_running = words[1].removesuffix(".service") in _RUNNING_UNITS
    if "-q" not in process.argv and "--quiet" not in process.argv:
        process.print(("active" if words[0] == "is-active" else "enabled") if is_running else "inactive")
    return 0 if is_running else _UNKNOWN_UNIT if words[0] == "is-enabled" else _INACTIVE


async def _pvecm(world: World, node: Node, process: Process) -> int:
    if process.argv[1:] != ["status"]:
        process.complain("pvecm: only status is known here")
        return 255
    if not world.cluster_name:
        process.complain(
            "Error: Corosync config '/etc/pve/corosync.conf' does not exist - is this node part of a cluster?"
        )
        return 2
    online = [one for one in world.nodes.values() if one is node or (one.is_up and not world.is_split)]
    needed = len(world.nodes) // 2 + 1
    process.print("Cluster information\n-------------------")
    process.print(f"Name:             {world.cluster_name}\n")
    process.print("Quorum information\n------------------")
    process.print(f"Nodes:            {len(online)}\nNode ID:          0x{node.nodeid:08x}")
    process.print(f"Quorate:          {'Yes' if world.is_quorate else 'No'}\n")
    process.print("Votequorum information\n----------------------")
    process.print(f"Expected votes:   {len(world.nodes)}\nTotal votes:      {len(online)}")
    process.print(f"Quorum:           {needed}{'' if world.is_quorate else ' Activity blocked'}")
    return 0


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
    rows: list[dict[str, Any]]
    if kind and "neighbour".startswith(kind):
        rows = [
            {"dst": one.address, "dev": one.device, "lladdr": one.mac, "state": [one.state]} for one in neighbours(node)
        ]
        lines = [f"{row['dst']} dev {row['dev']} lladdr {row['lladdr']} {row['state'][0]}" for row in rows]
    elif kind and ("address".startswith(kind) or "link".startswith(kind)):
        rows = [_link(n, one) for n, one in enumerate(node.interfaces.values(), 2)]
        lines = [
            f"{row['ifindex']}: {row['ifname']}: <{','.join(row['flags'])}> mtu 1500 state {row['operstate']}"
            for row in rows
        ]
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
