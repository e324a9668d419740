"""Which of the addresses that agent, neighbour table and DNS know are the VM's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from homelab.errors import HomelabError, NodeFailed, Unreachable
from homelab.k3s_manager.whereabouts import Sight, Whereabouts, address_of, check_own
from homelab.models import VmFacts
from homelab.proxmox.answers import AgentInterface
from homelab.proxmox.client import Proxmox
from homelab.proxmox.neighbours import Neighbour
from unit.builders import vm

MAC, OTHER = "BC:24:11:00:00:01", "BC:24:11:00:00:02"
HERE, THERE, V6 = "192.0.2.7", "192.0.2.8", "2001:db8::7"


def own(net0: str = f"virtio={MAC},bridge=vmbr0") -> VmFacts:
    return vm({"net0": net0, "name": "k3s-vm-pve1"})


def heard(address: str, mac: str = MAC, device: str = "vmbr0") -> Neighbour:
    return Neighbour(address, device, mac, is_sure=False)


class Node:
    """A node with a neighbour table, and who answers it where."""

    def __init__(
        self, table: Sequence[Neighbour] = (), answering: Sequence[Neighbour] = (), error: HomelabError | None = None
    ) -> None:
        self._table, self._answering, self._error = tuple(table), answering, error
        self.asked: list[str] = []

    def neighbours(self, _node: str) -> tuple[Neighbour, ...]:
        if self._error and not self._table:
            raise self._error
        return self._table

    def neighbours_at(self, _node: str, place: str) -> tuple[Neighbour, ...]:
        self.asked.append(place)
        if self._error:
            raise self._error
        return tuple(one for one in self._answering if one.address == place)


def looking(node: Node, dns: Mapping[str, Sequence[str]] | None = None, domain: str = "maas") -> Whereabouts:
    known = dns or {}
    return Whereabouts(cast(Proxmox, node), lambda name: tuple(known.get(name, ())), domain)


def test_ipv4_that_others_can_reach_goes_first_and_each_is_tried_until_the_mac_answers() -> None:
    table = [heard("fe80::1"), heard(V6), heard("169.254.1.1"), heard(THERE), heard(HERE)]
    node = Node(table, [heard(HERE), heard(V6)])

    seen = looking(node).beyond_agent(own())

    assert seen == Sight(HERE, is_proven=True, how=f"pve1 hears {MAC} there")
    assert node.asked == [THERE, HERE]


@pytest.mark.parametrize(
    ("net0", "device", "is_ours"),
    [
        (f"virtio={MAC},bridge=vmbr0", "vmbr0", True),
        (f"virtio={MAC},bridge=vmbr0", "vmbr1", False),
        (f"virtio={MAC},bridge=vmbr0,tag=20", "vmbr0", False),
        (f"virtio={MAC},bridge=vmbr0,tag=20", "vmbr0.20", True),
        (f"virtio={MAC},bridge=vmbr0,tag=20", "vmbr0v20", True),
        (f"virtio={OTHER},bridge=vmbr0", "vmbr0", False),
    ],
)
def test_mac_counts_on_the_bridge_or_vlan_of_the_card_only(net0: str, device: str, is_ours: bool) -> None:
    entry = heard(HERE, device=device)
    node = Node([entry], [entry])

    assert isinstance(looking(node).beyond_agent(own(net0)), Sight) == is_ours
    assert node.asked == ([HERE] if is_ours else [])


def test_name_with_the_domain_goes_first_and_is_believed_only_where_the_mac_answers() -> None:
    dns = {"k3s-vm-pve1.maas": [THERE], "k3s-vm-pve1": [V6, HERE]}
    node = Node(answering=[heard(HERE), heard(THERE, OTHER)])

    seen = looking(node, dns).beyond_agent(own())

    assert seen == Sight(HERE, is_proven=True, how=f"k3s-vm-pve1 in DNS, and {MAC} answers there")
    assert node.asked == [THERE, HERE]


def test_whatever_was_seen_instead_is_told() -> None:
    dns = {"k3s-vm-pve1": [THERE]}

    said = looking(Node(answering=[heard(THERE, OTHER)]), dns, domain="").beyond_agent(own())

    assert said == f"pve1 hears nobody with its MAC {MAC}; k3s-vm-pve1 is {THERE} in DNS, where it does not answer"


@pytest.mark.parametrize("table", [[], [heard(THERE)]], ids=["at-once", "later"])
def test_node_that_cannot_be_asked_leaves_the_name_unproven(table: list[Neighbour]) -> None:
    node = Node(table, error=Unreachable("SSH to node pve1", "refused"))

    assert looking(node, {"k3s-vm-pve1": [HERE]}).beyond_agent(own()) == Sight(HERE, how="k3s-vm-pve1 in DNS")
    doubt = "the neighbour table of pve1 cannot be read: SSH to node pve1: refused"
    assert looking(node).beyond_agent(own()) == doubt


def test_card_without_a_mac_is_nobodys() -> None:
    assert isinstance(looking(Node([heard(HERE)], [heard(HERE)])).beyond_agent(own("")), str)


def test_two_machines_at_one_address_are_none() -> None:
    with pytest.raises(NodeFailed, match=f"another machine has its address: at {HERE} {OTHER} answers"):
        check_own(own(), HERE, [heard(HERE), heard(HERE, OTHER)])
    check_own(own(), HERE, [heard(HERE)])
    shared = [heard(HERE), heard(HERE, OTHER, "vmbr1")]
    assert isinstance(looking(Node(shared, shared)).beyond_agent(own()), str)


def test_agent_shows_addresses_of_other_cards_and_of_nobody_elses_use() -> None:
    cards = (
        AgentInterface("lo", MAC, ("127.0.0.1",)),
        AgentInterface("eth1", OTHER, (THERE,)),
        AgentInterface("eth0", MAC.lower(), ("fe80::1", V6, HERE)),
    )
    assert (address_of(cards, MAC), address_of(cards[:2], MAC)) == (HERE, "")
