"""Whether a machine reaches etcd on the servers that are there: told by how its curl ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from homelab.errors import TimedOut
from homelab.k3s_manager import peers
from homelab.k3s_manager.answers import EtcdMember
from homelab.k3s_manager.server import K3sServer
from homelab.k3s_manager.servers import Servers
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
    shell = FakeShell(lambda *_: done(said), "a")

    with pytest.raises(TimedOut) as told:
        peers.check(shell, "a", [ONE, TWO], SteppingClock())

    assert told.value.what == "a: etcd on the other servers cannot be reached from the VM"
    assert told.value.why.endswith(
        "last seen: https://192.0.2.1:2380 from root@a: the connection is refused, "
        "https://192.0.2.2:2380 from root@a: no answer in time"
    )


class OneServer:
    """Stands in for Servers: this one is asked."""

    def __init__(self, said: str) -> None:
        self.shell = FakeShell(lambda *_: done(said), "server")

    def ask(self, question: Callable[[K3sServer], Any]) -> Any:
        return question(K3sServer(self.shell, "192.0.2.1"))


def check_way_back(cluster: OneServer, host: str) -> None:
    machine = FakeShell(lambda *_: done(), host)
    peers.check_way_back(cast(Servers, cluster), machine, "a", SteppingClock())


@pytest.mark.parametrize("said", ["7 https://a:2379\n56 https://a:2380\n", "127 https://a:2379\n", ""])
def test_way_back_is_open_where_anything_answers(said: str) -> None:
    cluster = OneServer(said)

    check_way_back(cluster, "2001:db8::1")

    (command,) = cluster.shell.commands
    assert command.endswith(" look 'https://[2001:db8::1]:2379' 'https://[2001:db8::1]:2380'")


def test_packets_that_are_dropped_on_the_way_back_are_told_with_the_server_that_sent_them() -> None:
    with pytest.raises(TimedOut) as told:
        check_way_back(OneServer("28 https://192.0.2.9:2379\n7 https://192.0.2.9:2380\n"), "192.0.2.9")

    assert told.value.what == "a: its etcd could not be reached from the other servers"
    assert told.value.why.endswith("last seen: https://192.0.2.9:2379 from root@server: no answer in time")


def test_etcd_that_is_just_starting_is_given_time() -> None:
    answers = iter(["7 https://192.0.2.2:2380\n", "56 https://192.0.2.2:2380\n"])

    peers.check(FakeShell(lambda *_: done(next(answers))), "a", [TWO], SteppingClock())
