"""What of k3s there is in a VM, as its systemd and its files tell it."""

from __future__ import annotations

import pytest

from homelab.errors import NodeFailed
from homelab.k3s_manager import local
from homelab.shell import Result
from support.fake_shell import FakeShell, done

SHOWN = "Id=k3s.service\nLoadState=not-found\nActiveState=inactive\n\n"


def vm(answer: Result) -> FakeShell:
    return FakeShell(lambda line, _: answer if line.startswith("systemctl") else done(exit_code=1))


def test_words_of_a_login_between_the_answers_are_no_unit() -> None:
    said = f"Welcome\n\n{SHOWN}Id=k3s-agent.service\nLoadState=loaded\nActiveState=failed\n"

    found = local.look(vm(done(said)), "a")

    assert (found.states, found.unit, found.runs) == ({"k3s-agent": "failed"}, "k3s-agent", False)


@pytest.mark.parametrize(
    ("stderr", "why"), [("Failed to connect to bus\n", "Failed to connect to bus"), ("", "systemctl show: exit code 1")]
)
def test_systemd_that_does_not_answer_is_not_taken_for_a_vm_without_k3s(stderr: str, why: str) -> None:
    with pytest.raises(NodeFailed) as error:
        local.look(vm(done(stderr=stderr, exit_code=1)), "a")

    assert error.value.why == why
