"""What a node's journal and its services tell, from what the node has done."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pvelab.machine import Process
from pvelab.state import Node, Task, World

UNITS: Mapping[str, str] = {
    "corosync": "Corosync Cluster Engine",
    "cron": "Regular background program processing daemon",
    "pve-cluster": "The Proxmox VE cluster filesystem",
    "pve-firewall": "Proxmox VE firewall",
    "pve-guests": "PVE guests",
    "pve-ha-crm": "PVE Cluster HA Resource Manager Daemon",
    "pve-ha-lrm": "PVE Local HA Resource Manager Daemon",
    "pvedaemon": "PVE API Daemon",
    "pveproxy": "PVE API Proxy Server",
    "pvescheduler": "Proxmox VE scheduler",
    "pvestatd": "PVE Status Daemon",
    "qmeventd": "PVE Qemu Event Daemon",
    "ssh": "OpenBSD Secure Shell server",
}
ALIASES = {"sshd": "ssh"}
INACTIVE, UNKNOWN = 3, 4
_OPTIONS = re.compile(r"-(?:u|n|-unit|-lines|o|-output)")
_FLAGS = ("--no-pager", "-b", "-e", "-q", "--quiet", "-r", "--reverse", "-x", "-a")
_LAST_LINES = 10
_FORMATS = ("short", "cat", "short-iso")


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of the journal."""

    moment: float
    unit: str
    pid: int
    text: str

    def shown(self, node: Node, form: str = "short") -> str:
        """As journalctl prints it."""
        when = datetime.fromtimestamp(self.moment, UTC)
        stamp = when.strftime("%Y-%m-%dT%H:%M:%S+0000" if form == "short-iso" else "%b %d %H:%M:%S")
        return self.text if form == "cat" else f"{stamp} {node.hostname} {self.unit}[{self.pid}]: {self.text}"


def unit_name(word: str) -> str:
    """A unit's name without its suffix, under its own name."""
    name = word.removesuffix(".service")
    return ALIASES.get(name, name)


def entries(world: World, node: Node) -> list[Line]:
    """What the node wrote down, from the oldest."""
    found = [Line(node.booted_at + 20, unit, _pid(unit), f"Started {unit}.service - {UNITS[unit]}.") for unit in UNITS]
    for task in world.tasks.values():
        if task.node == node.hostname:
            found += _of_task(task)
    return sorted(found, key=lambda line: line.moment)


def _of_task(task: Task) -> list[Line]:
    who = f"<{task.user}{'!' + task.tokenid if task.tokenid else ''}>"
    lines = [Line(task.starttime, "pvedaemon", _pid("pvedaemon"), f"{who} starting task {task.upid}")]
    if task.endtime is not None:
        text = f"{who} end task {task.upid} {task.exitstatus}"
        lines.append(Line(task.endtime, "pvedaemon", _pid("pvedaemon"), text))
    return lines


def _pid(unit: str) -> int:
    return 900 + list(UNITS).index(unit)


async def journalctl(world: World, node: Node, process: Process) -> int:
    """journalctl [-u UNIT] [-n LINES] [-o short|short-iso|cat] [-b] [-r] [--no-pager]"""
    words = [part for word in process.argv[1:] for part in (word.split("=", 1) if word.startswith("--") else [word])]
    units, count, form = set[str](), 0, "short"
    while words:
        word = words.pop(0)
        joined = re.fullmatch(r"(-[nuo])(.+)", word)
        if joined and not word.startswith("--"):
            word, words = joined[1], [joined[2], *words]
        if word in _FLAGS:
            continue
        if not _OPTIONS.fullmatch(word) or not words:
            process.complain(f"journalctl: {word}: not known here")
            return 1
        value = words.pop(0)
        if word in ("-u", "--unit"):
            units.add(unit_name(value))
        elif word in ("-n", "--lines"):
            count = int(value) if value.isdigit() else _LAST_LINES
        else:
            form = value
    if form not in _FORMATS:
        process.complain(f"journalctl: -o {form}: not known here")
        return 1
    lines = [line for line in entries(world, node) if not units or line.unit in units]
    return _print_lines(node, process, lines[-count:], form)


