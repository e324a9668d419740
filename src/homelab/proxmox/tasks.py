"""Waiting for Proxmox tasks: a UPID promises nothing until its exit status is read."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any

from homelab.errors import Misunderstood, NotThere, TaskFailed, Undecided, Unreachable
from homelab.proxmox.answers import rows, table, text
from homelab.proxmox.refusals import NOT_THERE, cure_for
from homelab.proxmox.transport import Link, Transport
from homelab.runtime import Clock, Wait, wait_for

logger = logging.getLogger(__name__)

LOG_LINES = 5
UPID = re.compile(r"UPID:[\w.-]+(?::[^\s:/]*){6,}")


@dataclass(frozen=True, slots=True)
class TaskState:
    """What was seen of a task; `trouble` is why it could not be seen this time."""

    status: str = ""
    exit_status: str = ""
    trouble: str = ""

    def __str__(self) -> str:
        return self.trouble or self.status


def wait(wire: Link | Transport, upid: str, *, clock: Clock, timeout_s: float) -> str:
    """Wait until a task ends well; its exit status (`OK` or `WARNINGS: n`).

    Raises TaskFailed with the last log lines; TimedOut when it still runs after timeout_s, or could not be looked at
    until then. Looks every 0.05 s at first, later every 2 s.
    """
    node, kind, subject = _parts(upid)
    what = f"task {kind} {subject}on {node}"
    path = f"/nodes/{node}/tasks/{upid}"
    state = wait_for(
        lambda: _look(wire, path, what),
        lambda seen: seen.status == "stopped",
        Wait(what, timeout_s, clock, f"it may go on by itself; look at it with: pvesh get {path}/status"),
    )
    if state.exit_status == "OK":
        return state.exit_status
    log = _log(wire, path)
    if state.exit_status.startswith("WARNINGS"):
        logger.warning("%s ended with %s: %s", what, state.exit_status, "; ".join(log))
        return state.exit_status
    if NOT_THERE.search(state.exit_status):
        raise NotThere(what, state.exit_status, "look where the VM is: GET /cluster/resources", status=500)
    cure = cure_for(state.exit_status) or cure_for("\n".join(log)) or _see(path)
    raise TaskFailed(f"{what} failed", _reason(state.exit_status, log), cure)


def check(answer: Any, what: str) -> None:
    """Raise Misunderstood unless an answer is the UPID of a task."""
    if not isinstance(answer, str) or not UPID.fullmatch(answer):
        shown = repr(answer)[:80]
        raise Misunderstood(what, f"{shown} is no task id", "report this with the Proxmox version")


def _parts(upid: str) -> tuple[str, str, str]:
    """Node, kind and subject of `UPID:node:pid:pstart:starttime:type:id:user:`."""
    check(upid, "a task of Proxmox'")
    parts = upid.split(":")
    subject = f"VM {parts[6]}" if parts[6].isdigit() else parts[6]
    return parts[1], parts[5], f"of {subject} " if subject else ""


def _look(wire: Link | Transport, path: str, what: str) -> TaskState:
    """The task's state now; a connection in trouble is a state too, so that the wait goes on until its deadline."""
    try:
        seen = table(wire.call("GET", f"{path}/status"), what)
    except (Unreachable, Undecided, Misunderstood) as error:
        return TaskState(trouble=str(error))
    return TaskState(text(seen, "status"), text(seen, "exitstatus"))


def _log(wire: Link | Transport, path: str) -> list[str]:
    """The end of the task's log, as far as it can be read."""
    try:
        lines = rows(wire.call("GET", f"{path}/log", {"limit": 500}), path)
    except (Unreachable, Undecided, Misunderstood) as error:
        return [str(error)]
    return [text(line, "t") for line in lines][-LOG_LINES:]


def _reason(exit_status: str, log: list[str]) -> str:
    """The exit status, and what the log says beyond it."""
    more = [line for line in log if line.strip() and exit_status not in line]
    return "; ".join([exit_status, *more])


def _see(path: str) -> str:
    return f"see its log: pvesh get {path}/log"
