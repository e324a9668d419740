"""Deletes a VM: looks once more, fences, ends its membership, destroys, and sees that it is gone."""

from __future__ import annotations

from homelab.errors import NodeFailed
from homelab.models import Guard, Members, VmFacts
from homelab.proxmox.client import Proxmox


def delete_vm(pve: Proxmox, vm: VmFacts, members: Members) -> None:
    """Delete exactly the VM that was seen, disks included; returns when Proxmox says that it is gone.

    Raises NodeFailed if it is no longer as it was seen. The machine is off before its membership is ended,
    so that nothing can bring the old Node back.
    """
    check_unchanged(pve, vm)
    if vm.status.status == "running":
        pve.stop_vm(vm.node, vm.vmid)
    members.remove(vm.config.name.lower(), vm.config.uuid)
    _refuse_if_busy(pve, vm)
    pve.delete_vm(vm.node, vm.vmid)


def check_unchanged(pve: Proxmox, seen: VmFacts) -> None:
    """Raise NodeFailed unless all that counts is as it was when the decision was made, and no task works on it."""
    status = pve.vm_status(seen.node, seen.vmid)
    config = pve.vm_config(seen.node, seen.vmid)
    before = (seen.config.name, seen.config.tags, seen.status.qmpstatus, seen.status.lock)
    now = (config.name, config.tags, status.qmpstatus, status.lock)
    same_config = config.digest == seen.config.digest if config.digest and seen.config.digest else True
    if before != now or not same_config:
        raise NodeFailed(
            f"VM {seen.config.name} (vmid={seen.vmid}) is not deleted",
            f"it has changed since it was looked at (it is {status.qmpstatus} now)",
            "run again to decide on what is there now",
        )
    _refuse_if_busy(pve, seen)


def _refuse_if_busy(pve: Proxmox, vm: VmFacts) -> None:
    """Raise NodeFailed while a task works on the VM."""
    if running := pve.tasks(vm.node, vmid=vm.vmid, is_active=True):
        raise NodeFailed(
            f"VM {vm.config.name} (vmid={vm.vmid}) is not deleted",
            f"a Proxmox task is running on it ({running[0].kind})",
            f"wait for it to end: pvesh get /nodes/{vm.node}/tasks --vmid {vm.vmid} --source active; then run again",
        )


def refuse_if_guarded(vm: VmFacts, guards: tuple[Guard, ...]) -> None:
    """Raise NodeFailed with every reason against deleting, and every cure."""
    if guards:
        raise NodeFailed(
            f"VM {vm.config.name} (vmid={vm.vmid}) is not deleted",
            "; ".join(guard.sentence for guard in guards),
            "; ".join(dict.fromkeys(guard.cure for guard in guards)),
        )
