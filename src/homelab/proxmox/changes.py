"""How a write is carried through: sent, waited for, decided by looking where its answer was lost, and verified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from homelab.errors import HomelabError, Misunderstood, NotThere, Refused, TaskFailed, TimedOut, Undecided
from homelab.models import DRIVE_KEY, NET_KEY, VmConfig, Wire
from homelab.proxmox import tasks
from homelab.proxmox.reads import Reads
from homelab.proxmox.recording import node_of, on_record, vmid_of
from homelab.proxmox.transport import Params, Transport
from homelab.runtime import Wait, wait_for

Seen = TypeVar("Seen")

SETTLE_S = 120
SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Change(Generic[Seen]):
    """One write to a VM: how it is sent, and what shows that it is done, at the latest after grace_s."""

    what: str
    node: str
    vmid: int
    send: Callable[[], object]
    look: Callable[[str, int], Seen]
    is_done: Callable[[Seen], bool]
    grace_s: float = 0

    def __str__(self) -> str:
        return f"{self.what} of VM {self.vmid} on {self.node}"


class Changes(Reads):
    """The way that every write takes."""

    def _do(self, node: str, method: str, path: str, params: Params | None, timeout_s: float) -> None:
        """Send a request by the node's own link and wait for its task, if it left one running."""
        self._carry_out(self.link(node), method, path, params, timeout_s)

    def _do_as_root(self, node: str, method: str, path: str, params: Params | None, timeout_s: float) -> None:
        """As _do, by root SSH whatever the wire."""
        self._carry_out(self.root(node), method, path, params, timeout_s)

    def _carry_out(
        self, wire: Transport | Any, method: str, path: str, params: Params | None, timeout_s: float
    ) -> None:
        with on_record(self._record, f"{method} {path}", node_of(path), vmid_of(path, params)) as write:
            try:
                answer = wire.call(method, path, params, timeout_s=timeout_s)
            except Refused as refused:
                raise _as_task(refused, method, path) from refused
            if answer is not None or _is_task(wire, method, path):
                tasks.check(answer, f"{method} {path}")
                write.sent(answer)
                tasks.wait(wire, answer, clock=self._clock, timeout_s=timeout_s)

    def _ensure(self, change: Change[Seen]) -> Seen:
        """Send a change and return what the VM then shows; raises TaskFailed when that is not what was wanted."""
        try:
            change.send()
        except (Undecided, Misunderstood) as doubt:
            self._settle(change.node, change.vmid, doubt)
            seen = self._after_doubt(change, doubt)
            if not change.is_done(seen):
                raise
            return seen
        try:
            return wait_for(
                lambda: change.look(change.node, change.vmid),
                change.is_done,
                Wait(str(change), change.grace_s, self._clock),
            )
        except TimedOut as error:
            why = "Proxmox reported it as done, but reading it back shows otherwise"
            raise TaskFailed(
                str(change), why, f"qm config {change.vmid} and qm status {change.vmid} show it"
            ) from error

    def _settle(self, node: str, vmid: int, doubt: HomelabError) -> None:
        """Wait until no task works on a VM any more, so that looking tells; raises the doubt when nobody can see."""
        try:
            wait_for(
                lambda: self.tasks(node, vmid=vmid, is_active=True),
                lambda running: not running,
                Wait(f"tasks of VM {vmid} on {node}", SETTLE_S, self._clock),
            )
        except HomelabError as error:
            raise doubt from error

    def _after_doubt(self, change: Change[Seen], doubt: HomelabError) -> Seen:
        try:
            return change.look(change.node, change.vmid)
        except HomelabError as error:
            raise doubt from error


def _is_task(wire: Transport | Any, method: str, path: str) -> bool:
    """Is a task what this wire gives for such a request? Commands have waited for it, and give none."""
    begins_task = path.startswith("/nodes/") and (method == "POST" or (method == "DELETE" and "/qemu/" in path))
    return begins_task and wire.wire is Wire.API


def _as_task(refused: Refused, method: str, path: str) -> HomelabError:
    """Commands say at once what over the API only the task says; callers see a failed task on both wires."""
    is_task = method != "PUT" or path.endswith("/resize")
    is_about_vmid = "already exists" in refused.why or isinstance(refused, NotThere)
    if not is_task or is_about_vmid or refused.status != SERVER_ERROR:
        return refused
    return TaskFailed(refused.what, refused.why, refused.cure)


def shows(config: VmConfig, key: str, value: str) -> bool:
    """Does a config hold a setting? Drives and NICs are rewritten by Proxmox, so there it is only their presence."""
    if DRIVE_KEY.fullmatch(key) or NET_KEY.fullmatch(key):
        return key in config.values
    if key == "tags":
        return config.tags == VmConfig({"tags": value}).tags
    return config.values.get(key, "").removesuffix("%0A").strip() == value.removesuffix("%0A").strip()
