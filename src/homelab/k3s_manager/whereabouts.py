"""Where on the network a VM is: as its guest agent, its node's neighbour table and DNS say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from homelab.errors import HomelabError, NodeFailed
from homelab.models import VmConfig, VmFacts, property_string
from homelab.proxmox.answers import AgentInterface
from homelab.proxmox.client import Proxmox
from homelab.proxmox.neighbours import Neighbour

Names = Callable[[str], tuple[str, ...]]
"""The addresses of a name; none where it is not known."""
LINK_LOCAL = re.compile(r"fe[89ab][0-9a-f]:|169\.254\.", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sight:
    """An address of a VM. `is_proven`: net0's MAC has it, as agent or node see it; else its host key has to show.

    `how` says where it was seen, for a person; empty where the configuration says so.
    """

    address: str
    is_proven: bool = False
    how: str = ""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Looks for VMs. `names` asks DNS, `domain` is NODE_DOMAIN."""

    pve: Proxmox
    names: Names
    domain: str

    def by_agent(self, vm: VmFacts) -> str:
        """The address on the interface with net0's MAC; empty: none yet. Raises HomelabError."""
        return address_of(self.pve.agent_interfaces(vm.node, vm.vmid), net0_mac(vm.config))

    def beyond_agent(self, vm: VmFacts) -> Sight | str:
        """By the neighbour table of its node, else by DNS; or a sentence on what was seen there instead.

        Where the node cannot be asked, DNS is taken at its word, and nothing is proven.
        """
        try:
            return self._by_mac(vm)
        except HomelabError as error:
            doubt = f"the neighbour table of {vm.node} cannot be read: {error}"
        return next((Sight(place, how=f"{name} in DNS") for name, place in self._named(vm)), doubt)

    def _by_mac(self, vm: VmFacts) -> Sight | str:
        mac = net0_mac(vm.config)
        heard = self.pve.neighbours(vm.node)
        for place in _usable(one.address for one in heard if is_net0(vm.config, one)):
            if self.is_at(vm, place):
                return Sight(place, is_proven=True, how=f"{vm.node} hears {mac} there")
        doubts = [f"{vm.node} hears nobody with its MAC {mac}"]
        for name, place in self._named(vm):
            if self.is_at(vm, place):
                return Sight(place, is_proven=True, how=f"{name} in DNS, and {mac} answers there")
            doubts.append(f"{name} is {place} in DNS, where it does not answer")
        return "; ".join(doubts)

    def is_at(self, vm: VmFacts, place: str) -> bool:
        """Does net0 answer there now, and nobody else? Raises HomelabError where that cannot be told."""
        heard = self.pve.neighbours_at(vm.node, place)
        return bool(heard) and all(is_net0(vm.config, one) for one in heard)

    def _named(self, vm: VmFacts) -> Iterator[tuple[str, str]]:
        names = [f"{vm.config.name}.{self.domain}", vm.config.name] if self.domain else [vm.config.name]
        for name in names:
            for place in _usable(self.names(name)):
                yield name, place


def check_own(vm: VmFacts, place: str, heard: Iterable[Neighbour]) -> None:
    """Raise NodeFailed where other machines than this VM answer there."""
    if others := [one.mac for one in heard if not is_net0(vm.config, one)]:
        raise NodeFailed(
            f"VM {vm.config.name} (vmid={vm.vmid}): another machine has its address",
            f"at {place} {' and '.join(others)} answers, and its own MAC is {net0_mac(vm.config)}",
            "give one of the two another address (CLOUD_IP_CONFIG_n), then run again",
        )


def net0_mac(config: VmConfig) -> str:
    return config.macs.get("net0", "")


def is_net0(config: VmConfig, heard: Neighbour) -> bool:
    """Is it the VM's first card, heard on that card's bridge or, with a VLAN tag, on the VLAN's?"""
    card = property_string(config.values.get("net0", ""))
    bridge, tag = card.get("bridge", ""), card.get("tag", "")
    devices = (f"{bridge}.{tag}", f"{bridge}v{tag}") if tag else (bridge,)
    return heard.mac == net0_mac(config) and heard.device in devices


def address_of(interfaces: tuple[AgentInterface, ...], mac: str) -> str:
    """The first address that others can use on the interface with this MAC; IPv4 before IPv6; empty: none yet."""
    listed = (one for interface in interfaces if interface.name != "lo" and interface.mac.upper() == mac
              for one in interface.addresses)  # fmt: skip
    return next(iter(_usable(listed)), "")


def _usable(places: Iterable[str]) -> list[str]:
    """Those that others can reach, each once, IPv4 before IPv6."""
    return sorted((one for one in dict.fromkeys(places) if not LINK_LOCAL.match(one)), key=lambda one: ":" in one)
