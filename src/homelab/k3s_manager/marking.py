"""What is written on a VM about its membership, and taken off it, once it has joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from homelab import cloud_init
from homelab.errors import HomelabError
from homelab.memory import Joins
from homelab.models import MEMBER_TAGS, Outcome, Status, VmFacts
from homelab.proxmox.client import Proxmox


@dataclass(frozen=True, slots=True)
class Marking:
    """`joins` remembers those that were begun. What cannot be written is said, and the VM is joined all the same."""

    pve: Proxmox
    joins: Joins

    def end_first_boot(self, node: str, vm: VmFacts) -> tuple[Outcome, ...]:
        """Take the snippet of the first boot off, now that it is over: a missing one would stop a later start."""
        if not cloud_init.is_vendor_data(vm.config.values.get("cicustom", "")):
            return ()

        def drop() -> None:
            now = self.pve.vm_config(vm.node, vm.vmid)
            if cloud_init.is_vendor_data(now.values.get("cicustom", "")):
                self.pve.set_vm(vm.node, vm.vmid, {}, delete=("cicustom",), digest=now.digest)

        return _noting(node, f"VM {vm.config.name} still has the snippet of its first boot", drop)

    def write_role(self, node: str, vm: VmFacts) -> tuple[Outcome, ...]:
        """Write the role on a VM that has joined, now or in a killed run: for the day when its Node is gone."""
        tag = self.joins.tag_due(vm.config.uuid)
        if not tag:
            return ()

        def write() -> None:
            config = self.pve.vm_config(vm.node, vm.vmid)
            tags = ";".join(sorted((config.tags - MEMBER_TAGS) | {tag}))
            self.pve.set_vm(vm.node, vm.vmid, {"tags": tags}, digest=config.digest)
            self.joins.end(vm.config.uuid)

        return _noting(node, f"VM {vm.config.name} has joined, but does not bear the tag {tag}", write)


def _noting(node: str, loss: str, step: Callable[[], None]) -> tuple[Outcome, ...]:
    try:
        step()
    except HomelabError as error:
        return (Outcome(node, Status.SKIPPED, loss, str(error), error.cure),)
    return ()
