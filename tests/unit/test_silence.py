"""When it is proven that nothing comes of a VM whose first boot was cut off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from homelab.errors import HomelabError, Interrupted, Refused, Unreachable
from homelab.models import HostStatus, PowerHistory, Verdict, VmFacts
from homelab.proxmox.client import Proxmox
from homelab.runtime import Wait, wait_for
from homelab.vm_manager.silence import Silence
from support.clock import SteppingClock
from unit.builders import HOST, STOPPED, node_facts, vm

NOT_RUNNING = Refused("agent", "QEMU guest agent is not running", status=500)
FORBIDDEN = Refused("agent", "Permission check failed", status=403)
LOST = Unreachable("node pve1", "connection refused", "look")
HOUR_S = 3600


@dataclass
class Agents:
    """A Proxmox whose guest agent answers after so many seconds with something else than `says`."""

    says: HomelabError
    answers_after_s: float = float("inf")
    host_uptime_s: int = HOUR_S
    clock: SteppingClock = field(default_factory=SteppingClock)
    asked_at: list[float] = field(default_factory=list)

    def agent_interfaces(self, _node: str, _vmid: int) -> tuple[()]:
        self.asked_at.append(self.clock.now())
        if self.clock.now() - self.asked_at[0] < self.answers_after_s:
            raise self.says
        return ()

    def wait_while(self, is_busy: Callable[[], bool], what: str, timeout_s: float) -> None:
        wait_for(is_busy, lambda busy: not busy, Wait(what, timeout_s, self.clock))

    def host(self, _node: str) -> HostStatus:
        return replace(HOST, uptime_s=self.host_uptime_s)


def is_proven(agents: Agents, found: VmFacts) -> bool:
    return Silence(cast(Proxmox, agents), 180, lambda: None).is_proven(found)


def test_silence_of_all_the_time_that_a_first_boot_may_take_is_proof() -> None:
    agents = Agents(NOT_RUNNING)

    assert is_proven(agents, vm(uptime_s=100))
    assert agents.asked_at[-1] - agents.asked_at[0] == pytest.approx(500)


def test_a_vm_that_is_up_for_long_is_asked_at_once() -> None:
    agents = Agents(NOT_RUNNING)

    assert is_proven(agents, vm(uptime_s=HOUR_S))
    assert agents.asked_at[-1] - agents.asked_at[0] == pytest.approx(1)


@pytest.mark.parametrize(
    "agents",
    [
        Agents(NOT_RUNNING, answers_after_s=300),
        Agents(NOT_RUNNING, host_uptime_s=599),
        Agents(LOST),
        Agents(FORBIDDEN),
    ],
    ids=["answers-late", "host-just-up", "cannot-be-asked", "may-not-ask"],
)
def test_nothing_is_proven(agents: Agents) -> None:
    assert not is_proven(agents, vm(uptime_s=0))


def test_whoever_may_not_ask_does_not_wait() -> None:
    agents = Agents(FORBIDDEN)
    is_proven(agents, vm(uptime_s=0))
    assert len(agents.asked_at) == 1


def test_ctrl_c_ends_the_wait() -> None:
    def check() -> None:
        raise Interrupted("interrupted")

    with pytest.raises(Interrupted):
        Silence(cast(Proxmox, Agents(NOT_RUNNING)), 180, check).is_proven(vm())


# --- which VMs are looked at so ----------------------------------------------------------------------------------

MADE_AT = 1_700_000_000
MADE = {"tags": "homelab;homelab-unfinished", "meta": f"creation-qemu=10.0.13,ctime={MADE_AT}"}


@pytest.mark.parametrize(
    ("power", "is_cut"),
    [
        (PowerHistory(host_boot_time=MADE_AT + 60), True),
        (PowerHistory(host_boot_time=MADE_AT - 60), False),
        (PowerHistory(), False),
    ],
    ids=["host-booted-since", "host-booted-before", "unknown"],
)
def test_first_boot_of_a_vm_that_runs_was_cut_if_its_host_has_booted_since_it_was_made(
    power: PowerHistory, is_cut: bool
) -> None:
    assert node_facts(Verdict.UNFINISHED, vm(MADE), power=power).is_first_boot_cut is is_cut


@pytest.mark.parametrize(("started_at", "is_cut"), [(MADE_AT + 5, True), (None, False)])
def test_first_boot_of_a_vm_that_is_off_was_cut_if_it_was_ever_started(started_at: int | None, is_cut: bool) -> None:
    power = PowerHistory(last_vm_start_time=started_at)
    assert node_facts(Verdict.UNFINISHED, vm(MADE, **STOPPED), power=power).is_first_boot_cut is is_cut


def test_nothing_is_known_of_a_vm_without_its_time_or_that_is_finished_or_not_there() -> None:
    power = PowerHistory(host_boot_time=MADE_AT + 60)
    undated = vm({"tags": "homelab;homelab-unfinished", "meta": ""})
    assert not node_facts(Verdict.UNFINISHED, undated, power=power).is_first_boot_cut
    assert not node_facts(Verdict.JOINING, vm(MADE), power=power).is_first_boot_cut
    assert not node_facts(Verdict.ABSENT, None, power=power).is_first_boot_cut
