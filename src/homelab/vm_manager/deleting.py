"""Deletes a VM: looks once more, fences, ends its membership, looks again, destroys, and sees that it is gone."""

from __future__ import annotations

from collections.abc import Callable

from homelab.errors import NodeFailed, StillMember
from homelab.models import Guard, Leaving, VmFacts
from homelab.proxmox.client import Proxmox


def delete_vm(
    pve: Proxmox, vm: VmFacts, members: Leaving, look_again: Callable[[], object], *, leaves_first: bool = False
) -> None:
    """Delete exactly the VM that was seen, disks included; returns when Proxmox says that it is gone.

    The machine is off before its membership is ended, so that nothing can bring the old Node back, unless it
    `leaves_first`. `look_again` raises if anything speaks against deleting after all. Raises StillMember as long as
    the membership is as it was, though the VM may be off by then; NodeFailed if it is no longer as it was seen.
    """
    name, uuid = vm.config.name.lower(), vm.config.uuid
    check_unchanged(pve, vm)
    with members.parting(uuid, is_running=vm.is_running) as has_taken_time:
        if has_taken_time:
            _still_agreed(look_again)
            check_unchanged(pve, vm)
        if leaves_first:
            members.remove(name, uuid, is_off=False)
        fenced = _fence(pve, vm)
        members.remove(name, uuid)
    check_unchanged(pve, fenced)
    pve.delete_vm(vm.node, vm.vmid)


def _still_agreed(look_again: Callable[[], object]) -> None:
    try:
        look_again()
    except NodeFailed as error:
        raise StillMember(error.what, error.why, error.cure) from error


def _fence(pve: Proxmox, vm: VmFacts) -> VmFacts:
    """The VM as it is once it is off: what waited for its next start has come into force then."""
    if vm.status.status != "running":
        return vm
    status = pve.stop_vm(vm.node, vm.vmid)
    off = VmFacts(vm.node, vm.vmid, status, pve.vm_config(vm.node, vm.vmid), vm.pool)
    if (off.config.name, off.config.uuid, off.config.tags) != (vm.config.name, vm.config.uuid, vm.config.tags):
        raise _changed(vm, off)
    return off


def check_unchanged(pve: Proxmox, seen: VmFacts) -> None:
    """Raise NodeFailed unless all that counts is as it was when the decision was made, and no task works on it.

    HA and replication are kept elsewhere than in the VM's config, so that its digest does not tell of them.
    """
    now = VmFacts(seen.node, seen.vmid, pve.vm_status(seen.node, seen.vmid), pve.vm_config(seen.node, seen.vmid))
    digests = {seen.config.digest, now.config.digest} - {""}
    if _marks(seen) != _marks(now) or len(digests) > 1:
        raise _changed(seen, now)
    if jobs := pve.replication_jobs(seen.node, seen.vmid):
        raise NodeFailed(
            f"VM {seen.config.name} (vmid={seen.vmid}) is not deleted",
            f"it is replicated by now ({', '.join(jobs)})",
            f"pvesr delete {jobs[0]}, then run again",
        )
    refuse_if_busy(pve, seen)


def _marks(vm: VmFacts) -> tuple[object, ...]:
    return (
        vm.config.name,
        vm.config.uuid,
        vm.config.tags,
        vm.status.qmpstatus,
        vm.status.lock,
        vm.status.is_ha_managed,
    )


def _changed(seen: VmFacts, now: VmFacts) -> NodeFailed:
    return NodeFailed(
        f"VM {seen.config.name} (vmid={seen.vmid}) is not deleted",
        f"it has changed since it was looked at (it is {now.status.qmpstatus} now)",
        "run again to decide on what is there now",
    )


def refuse_if_busy(pve: Proxmox, vm: VmFacts) -> None:
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
