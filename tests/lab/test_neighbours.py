"""Whom a node has heard of, as `ip neighbour` and `ping` of Debian say it."""

from __future__ import annotations

import json

import pytest

from pvelab.admin import SeedFailed
from pvelab.catalogue import UnknownChoice
from pvelab.guest.guests import Guests
from pvelab.lab import Lab
from pvelab.state import World

NAME = "k3s-vm-pve3"


def table(lab: Lab, words: str = "", node: str = "pve3") -> dict[str, dict[str, object]]:
    return {str(row["dst"]): row for row in json.loads(lab.shell(node, f"ip -j neigh show {words}"))}


def mac(lab: Lab, vmid: int) -> str:
    return str(lab.snapshot()["vms"][vmid]["config"]["net0"]).split(",")[0].partition("=")[2].lower()


def address_of(lab: Lab, vmid: int) -> str:
    def look(world: World) -> str:
        assert isinstance(world.guests, Guests)
        return world.guests.machine_in(world.vms[vmid]).address

    return lab.look(look)


def test_guests_are_in_the_table_of_every_node_with_their_bridge_and_a_state_that_ages(lab: Lab) -> None:
    lab.reset("healthy")
    addresses = [address_of(lab, vmid) for vmid in (100, 101, 102)]
    at_first = table(lab, node="pve1")
    lab.shell("pve1", f"ping -c 1 -W 1 {addresses[2]} >/dev/null")
    after = table(lab, node="pve1")

    assert [at_first[address]["lladdr"] for address in addresses] == [mac(lab, vmid) for vmid in (100, 101, 102)]
    assert {row["state"][0] for row in at_first.values() if isinstance(row["state"], list)} == {"STALE"}
    assert after[addresses[2]] == {"dst": addresses[2], "dev": "vmbr0", "lladdr": mac(lab, 102), "state": ["REACHABLE"]}
    due = lab.look(lambda world: world.clock.now()) + 90
    lab.wait_until(lambda world: world.clock.now() >= due)
    assert table(lab, node="pve1")[addresses[2]]["state"] == ["STALE"]


def test_table_is_narrowed_by_address_device_and_state_and_shown_as_iproute2_does(lab: Lab) -> None:
    lab.reset("healthy")
    one, nobody = address_of(lab, 100), lab.network.guest(99)
    assert "0 received, 100% packet loss" in lab.shell("pve3", f"ping -c 2 {nobody} || true")

    assert table(lab, f"to {one}").keys() == {one}
    assert table(lab, nobody)[nobody] == {"dst": nobody, "dev": "vmbr0", "state": ["FAILED"]}
    assert lab.shell("pve3", f"ip neigh show {nobody}") == f"{nobody} dev vmbr0  FAILED \n"
    assert lab.shell("pve3", f"ip neigh show {one} dev vmbr0") == f"{one} lladdr {mac(lab, 100)} STALE \n"
    assert lab.shell("pve3", "ip neigh show dev vmbr7") == ""
    assert table(lab, "nud failed").keys() == {nobody}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ip neigh show to", "Command line is not complete"),
        ("ip neigh show k3s-vm-pve3", 'any valid prefix is expected rather than "k3s-vm-pve3"'),
        ("ip neigh show nud asleep", "nud state is bad"),
        ("ping -z 192.0.2.1", "invalid option -- 'z'"),
        ("ping 192.0.2.1", "only -c COUNT and one address are known here"),
        ("ping -c 1 k3s-vm-pve3", "Name or service not known"),
    ],
)
def test_what_the_tools_do_not_take_is_refused(lab: Lab, line: str, said: str) -> None:
    with pytest.raises(SeedFailed, match=said):
        lab.shell("pve3", line)


def test_machine_that_is_off_paused_or_unheard_is_found_only_where_it_answers(lab: Lab) -> None:
    lab.reset("healthy")
    address = address_of(lab, 102)
    lab.fault("unheard", vm=NAME)

    assert address not in table(lab)
    assert "1 received, 0% packet loss" in lab.shell("pve3", f"ping -c 1 {address}")
    assert table(lab)[address]["lladdr"] == mac(lab, 102)
    lab.shell("pve3", "qm suspend 102")
    assert "0 received" in lab.shell("pve3", f"ping -c 1 {address} || true")
    assert table(lab)[address]["state"] == ["FAILED"]
    lab.clear_faults()
    lab.shell("pve3", "qm resume 102")
    lab.shell("pve3", f"ping -c 1 {address}")
    assert table(lab)[address]["state"] == ["REACHABLE"]
    lab.shell("pve3", "qm stop 102")
    assert address not in table(lab)


def test_planted_entries_stand_until_somebody_answers_and_a_foreign_machine_does(lab: Lab) -> None:
    lab.reset("healthy")
    theirs, foreign = address_of(lab, 102), lab.network.guest(88)
    lab.fault("neighbour", address=theirs, vm="k3s-vm-pve1")
    lab.fault("neighbour", address=foreign, mac="02:00:00:00:00:01", state="REACHABLE", device="vmbr1", node="pve3")

    assert table(lab)[theirs]["lladdr"] == mac(lab, 100)
    lab.shell("pve3", f"ping -c 1 {theirs} && ping -c 1 {foreign}")
    assert table(lab)[theirs]["lladdr"] == mac(lab, 102)
    assert table(lab)[foreign] == {
        "dst": foreign, "dev": "vmbr1", "lladdr": "02:00:00:00:00:01", "state": ["REACHABLE"]
    }  # fmt: skip
    assert foreign not in table(lab, node="pve1")
    lab.clear_faults()
    assert foreign not in table(lab)


def test_entry_in_a_state_that_linux_does_not_know_is_refused(lab: Lab) -> None:
    with pytest.raises(UnknownChoice, match="state=asleep"):
        lab.fault("neighbour", address="192.0.2.1", state="asleep")
