"""Waits until a VM is a Ready member, proven by its uuid; a journal that stays hopeless ends the wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from homelab.errors import NodeFailed, Refused, TimedOut, Undecided, Unreachable
from homelab.k3s_manager import diagnosis
from homelab.models import K3sNode, VmFacts
from homelab.runtime import Clock, Pace, Wait, wait_for

PACE = Pace(first_s=1.0, longest_s=5.0)
HOPELESS_S = 20
"""How long k3s may log the same hopeless trouble, over some of its own restarts, before nobody waits any longer."""
QUIET_S = 5
"""Before that its journal is not read: k3s has hardly begun."""
STALE_READY_S = 60
"""A Node whose machine is off is NotReady after some 40 s; one that is Ready still after this long is alive."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """Who is waited for. `journal` reads what its service says; a Ready of the boot `stale_boot_id` proves nothing."""

    name: str
    vm: VmFacts
    journal: Callable[[], str]
    stale_boot_id: str = "-"


def is_member(node: K3sNode | None, vm: VmFacts) -> bool:
    """Ready, this very machine, and on etcd with its vote."""
    if node is None or not node.is_ready or node.system_uuid != vm.config.uuid:
        return False
    return not node.is_etcd or (node.is_etcd_voter and node.is_etcd_healthy)


def wait_until_member(look: Callable[[], K3sNode | None], awaited: Awaited, clock: Clock, timeout_s: float) -> None:
    """Return when the VM is a Ready member. A server that does not answer meanwhile is asked again.

    Raises NodeFailed when its journal stays hopeless, TimedOut with the last thing seen.
    """
    began = clock.now()
    hopeless_since: list[float] = []

    def seen_now() -> K3sNode | str | None:
        try:
            node = look()
        except (Unreachable, Undecided, Refused, TimedOut) as error:
            return str(error)
        if not is_member(node, awaited.vm) and clock.now() - began >= QUIET_S:
            _end_if_hopeless(awaited, hopeless_since, clock.now())
        return node

    def is_there(seen: K3sNode | str | None) -> bool:
        if isinstance(seen, str) or not is_member(seen, awaited.vm):
            return False
        return seen is not None and (seen.boot_id != awaited.stale_boot_id or clock.now() - began >= STALE_READY_S)

    cure = f"kubectl describe node {awaited.name}; in the VM: journalctl -u k3s -u k3s-agent -n 50"
    wait = Wait(f"{awaited.name} did not become Ready", timeout_s, clock, cure, PACE)
    try:
        wait_for(seen_now, is_there, wait, _described)
    except TimedOut as error:
        raise _with_journal(error, awaited) from error


def _with_journal(error: TimedOut, awaited: Awaited) -> TimedOut:
    """With what the journal says: the trouble in it, if that is known, else its last line."""
    journal = awaited.journal()
    if problem := diagnosis.diagnose(awaited.name, journal):
        return TimedOut(problem.what, f"{problem.why} ({error.why})", problem.cure)
    lines = journal.strip().splitlines()
    end = f"; its log ends with: {lines[-1].strip()[-300:]}" if lines else ""
    return TimedOut(error.what, f"{error.why}{end}", error.cure)


def _end_if_hopeless(awaited: Awaited, since: list[float], now: float) -> None:
    problem = diagnosis.hopeless(awaited.name, awaited.journal())
    if problem is None:
        since.clear()
        return
    since.append(now)
    if now - since[0] >= HOPELESS_S:
        raise NodeFailed(problem.what, problem.why, problem.cure)


def _described(seen: K3sNode | str | None) -> str:
    if isinstance(seen, str):
        return seen
    if seen is None:
        return "no Node of that name"
    return f"a Node that is {'Ready' if seen.is_ready else 'not Ready'}, system UUID {seen.system_uuid}"
