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
    _count: int = 0

    def ask(self, machine_id: str, mac: str) -> str:
        """The address of this client: the one it had, or the next free one."""
        client = (machine_id, mac)
        if client not in self._given:
            self._count += 1
            self._given[client] = self.address(self._count)
        return self._given[client]

    def forget(self, machine_id: str, mac: str) -> None:
        """The lease of this client ends; it is given another address when it asks again."""
        self._given.pop((machine_id, mac), None)
