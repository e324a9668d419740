"""A node's link: when it changes over to SSH, and when it must not."""

from __future__ import annotations

import threading

import pytest

from homelab.errors import Misunderstood, Refused, Undecided, Unreachable
from homelab.models import Wire
from homelab.proxmox.transport import Link, TargetUnreachable
from homelab.settings import Via
from homelab.shell import UnknownHostKey
from support.fake_transport import Answers, FakeTransport

DOWN = Unreachable("API https://pve1:8006", "connection refused", "look at pveproxy")
GET = "GET /version"


class Node:
    """A link with both wires, and what it said about falling back."""

    def __init__(self, api: Answers | None, ssh: Answers | None, via: Via = Via.AUTO) -> None:
        self.said: list[tuple[str, str]] = []
        self.api = None if api is None else FakeTransport(api)
        self.ssh = None if ssh is None else FakeTransport(ssh, Wire.SSH)
        self.link = Link("pve1", self.api, self.ssh, via, lambda *words: self.said.append(words))


def test_api_is_used_while_it_answers() -> None:
    node = Node({GET: "api"}, {GET: "ssh"})
    assert (node.link.call("GET", "/version"), node.link.wire, node.said) == ("api", Wire.API, [])


def test_refused_connection_switches_to_ssh_once_and_says_so() -> None:
    node = Node({GET: DOWN}, {GET: "ssh"})
    assert [node.link.call("GET", "/version") for _ in range(3)] == ["ssh"] * 3
    assert node.link.wire is Wire.SSH
    assert node.said == [("pve1", "API https://pve1:8006: connection refused")]
    assert node.api is not None
    assert len(node.api.calls) == 1


def test_many_threads_switch_once() -> None:
    together = threading.Barrier(8)

    def fail(_: object) -> None:
        together.wait(5)
        raise DOWN

    node = Node({GET: fail}, {GET: "ssh"})
    threads = [threading.Thread(target=node.link.call, args=("GET", "/version")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(node.said) == 1


@pytest.mark.parametrize(
    "answer",
    [Undecided("POST", "cut off", "look"), Refused("POST", "403", "grant", status=403), Misunderstood("POST", "html")],
)
def test_answers_and_doubts_do_not_switch(answer: Exception) -> None:
    node = Node({GET: answer}, {GET: "ssh"})
    with pytest.raises(type(answer)):
        node.link.call("GET", "/version")
    assert (node.link.wire, node.said) == (Wire.API, [])


def test_both_reasons_are_named_when_ssh_fails_too() -> None:
    node = Node({GET: DOWN}, {})
    assert node.ssh is not None
    node.ssh.unreachable = UnknownHostKey("SSH to pve1", "host key unknown", "ssh-keyscan pve1")
    with pytest.raises(UnknownHostKey, match="API: connection refused; SSH: host key unknown") as both:
        node.link.call("GET", "/version")
    assert both.value.cure == "look at pveproxy; or ssh-keyscan pve1"
    assert (node.link.wire, node.said) == (Wire.API, [])


def test_via_api_never_switches() -> None:
    node = Node({GET: DOWN}, {GET: "ssh"}, Via.API)
    with pytest.raises(Unreachable, match="connection refused"):
        node.link.call("GET", "/version")
    assert node.link.root is node.ssh


def test_via_ssh_never_asks_the_api() -> None:
    node = Node({GET: "api"}, {GET: "ssh"}, Via.SSH)
    assert (node.link.call("GET", "/version"), node.link.wire) == ("ssh", Wire.SSH)


def test_without_ssh_there_is_nothing_to_switch_to() -> None:
    node = Node({GET: DOWN}, None)
    with pytest.raises(Unreachable, match="connection refused"):
        node.link.call("GET", "/version")
    with pytest.raises(Unreachable, match="no SSH address of it answers"):
        _ = node.link.root


def test_other_node_behind_the_proxy_that_is_down_is_no_reason_to_switch() -> None:
    behind = TargetUnreachable("GET", "595", "switch it on")
    node = Node({"GET /nodes/pve2/qemu": behind}, {"GET /nodes/pve2/qemu": []})
    with pytest.raises(TargetUnreachable):
        node.link.call("GET", "/nodes/pve2/qemu")
    assert node.link.wire is Wire.API


def test_own_node_not_reached_by_its_proxy_is_one() -> None:
    behind = TargetUnreachable("GET", "595", "switch it on")
    node = Node({"GET /nodes/pve1/qemu": behind}, {"GET /nodes/pve1/qemu": []})
    assert node.link.call("GET", "/nodes/pve1/qemu") == []
    assert node.link.wire is Wire.SSH
