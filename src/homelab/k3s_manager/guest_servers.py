"""Finds k3s servers among the VMs of the Proxmox cluster, for when SSH does not lead to them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from homelab.errors import HomelabError
from homelab.k3s_manager.remote import GuestByAgent
from homelab.k3s_manager.server import K3sServer
from homelab.k3s_manager.whereabouts import address_of, net0_mac
from homelab.models import VmRow
from homelab.proxmox.client import Proxmox

PARALLEL_READS = 16


@dataclass(frozen=True, slots=True)
class _Guest:
    """A VM whose agent answers: all its addresses, the one on net0, its uuid."""

    row: VmRow
    addresses: frozenset[str]
    address: str
    uuid: str


@dataclass(frozen=True, slots=True)
class GuestServers:
    """Asks every VM's guest agent; those that do not answer are left out."""

    pve: Proxmox

    def find(self, addresses: Collection[str], uuids: Collection[str]) -> Iterator[K3sServer]:
        """VMs that hold one of these addresses, then those that have one of these uuids, wherever they are now.

        An address that several VMs claim is nobody's.
        """
        guests = self._guests()
        for address in addresses:
            holders = [guest for guest in guests if address in guest.addresses]
            if len(holders) == 1:
                yield self._server(holders[0], address)
        for guest in guests:
            if guest.uuid in uuids and guest.address and guest.address not in addresses:
                yield self._server(guest, guest.address)

    def _server(self, guest: _Guest, address: str) -> K3sServer:
        return K3sServer(GuestByAgent(self.pve, guest.row.node, guest.row.vmid), address)

    def _guests(self) -> list[_Guest]:
        try:
            rows = [row for row in self.pve.cluster_vms() if not row.is_container]
        except HomelabError:
            return []
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            return [guest for guest in pool.map(self._guest, rows) if guest]

    def _guest(self, row: VmRow) -> _Guest | None:
        try:
            interfaces = self.pve.agent_interfaces(row.node, row.vmid)
            config = self.pve.vm_config(row.node, row.vmid)
        except HomelabError:
            return None
        found = frozenset(address for interface in interfaces for address in interface.addresses)
        return _Guest(row, found, address_of(interfaces, net0_mac(config)), config.uuid)
