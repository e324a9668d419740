"""Whom a node has heard of on its bridges: `ip neighbour`, and `ping`, which makes a node ask who is there.

Written from ip-neighbour(8) and ping(8): iproute2 6.x and iputils 20221126, as Debian 12 and 13 have them.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pvelab.machine import Process
from pvelab.state import Node

STATES = ("REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT", "INCOMPLETE", "FAILED")
WITHOUT_MAC = ("INCOMPLETE", "FAILED")
USAGE, FAILURE = 2, 1
_PING_FLAGS = frozenset({"-q", "-n", "-4", "-6"})
_PING_VALUES = frozenset({"-c", "-W", "-w", "-I"})


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry of a node's neighbour table; without a MAC address while nobody has answered."""

    address: str
    device: str
    mac: str
    state: str = "REACHABLE"


class Neighbours(Protocol):
    """The network as nodes see it."""

    def seen_by(self, node: Node) -> Sequence[Neighbour]:
        """The node's neighbour table."""
        ...

    def ping(self, node: Node, address: str) -> bool:
        """Ask for an address; who answers stands in the table from then on."""
        ...


class Nobody:
    """A network with nobody on it."""

    def seen_by(self, _node: Node) -> Sequence[Neighbour]:
        return ()

    def ping(self, _node: Node, _address: str) -> bool:
        return False


def ip_neighbour(neighbours: Neighbours, node: Node, words: Sequence[str], process: Process) -> int:
    """ip [-j] neighbour [ { show | list } ] [ [ to ] ADDRESS ] [ dev DEVICE ] [ nud STATE ]"""
    try:
        wanted = _filter(words)
    except ValueError as error:
        process.complain(str(error))
        return 255
    found = [one for one in neighbours.seen_by(node) if _fits(one, wanted)]
    rows = [_row(one, shows_device="dev" not in wanted) for one in found]
    if any(word in ("-j", "-json") for word in process.argv):
        process.print(json.dumps(rows, separators=(",", ":")))
    else:
        for row in rows:
            process.print(_line(row))
    return 0


def _filter(words: Sequence[str]) -> Mapping[str, str]:
    """Raises ValueError with what ip says."""
    left = list(words[1:]) if words and words[0] in ("show", "list", "lst", "ls") else list(words)
    wanted: dict[str, str] = {}
    while left:
        word = left.pop(0)
        if word in ("to", "dev", "nud"):
            if not left:
                raise ValueError('Command line is not complete. Try option "help"')
            wanted[word] = left.pop(0)
        else:
            wanted["to"] = word
    if "to" in wanted:
        _check_address(wanted["to"])
    if wanted.get("nud", "reachable").upper() not in STATES:
        raise ValueError(f'Error: argument "{wanted["nud"]}" is wrong: nud state is bad')
    return wanted


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f'Error: any valid prefix is expected rather than "{text}".') from None


def _fits(one: Neighbour, wanted: Mapping[str, str]) -> bool:
    return (
        wanted.get("to", one.address) == one.address
        and wanted.get("dev", one.device) == one.device
        and wanted.get("nud", one.state).upper() == one.state
    )


def _row(one: Neighbour, *, shows_device: bool) -> dict[str, Any]:
    device = {"dev": one.device} if shows_device else {}
    mac = {} if one.state in WITHOUT_MAC else {"lladdr": one.mac}
    return {"dst": one.address, **device, **mac, "state": [one.state]}


def _line(row: Mapping[str, Any]) -> str:
    device = f" dev {row['dev']}" if "dev" in row else ""
    mac = f" lladdr {row['lladdr']}" if "lladdr" in row else " "
    return f"{row['dst']}{device}{mac} {row['state'][0]} "


async def ping(neighbours: Neighbours, node: Node, process: Process) -> int:
    """ping -c COUNT [-W SECONDS] [-w SECONDS] [-q] [-n] ADDRESS"""
    words, options = list(process.argv[1:]), dict[str, str]()
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in _PING_VALUES and words:
            options[option] = words.pop(0)
        elif option not in _PING_FLAGS:
            process.complain(f"ping: invalid option -- '{option.lstrip('-')[:1]}'")
            return USAGE
    if len(words) != 1 or "-c" not in options:
        process.complain("ping: only -c COUNT and one address are known here")
        return USAGE
    try:
        address = str(ipaddress.ip_address(words[0]))
    except ValueError:
        process.complain(f"ping: {words[0]}: Name or service not known")
        return USAGE
    count = int(options["-c"])
    answered = count if neighbours.ping(node, address) else 0
    for line in _ping_lines(address, count, answered):
        process.print(line)
    return 0 if answered else FAILURE


def _ping_lines(address: str, count: int, answered: int) -> list[str]:
    lost = 0 if answered else 100
    return [
        f"PING {address} ({address}) 56(84) bytes of data.",
        *(f"64 bytes from {address}: icmp_seq={n} ttl=64 time=0.310 ms" for n in range(1, answered + 1)),
        "",
        f"--- {address} ping statistics ---",
        f"{count} packets transmitted, {answered} received, {lost}% packet loss, time {(count - 1) * 1000}ms",
        "rtt min/avg/max/mdev = 0.310/0.310/0.310/0.000 ms" if answered else "",
    ]
