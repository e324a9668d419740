"""The nodes' neighbour tables: guests that a node has heard of on its bridges, and what a fault has put there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from pvelab.commands.neighbours import Neighbour
from pvelab.guest.guests import Guests, NotRunning
from pvelab.guest.machine import Nic
from pvelab.rules import drives
from pvelab.state import Node, Vm, World

FRESH_S = 60.0
"""An entry that nothing has confirmed for so long is stale. Linux makes that 15 to 45 s by chance (arp(7))."""
ANSWERING = ("REACHABLE", "PERMANENT")
Key = tuple[str, str]
"""Name of the node, and address."""


@dataclass(slots=True, eq=False)
class Neighbourhood:
    """Who is on the bridges. A node that pings finds whoever is really there.

    `planted` entries stand for what else is in the table; a REACHABLE one is a foreign machine that answers. `unheard`
    holds names of VMs that no node has exchanged a packet with.
    """

    world: Callable[[], World]
    guests: Callable[[], Guests]
    planted: dict[Key, Neighbour] = field(default_factory=dict)
    unheard: set[str] = field(default_factory=set)
    _pinged: dict[Key, float] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget everything."""
        self.planted.clear()
        self.unheard.clear()
        self._pinged.clear()

    def seen_by(self, node: Node) -> Sequence[Neighbour]:
        """The node's table."""
        planted = {key: one for key, one in self.planted.items() if key[0] == node.hostname}
        heard = [
            replace(one, state=self._state(node, one, vm))
            for vm, one in self._present(node)
            if (node.hostname, one.address) not in planted and self._is_heard(node, one, vm)
        ]
        return [*heard, *planted.values()]

    def ping(self, node: Node, address: str) -> bool:
        """Does somebody answer there? The node's entry then tells who."""
        key = (node.hostname, address)
        if key in self.planted and self.planted[key].state in ANSWERING:
            return True
        there = [vm for vm, one in self._present(node) if one.address == address and self._answers(vm)]
        if there:
            self.planted.pop(key, None)
            self._pinged[key] = node.clock.now()
            return True
        device = next(one.name for one in node.interfaces.values() if one.cidr)
        self.planted[key] = replace(self.planted.get(key, Neighbour(address, device, "")), mac="", state="FAILED")
        return False

    def _state(self, node: Node, one: Neighbour, vm: Vm) -> str:
        last = max(self._pinged.get((node.hostname, one.address), 0.0), self.guests().machine_in(vm).booted_at)
        return "REACHABLE" if node.clock.now() - last < FRESH_S else "STALE"

    def _is_heard(self, node: Node, one: Neighbour, vm: Vm) -> bool:
        return vm.name not in self.unheard or (node.hostname, one.address) in self._pinged

    def _answers(self, vm: Vm) -> bool:
        return not self.guests().machine_in(vm).is_paused

    def _present(self, node: Node) -> Iterator[tuple[Vm, Neighbour]]:
        """Every card with an address of a VM that is on, as a node hears it on its bridge of the same name."""
        world = self.world()
        for vm in world.vms.values():
            for number, nic in enumerate(self._nics(vm)):
                bridge = drives.parse_net(world, vm.config.get(f"net{number}", "")).get("bridge", "")
                if nic.address and bridge in node.interfaces:
                    yield vm, Neighbour(nic.address, bridge, nic.mac)

    def _nics(self, vm: Vm) -> Sequence[Nic]:
        try:
            return self.guests().machine_in(vm).hardware.nics
        except NotRunning:
            return ()
