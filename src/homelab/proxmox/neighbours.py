"""Whom a node has heard of on its bridges: its kernel's neighbour table, read by root SSH."""

from __future__ import annotations

from dataclasses import dataclass

from homelab import json_text
from homelab.proxmox.answers import address, misunderstood, rows, text
from homelab.proxmox.reads import Reads
from homelab.proxmox.remote_files import output

ASK = 'ping -c 1 -W 1 "$1" >/dev/null 2>&1; echo $?; ip -j neigh show to "$1"'
SURE = frozenset({"REACHABLE", "PERMANENT"})


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry with a MAC address, which is in upper case. `is_sure`: the kernel has had word of it just now."""

    address: str
    device: str
    mac: str
    is_sure: bool


class Neighbours(Reads):
    """Both raise Unreachable where the node cannot be logged in to. Source: ip-neighbour(8) of iproute2."""

    def neighbours(self, node: str) -> tuple[Neighbour, ...]:
        """Everybody with whom the node has exchanged packets lately, some of them gone by now."""
        return _read(output(self.root(node), ["ip", "-j", "neigh", "show"]), node)

    def neighbours_at(self, node: str, place: str) -> tuple[Neighbour, ...]:
        """Who answers the node at an address now, one for each bridge at most."""
        code, _, printed = output(self.root(node), ["sh", "-c", ASK, "ask", place]).partition("\n")
        return tuple(one for one in _read(printed, node) if one.is_sure or code.strip() == "0")


def _read(printed: str, node: str) -> tuple[Neighbour, ...]:
    what = f"ip neigh on {node}"
    try:
        listed = rows(json_text.read(printed or "[]"), what)
    except ValueError as error:
        raise misunderstood(what, f"it printed no JSON but {printed[:80]!r}") from error
    found = []
    for row in listed:
        states = row.get("state")
        is_sure = isinstance(states, list) and not SURE.isdisjoint(map(str, states))
        found.append(Neighbour(address(row, "dst"), text(row, "dev"), text(row, "lladdr").upper(), is_sure))
    return tuple(one for one in found if one.mac)
