"""Whether a VM runs, since when, and who switched it off. Pure: over what was read."""

from __future__ import annotations

from collections.abc import Sequence

from homelab.models import MAKING, SWITCHING, TAG_UNFINISHED, TaskRow, Verdict, VmFacts

CREATED_WITHIN_S = 60
"""How far the time of a VM's creation may lie from the start of the task that made it."""


def power_verdict(vm: VmFacts) -> tuple[Verdict, str, str]:
    """Verdict, reason and cure from what Proxmox shows of the VM's power; membership comes later."""
    status = vm.status
    if TAG_UNFINISHED in vm.config.tags:
        return Verdict.UNFINISHED, f"left unfinished by an earlier run ({status.qmpstatus})", ""
    if vm.is_running:
        return Verdict.HEALTHY, "running", ""
    if status.lock:
        cure = f"wait for the {status.lock} to end; if nothing is running: qm unlock {vm.vmid}"
        return Verdict.UNKNOWN, f"it is locked ({status.lock})", cure
    if status.status == status.qmpstatus == "stopped":
        return Verdict.STOPPED, "VM is stopped", ""
    if (status.status, status.qmpstatus) == ("running", "paused"):
        return Verdict.PAUSED, "VM is paused", ""
    cure = f"look at it on the node: qm status {vm.vmid} --verbose; if it is beyond help: scripts/delete_vm.py"
    return Verdict.UNKNOWN, f"its state is {status.qmpstatus or status.status}", f"{cure} {vm.node} {vm.vmid}"


def last_start(vm: VmFacts, now: int | None, tasks: Sequence[TaskRow]) -> int | None:
    """When the VM's present or last run began, in the host's Unix time; None: no start is on record.

    Tasks go by VMID alone, so those of an earlier VM with this one's are left out.
    """
    if vm.status.status == "running":
        return None if now is None else now - vm.status.uptime_s
    starts = (task for task in tasks if task.kind == "qmstart" and task.went_well)
    return max((task.start_time for task in starts if task.start_time >= vm.config.created_at), default=None)


def is_on_record(vm: VmFacts, tasks: Sequence[TaskRow]) -> bool:
    """Do the tasks go back to the one that made the VM, and did all since happen on this node?"""
    made_at = vm.config.created_at
    is_made_here = any(task.kind in MAKING and abs(task.start_time - made_at) <= CREATED_WITHIN_S for task in tasks)
    return is_made_here and not any(task.kind == "qmigrate" and task.start_time >= made_at for task in tasks)


def last_switching(vm: VmFacts, tasks: Sequence[TaskRow]) -> TaskRow | None:
    """The newest finished task about this VM's power, well or badly ended; those of an earlier VM are left out."""
    ended = (task for task in tasks if task.kind in SWITCHING and task.end_time is not None)
    return max(
        (task for task in ended if task.start_time >= vm.config.created_at),
        key=lambda task: task.start_time,
        default=None,
    )
