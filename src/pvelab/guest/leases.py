"""The DHCP server of the guests' network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Leases:
    """A lease per client id, which a machine makes of its machine id; a new disk is a new client."""

    address: Callable[[int], str]
    """The n-th address of the pool, from 1."""
    _given: dict[tuple[str, str], str] = field(default_factory=dict)

    def ask(self, machine_id: str, mac: str) -> str:
        """The address of this client: the one it had, or the next free one."""
        client = (machine_id, mac)
        if client not in self._given:
            self._given[client] = self.address(len(self._given) + 1)
        return self._given[client]
