"""The neighbour table of a node, as iproute2 prints it."""

from __future__ import annotations

import pytest

from homelab.errors import Misunderstood
from homelab.models import Wire
from homelab.proxmox.client import Proxmox
from homelab.proxmox.neighbours import ASK, Neighbour
from homelab.proxmox.transport import Link
from homelab.settings import Via
from support.clock import SteppingClock
from support.fake_shell import done
from support.fake_transport import FakeTransport

MAC = "BC:24:11:00:00:01"
PRINTED = """\
[{"dst":"192.0.2.7","dev":"vmbr0","lladdr":"bc:24:11:00:00:01","state":["REACHABLE"]},\
{"dst":"192.0.2.8","dev":"vmbr0","lladdr":"bc:24:11:00:00:02","router":null,"state":["STALE"]},\
{"dst":"192.0.2.9","dev":"vmbr0","state":["FAILED"]},{"dst":"192.0.2.10","dev":"vmbr0","state":["INCOMPLETE"]},\
{"dst":"fe80::1","dev":"vmbr0","lladdr":"bc:24:11:00:00:03"}]
"""


def asking(printed: str) -> tuple[Proxmox, FakeTransport]:
    wire = FakeTransport({}, Wire.SSH)
    wire.respond = lambda _command: done(printed)
    return Proxmox({"pve1": Link("pve1", None, wire, Via.SSH, lambda *_: None)}, SteppingClock()), wire


def test_entries_that_have_a_mac_are_read_with_how_sure_they_are() -> None:
    pve, wire = asking(PRINTED)

    assert pve.neighbours("pve1") == (
        Neighbour("192.0.2.7", "vmbr0", MAC, is_sure=True),
        Neighbour("192.0.2.8", "vmbr0", "BC:24:11:00:00:02", is_sure=False),
        Neighbour("fe80::1", "vmbr0", "BC:24:11:00:00:03", is_sure=False),
    )
    assert wire.commands == ["ip -j neigh show"]


@pytest.mark.parametrize(
    ("code", "state", "is_there"),
    [(0, "REACHABLE", True), (0, "DELAY", True), (1, "REACHABLE", True), (1, "STALE", False), (127, "DELAY", False)],
)
def test_who_answers_a_ping_is_there_and_who_was_only_heard_once_is_not(code: int, state: str, is_there: bool) -> None:
    entry = f'[{{"dst":"192.0.2.7","dev":"vmbr0","lladdr":"bc:24:11:00:00:01","state":["{state}"]}}]'
    pve, wire = asking(f"{code}\n{entry}\n")

    assert [one.mac for one in pve.neighbours_at("pve1", "192.0.2.7")] == ([MAC] if is_there else [])
    assert wire.commands == [f"sh -c {ASK} ask 192.0.2.7"]


def test_nobody_is_no_entry() -> None:
    assert asking("1\n")[0].neighbours_at("pve1", "192.0.2.7") == ()


@pytest.mark.parametrize("printed", ["192.0.2.7 dev vmbr0", '{"dst": 1}', '[{"dst": "no address"}]'])
def test_what_is_no_table_is_not_taken_for_one(printed: str) -> None:
    with pytest.raises(Misunderstood):
        asking(printed)[0].neighbours("pve1")
