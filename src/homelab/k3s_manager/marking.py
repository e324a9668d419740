"""What a VM bears until it is a member, and from then on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from homelab import cloud_init, memory
from homelab.errors import HomelabError
from homelab.models import MEMBER_TAGS, TAG_AGENT, TAG_SERVER, TAG_UNFINISHED, K3sNode, Outcome, Status, VmFacts
from homelab.proxmox.client import Proxmox


@dataclass(frozen=True, slots=True)
class Marking:
    """What cannot be written has failed, and the VM is joined all the same.

    `take_first_boot_off` takes from a VM what its first boot needed. `may_begin` raises Interrupted where nothing new
    is to be begun; `mark` tells other machines of this run, and raises Locked where another one goes on.
    """

    pve: Proxmox
    take_first_boot_off: Callable[[str, int], object]
    may_begin: Callable[[], None]
    mark: Callable[[], None]
    _begun: set[str] = field(default_factory=set)

    def begin(self, uuid: str) -> None:
        """Before anything is installed in the machine with this uuid. Raises Interrupted, Locked."""
        self.may_begin()
        self.mark()
        self._begun.add(uuid)

    def end_first_boot(self, node: str, vm: VmFacts) -> tuple[Outcome, ...]:
        """It is over: a VM that still names its snippet could not be started once that is gone."""
        if not is_in_first_boot(vm):
            return ()
        loss = f"VM {vm.config.name} still has the snippet of its first boot"
        return _noting(node, loss, lambda: self.take_first_boot_off(vm.node, vm.vmid))

    def is_due(self, vm: VmFacts) -> bool:
        """Has it joined now, or in a run that was killed before the VM bore its role?"""
        return vm.config.uuid in self._begun or TAG_UNFINISHED in vm.config.tags

    def write_role(self, node: str, vm: VmFacts, member: Callable[[], K3sNode | None]) -> tuple[Outcome, ...]:
        """Write the role on a VM that has joined: for the day when its Node is gone. That finishes a new VM."""
        if not self.is_due(vm):
            return ()

        def write() -> None:
            found = member()
            role = {TAG_SERVER if found.is_server else TAG_AGENT} if found else set()
            config = self.pve.vm_config(vm.node, vm.vmid)
            tags = (config.tags - MEMBER_TAGS - {TAG_UNFINISHED}) | role
            changed = {"tags": ";".join(sorted(tags)), **memory.claim_taken_off(config)}
            self.pve.set_vm(vm.node, vm.vmid, changed, digest=config.digest)

        return _noting(node, f"VM {vm.config.name} has joined, but does not bear the tag of its role", write)


def is_in_first_boot(vm: VmFacts) -> bool:
    """Does it name what it needs until its first boot is known to be over?"""
    return cloud_init.is_vendor_data(vm.config.values.get("cicustom", ""))


def _noting(node: str, loss: str, step: Callable[[], object]) -> tuple[Outcome, ...]:
    try:
        step()
    except HomelabError as error:
        return (Outcome(node, Status.FAILED, loss, str(error), error.cure or "run again"),)
    return ()
