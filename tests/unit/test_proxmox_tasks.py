"""Waiting for tasks: what their end means, and what is borne until then."""

from __future__ import annotations

import pytest

from homelab.errors import Misunderstood, NotThere, Refused, TaskFailed, TimedOut, Undecided, Unreachable
from homelab.proxmox import tasks
from support.clock import START, SteppingClock
from support.fake_transport import FakeTransport, Turns

UPID = "UPID:pve1:00000001:00000002:00000003:qmstart:100:root@pam!home:"
STATUS = f"GET /nodes/pve1/tasks/{UPID}/status"
LOG = f"GET /nodes/pve1/tasks/{UPID}/log"
RUNNING = {"status": "running"}


def stopped(exit_status: str) -> dict[str, str]:
    return {"status": "stopped", "exitstatus": exit_status}


def wait(status: object, log: object = (), clock: SteppingClock | None = None) -> str:
    wire = FakeTransport({STATUS: status, LOG: log})
    return tasks.wait(wire, UPID, clock=clock or SteppingClock(), timeout_s=60)


def test_task_that_is_over_at_once_costs_no_waiting() -> None:
    clock = SteppingClock()
    assert wait(stopped("OK"), clock=clock) == "OK"
    assert clock.now() == START


def test_task_is_looked_at_more_and_more_seldom() -> None:
    clock = SteppingClock()
    assert wait(Turns(*[RUNNING] * 3, stopped("OK")), clock=clock) == "OK"
    assert clock.now() == pytest.approx(START + 0.05 + 0.075 + 0.1125)


def test_warnings_are_kept_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert wait(stopped("WARNINGS: 1"), [{"n": 1, "t": "WARN: old"}]) == "WARNINGS: 1"
    assert "WARN: old" in caplog.text


def test_failed_task_says_why_with_its_log_and_a_cure() -> None:
    log = [{"n": 1, "t": "starting"}, {"n": 2, "t": "TASK ERROR: bridge 'vmbr9' does not exist"}]
    with pytest.raises(
        TaskFailed, match="task qmstart of VM 100 on pve1 failed: bridge 'vmbr9' does not exist"
    ) as failed:
        wait(stopped("bridge 'vmbr9' does not exist"), log)
    assert failed.value.why.endswith("; starting")
    assert "NETWORK_IFACES_n" in failed.value.cure


def test_cause_that_stands_in_the_log_only_gives_the_cure() -> None:
    status = "unable to create VM 100 - copy failed: command '/usr/bin/qemu-img convert -p -n' failed: exit code 1"
    log = [
        {"n": 1, "t": "transferred 0.0 B of 3.5 GiB (0.00%)"},
        {"n": 2, "t": "qemu-img: error while writing at byte 8192: No space left on device"},
        {"n": 3, "t": f"TASK ERROR: {status}"},
    ]
    with pytest.raises(TaskFailed, match="copy failed") as failed:
        wait(stopped(status), log)
    assert "No space left on device" in failed.value.why
    assert failed.value.cure == "free space on that storage, or choose another"


def test_failed_task_with_an_unread_log_still_says_why() -> None:
    with pytest.raises(TaskFailed, match="strange end; the log: gone") as failed:
        wait(stopped("strange end"), Unreachable("the log", "gone"))
    assert "/log" in failed.value.cure


def test_task_about_a_missing_vm_is_not_there() -> None:
    with pytest.raises(NotThere):
        wait(stopped("Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist"))


def test_task_that_goes_on_times_out_with_its_id_and_last_state() -> None:
    with pytest.raises(TimedOut, match="not within 60 s; last seen: running") as late:
        wait(RUNNING)
    assert UPID in late.value.cure


@pytest.mark.parametrize("trouble", [Unreachable("x", "down"), Undecided("x", "cut"), Misunderstood("x", "html")])
def test_trouble_with_looking_is_borne(trouble: Exception) -> None:
    assert wait(Turns(trouble, RUNNING, trouble, stopped("OK"))) == "OK"


def test_trouble_that_stays_is_the_last_thing_seen() -> None:
    with pytest.raises(TimedOut, match="last seen: x: down"):
        wait(Unreachable("x", "down"))


def test_refusal_to_show_the_task_ends_the_wait() -> None:
    with pytest.raises(Refused):
        wait(Refused("x", "403", "grant", status=403))


def test_task_without_subject_is_named_by_kind_and_node() -> None:
    upid = UPID.replace(":100:", "::").replace("qmstart", "imgcopy")
    wire = FakeTransport({f"GET /nodes/pve1/tasks/{upid}/status": RUNNING})
    with pytest.raises(TimedOut, match="task imgcopy on pve1"):
        tasks.wait(wire, upid, clock=SteppingClock(), timeout_s=1)


def test_text_that_is_no_task_id_is_misunderstood() -> None:
    with pytest.raises(Misunderstood):
        tasks.wait(FakeTransport({}), "OK", clock=SteppingClock(), timeout_s=1)
