"""Whether a machine reaches etcd on the servers that are there: told by how its curl ends."""

from __future__ import annotations

import pytest

from homelab.errors import TimedOut
from homelab.k3s_manager import peers
from homelab.k3s_manager.answers import EtcdMember
from support.clock import SteppingClock
from support.fake_shell import FakeShell, done

ONE = EtcdMember("one-1a2b3c4d", urls=("https://192.0.2.1:2380", "https://192.0.2.1:2379"))
TWO = EtcdMember("two-1a2b3c4d", urls=("https://192.0.2.2:2380",))


def test_etcd_that_asks_for_a_certificate_is_reached() -> None:
    shell = FakeShell(lambda *_: done("56 https://192.0.2.1:2379\n35 https://192.0.2.1:2380\n"))

    peers.check(shell, "a", [ONE], SteppingClock())

    (command,) = shell.commands
    assert command.endswith(" look https://192.0.2.1:2379 https://192.0.2.1:2380")


def test_ports_that_stay_closed_are_named_each_with_its_reason() -> None:
    said = "56 https://192.0.2.1:2379\n7 https://192.0.2.1:2380\n28 https://192.0.2.2:2380\n"
    shell = FakeShell(lambda *_: done(said))

    with pytest.raises(TimedOut) as told:
        peers.check(shell, "a", [ONE, TWO], SteppingClock())

    assert told.value.what == "a: etcd on the other servers cannot be reached from the VM"
    assert told.value.why.endswith(
        "last seen: https://192.0.2.1:2380: the connection is refused, https://192.0.2.2:2380: no answer in time"
    )


def test_etcd_that_is_just_starting_is_given_time() -> None:
    answers = iter(["7 https://192.0.2.2:2380\n", "56 https://192.0.2.2:2380\n"])

    peers.check(FakeShell(lambda *_: done(next(answers))), "a", [TWO], SteppingClock())
