"""A wait for a member that does not come ends with the most that is known of why."""

from __future__ import annotations

import pytest

from homelab.errors import TimedOut
from homelab.k3s_manager.readiness import Awaited, wait_until_member
from support.clock import SteppingClock
from unit.builders import vm


@pytest.mark.parametrize(
    ("journal", "what", "why"),
    [
        ("", "a did not become Ready", "not within 60 s; last seen: no Node of that name"),
        (
            "Starting k3s agent\nPulling images\n",
            "a did not become Ready",
            "not within 60 s; last seen: no Node of that name; its log ends with: Pulling images",
        ),
        (
            "failed to get CA certs: refused\nretrying\n",
            "a does not join",
            "the VM cannot reach the server on port 6443 (not within 60 s; last seen: no Node of that name)",
        ),
    ],
    ids=["no-log", "log", "known-trouble"],
)
def test_machine_that_does_not_come_is_told_with_its_log(journal: str, what: str, why: str) -> None:
    with pytest.raises(TimedOut) as ended:
        wait_until_member(lambda: None, Awaited("a", vm(), lambda: journal), SteppingClock(), 60)
    assert (ended.value.what, ended.value.why) == (what, why)
    assert ended.value.cure