def _print_lines(node: Node, process: Process, lines: Sequence[Line], form: str) -> int:
    is_reversed = not {"-r", "--reverse"}.isdisjoint(process.argv)
    for line in reversed(lines) if is_reversed else lines:
        process.print(line.shown(node, form))
    if not lines:
        process.print("-- No entries --")
    return 0


async def systemctl(world: World, node: Node, process: Process) -> int:
    """systemctl is-active|is-enabled|status UNIT..., list-units [PATTERN], --failed"""
    words = [word for word in process.argv[1:] if not word.startswith("-")]
    verb, names = (words[0], [unit_name(word) for word in words[1:]]) if words else ("", [])
    if verb in ("is-active", "is-enabled") and names:
        return _tell(node, process, verb, names)
    if verb == "status" and names:
        return max(_status(world, node, process, name) for name in names)
    if verb == "list-units" or "--failed" in process.argv:
        return _list_units(node, process, words[1:])
    process.complain(f"systemctl: {' '.join(process.argv[1:]) or 'no command'}: not known here")
    return 1


def _tell(node: Node, process: Process, verb: str, names: Sequence[str]) -> int:
    is_about_now = verb == "is-active"
    states = [_state(node, name) if is_about_now else _enabled(name) for name in names]
    if {"-q", "--quiet"}.isdisjoint(process.argv):
        for state in states:
            process.print(state)
    is_good = not {"active", "enabled"}.isdisjoint(states)
    return 0 if is_good else INACTIVE if is_about_now else UNKNOWN


def _enabled(name: str) -> str:
    return "enabled" if name in UNITS else "not-found"


def _state(node: Node, name: str) -> str:
    """active, failed or inactive: the services that a fault of the lab stands for have failed."""
    if name not in UNITS:
        return "inactive"
    has_failed = (name == "pve-cluster" and not node.has_config) or (name == "pveproxy" and node.api != "answers")
    return "failed" if has_failed else "active"


def _status(world: World, node: Node, process: Process, name: str) -> int:
    if name not in UNITS:
        process.complain(f"Unit {name}.service could not be found.")
        return UNKNOWN
    if _state(node, name) == "failed":
        process.print(f"× {name}.service - {UNITS[name]}")
        process.print(f"     Loaded: loaded (/usr/lib/systemd/system/{name}.service; enabled; preset: enabled)")
        process.print("     Active: failed (Result: exit-code)")
        return INACTIVE
    since = datetime.fromtimestamp(node.booted_at + 20, UTC).strftime("%a %Y-%m-%d %H:%M:%S UTC")
    process.print(f"● {name}.service - {UNITS[name]}")
    process.print(f"     Loaded: loaded (/usr/lib/systemd/system/{name}.service; enabled; preset: enabled)")
    process.print(f"     Active: active (running) since {since}; {_ago(node.clock.now() - node.booted_at - 20)} ago")
    process.print(f"   Main PID: {_pid(name)} ({name})\n")
    for line in [line for line in entries(world, node) if line.unit == name][-_LAST_LINES:]:
        process.print(line.shown(node))
    return 0


def _ago(seconds: float) -> str:
    days, left = divmod(int(seconds), 86_400)
    hours, minutes = left // 3600, left // 60 % 60
    if days:
        return f"{days // 30} month {days % 30} days" if days >= 30 else f"{days} days"
    return f"{hours}h {minutes}min" if hours else f"{minutes}min {left % 60}s"


def _list_units(node: Node, process: Process, patterns: Sequence[str]) -> int:
    wanted = [re.compile(re.escape(unit_name(one)).replace(r"\*", ".*")) for one in patterns]
    names = [name for name in UNITS if not wanted or any(one.fullmatch(name) for one in wanted)]
    if "--failed" in process.argv:
        names = [name for name in names if _state(node, name) == "failed"]
    width = max([len(name) for name in names], default=0) + len(".service")
    process.print(f"  {'UNIT':<{width}} LOAD   ACTIVE SUB     DESCRIPTION")
    for name in names:
        how = "active running" if _state(node, name) == "active" else "failed failed "
        process.print(f"  {name + '.service':<{width}} loaded {how} {UNITS[name]}")
    process.print(f"\n{len(names)} loaded units listed.")
    return 0
