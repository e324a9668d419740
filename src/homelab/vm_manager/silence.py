"""Whether a VM whose first boot was cut off comes to itself: until then nothing in it can be relied on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from homelab.errors import HomelabError, Refused, TimedOut
from homelab.models import VmFacts
from homelab.proxmox.client import Proxmox
from homelab.vm_manager.rules import GRACE_AFTER_BOOT_S

FIRST_BOOT_S = 420
"""What a first boot may take beyond VM_START_TIMEOUT, for the packages that it installs."""
NOT_PERMITTED = 403


@dataclass(frozen=True, slots=True)
class Silence:
    """`check` raises Interrupted once the run is to end."""

    pve: Proxmox
    start_timeout_s: float
    check: Callable[[], None]

    def is_proven(self, vm: VmFacts) -> bool:
        """Does Proxmox say, all the time that a first boot may take since its start, that no guest agent runs in it?

        Nothing is proven where that cannot be asked, or while the host has hardly come up.
        """
        asked_s = max(self.start_timeout_s + FIRST_BOOT_S - vm.status.uptime_s, 1)
        try:
            self.pve.wait_while(lambda: self._is_silent(vm), f"guest agent of VM {vm.vmid}", asked_s)
        except TimedOut:
            return isinstance(self._answer(vm), Refused) and self.pve.host(vm.node).uptime_s >= GRACE_AFTER_BOOT_S
        return False

    def _is_silent(self, vm: VmFacts) -> bool:
        """A token that may not ask never learns it, so that is not waited for."""
        self.check()
        answer = self._answer(vm)
        return answer is not None and not (isinstance(answer, Refused) and answer.status == NOT_PERMITTED)

    def _answer(self, vm: VmFacts) -> HomelabError | None:
        """None: the agent answers."""
        try:
            self.pve.agent_interfaces(vm.node, vm.vmid)
        except HomelabError as error:
            return error
        return None
