"""How a machine comes up, in lab seconds: kernel, network, sshd, cloud-init's end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pvelab.guest import cloud_init, ubuntu
from pvelab.guest.apt import start_agent
from pvelab.guest.seed import Address, Seed

if TYPE_CHECKING:
    from pvelab.guest.leases import Leases
    from pvelab.guest.machine import GuestMachine, Nic


@dataclass(frozen=True, slots=True)
class Pace:
    """When each stage is reached, counted from power on."""

    network_s: float
    sshd_s: float
    final_s: float


FIRST_BOOT = Pace(network_s=12.0, sshd_s=20.0, final_s=25.0)
LATER_BOOT = Pace(network_s=6.0, sshd_s=10.0, final_s=12.0)
AGENT_S = 3.0
"""From sshd until the guest agent is up at a later boot."""


@dataclass(slots=True, eq=False)
class Boot:
    """One start of a machine from its disk and its cloud-init drive, if it has one."""

    guest: GuestMachine
    seed: Seed | None
    leases: Leases
    up: Callable[[], None]
    """sshd listens from now on."""
    is_new: bool = False

    def start(self) -> None:
        """Plan all stages; nothing comes of them once the power is cut."""
        disk = self.guest.disk
        pace = LATER_BOOT if disk.boots else FIRST_BOOT
        disk.boots += 1
        ubuntu.new_identity(disk)
        self.guest.hostname = disk.files.read("/etc/hostname").decode().strip()
        self.guest.after(pace.network_s, self._network)
        self.guest.after(pace.sshd_s, self._sshd)
        self.guest.after(pace.final_s, self._final)

    def _network(self) -> None:
        guest = self.guest
        guest.files.mounted[0].total_bytes = max(guest.hardware.disk_bytes, ubuntu.LEAST_BYTES)
        if self.seed is None:
            guest.cloud_init.status = "disabled"
            return
        self.is_new = cloud_init.begin(guest, self.seed)
        nics = tuple(self._with_address(nic, self.seed) for nic in guest.hardware.nics)
        guest.hardware = replace(guest.hardware, nics=nics)
        guest.address = next((nic.address for nic in nics if nic.address), "")

    def _with_address(self, nic: Nic, seed: Seed) -> Nic:
        wanted = seed.addresses.get(nic.mac.lower())
        if wanted is None:
            return nic
        if wanted.is_dhcp:
            wanted = Address(self.leases.ask(self.guest.machine_id, nic.mac.lower()))
        return replace(nic, address=wanted.address, prefix=wanted.prefix)

    def _sshd(self) -> None:
        guest = self.guest
        if not guest.files.is_file(ubuntu.HOST_KEY):
            ubuntu.keep_host_key(guest.disk)
        guest.has_sshd = True
        guest.systemd.boot()
        if guest.files.is_file(f"/usr/lib/systemd/system/{ubuntu.AGENT_UNIT}"):
            guest.after(AGENT_S, lambda: start_agent(guest))
        self.up()

    def _final(self) -> None:
        self.guest.is_booted = True
        if self.seed is not None:
            cloud_init.finish(self.guest, self.seed, is_new=self.is_new)
