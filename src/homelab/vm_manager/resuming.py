"""Looks after what an earlier run began and could not see the end of, before anything is observed or planned."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from homelab import memory
from homelab.errors import HomelabError, NodeFailed, NotThere, Unreachable
from homelab.memory import Intent, Journal
from homelab.models import MAKING, TaskRow, VmConfig
from homelab.proxmox.client import Proxmox
from homelab.vm_manager.creating import free_volumes

PATIENCE_S = 900
"""How long a task of an earlier run is waited for."""
CREATION = re.compile(r"POST /nodes/[^/]+/qemu")
FILE = re.compile(r"(?:upload of|snippet) (?P<volume>\S+)")
BRINGING = frozenset({"imgcopy", "download"})
"""Tasks that bring a file to a storage."""
CREATING_TASK = "qmcreate"
CLOCKS_DIFFER_BY_S = 300


@dataclass(frozen=True, slots=True)
class Resumption:
    """The journal's open writes are waited for, looked at and closed; `say` tells what takes time or stays open.

    `nodes` are those that this run is about.
    """

    pve: Proxmox
    journal: Journal
    say: Callable[[str], None]
    nodes: frozenset[str]

    def run(self) -> None:
        """What a node that cannot be asked may still hold stays open for the next run, as does what lies on others."""
        for intent in self.due():
            try:
                self._look_after(intent)
                self.journal.end(intent, "done" if self._is_gone(intent) else "looked after")
            except HomelabError as error:
                self.say(f"{intent.node}: {title(intent)}, begun by an earlier run, is not looked after yet: {error}")

    def due(self) -> tuple[Intent, ...]:
        """The open writes on these nodes."""
        return tuple(intent for intent in self.journal.unfinished() if intent.node in self.nodes)

    def _look_after(self, intent: Intent) -> None:
        self.pve.link(intent.node)
        self._wait(intent)
        if CREATION.fullmatch(intent.what):
            self._clean(intent.node, self.pve.remove_key_files)
            self._clear_creation(intent)
        elif file := FILE.fullmatch(intent.what):
            self._clean(intent.node, lambda node: self.pve.remove_parts(node, file["volume"]))

    def _is_gone(self, intent: Intent) -> bool:
        """Was the write a deletion, and has it been carried out?"""
        if intent.what != f"DELETE /nodes/{intent.node}/qemu/{intent.vmid}":
            return False
        try:
            self.pve.vm_config(intent.node, intent.vmid)
        except NotThere:
            return True
        return False

    def _wait(self, intent: Intent) -> None:
        """Until nothing is at work on it any more; raises TimedOut."""
        if not is_busy(self.pve, intent):
            return
        self.say(f"{intent.node}: waiting for {title(intent)}, begun by an earlier run")
        self.pve.wait_while(lambda: is_busy(self.pve, intent), f"{title(intent)} on {intent.node}", PATIENCE_S)

    def _clean(self, node: str, remove: Callable[[str], None]) -> None:
        """What root left half written over SSH (public keys, part of a file) stays where SSH does not answer now."""
        try:
            self.pve.root(node)
        except Unreachable:
            return
        remove(node)

    def _clear_creation(self, intent: Intent) -> None:
        """Take away a VM that was cut off in the making, and the volumes that its making left.

        Only where the node's tasks prove that the creation was this one: what a person has made, restored or left
        under that VMID since is theirs.
        """
        node, vmid = intent.node, intent.vmid
        if not is_ours_by_tasks(self.pve, intent):
            return
        if is_half_made(self.pve, node, vmid):
            self.say(f"{node}: VM {vmid} was cut off in the making; it is removed")
            self.pve.unlock_vm(node, vmid)
            self.pve.delete_vm(node, vmid)
        creation = memory.creation_of(self.journal, node, vmid)
        if creation:
            free_volumes(self.pve, creation)


def is_busy(pve: Proxmox, intent: Intent) -> bool:
    """Does a task still work on what an open write is about?"""
    if intent.upid and pve.is_running(intent.node, intent.upid):
        return True
    if intent.vmid:
        return bool(pve.tasks(intent.node, vmid=intent.vmid, is_active=True))
    active = pve.tasks(intent.node, is_active=True)
    return any(task.kind in BRINGING and is_of_its_time(task, intent) for task in active)


def is_ours_by_tasks(pve: Proxmox, intent: Intent) -> bool:
    """Is the last task that made a VM of this VMID the one that the open write began, and none that has come since?"""
    tasks = [task for task in pve.tasks(intent.node, vmid=intent.vmid) if task.kind in MAKING]
    newest = max(tasks, key=lambda task: task.start_time, default=None)
    if newest is None or newest.kind != CREATING_TASK:
        return False
    return newest.upid == intent.upid if intent.upid else is_of_its_time(newest, intent)


def is_of_its_time(task: TaskRow, intent: Intent) -> bool:
    """Did the task begin when the write was about to be sent? The clocks of host and machine may differ a little."""
    return abs(task.start_time - intent.at) <= CLOCKS_DIFFER_BY_S


def title(intent: Intent) -> str:
    """How an open write is spoken of."""
    about = f" of VM {intent.vmid}" if intent.vmid else ""
    return f"{intent.what}{about}"


def is_half_made(pve: Proxmox, node: str, vmid: int) -> bool:
    """Is there nothing but the lock of its creation, as a node leaves it that goes down meanwhile?"""
    try:
        return _has_only_lock(pve.vm_config(node, vmid))
    except NotThere:
        return False


def _has_only_lock(config: VmConfig) -> bool:
    return dict(config.values) == {"lock": "create"}


def refuse_beside_half_made(pve: Proxmox, journal: Journal, node: str) -> None:
    """Raise NodeFailed while a VM is there that an earlier run was cut off in making, and could not be cleared.

    A dry run clears nothing, so there it is only in the way where a run could not clear it either.
    """
    begun = (intent for intent in journal.unfinished() if intent.node == node and CREATION.fullmatch(intent.what))
    cut_off = (intent.vmid for intent in begun if is_ours_by_tasks(pve, intent))
    vmid = next((vmid for vmid in cut_off if is_half_made(pve, node, vmid)), None)
    if vmid is None:
        return
    try:
        pve.root(node)
        why = "it could not be removed"
        if journal.is_read_only:
            return
    except Unreachable as error:
        why = f"only root over SSH can unlock it: {error}"
    raise NodeFailed(
        f"{node}: VM {vmid} was cut off in the making",
        f"an earlier run began it as the VM of this node, it is locked (create), and {why}",
        f"on {node}: qm unlock {vmid} && qm destroy {vmid}; or make SSH to {node} work; then run again",
    )
