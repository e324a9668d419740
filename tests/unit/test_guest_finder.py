"""A VM's first boot as cloud-init tells of it, and what a VM is that changes under our hands."""

from __future__ import annotations

from typing import cast

import pytest

from homelab.errors import Undecided
from homelab.k3s_manager import GuestFinder
from homelab.proxmox.client import Proxmox
from homelab.shell import ChangedHostKey, Result, Shells
from support.clock import SteppingClock
from support.fake_shell import FakeShell, done
from unit.builders import CONFIG, vm

JSON = '{"status": "done"}'


def finder() -> GuestFinder:
    return GuestFinder(cast(Proxmox, None), CONFIG, cast(Shells, None), SteppingClock(), lambda _: None)


def test_cloud_init_that_knows_no_json_is_asked_in_plain_words() -> None:
    def respond(line: str, _: bytes) -> Result:
        return done(stderr="unrecognized arguments", exit_code=2) if "json" in line else done("status: done\n")

    shell = FakeShell(respond)

    assert finder().wait_for_cloud_init(vm(), shell) is None
    assert shell.commands[-1] == "cloud-init status"


def test_image_without_cloud_init_is_not_waited_for() -> None:
    assert finder().wait_for_cloud_init(vm(), FakeShell(lambda *_: done(exit_code=127))) is None


def test_connection_that_drops_during_the_first_boot_is_taken_up_again() -> None:
    answers = iter([Undecided("SSH", "the connection ended"), None])

    def respond(_line: str, _: bytes) -> Result:
        if error := next(answers):
            raise error
        return done(JSON)

    assert finder().wait_for_cloud_init(vm(), FakeShell(respond)) is None


def test_other_machine_that_shows_up_during_the_first_boot_ends_the_wait_at_once() -> None:
    def respond(_line: str, _: bytes) -> Result:
        raise ChangedHostKey("SSH to 192.0.2.7", "it shows another host key")

    with pytest.raises(ChangedHostKey):
        finder().wait_for_cloud_init(vm(), FakeShell(respond))
