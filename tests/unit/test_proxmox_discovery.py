"""Finding the nodes: every address that may be theirs, real doors on loopback, the cluster's own word."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from homelab.errors import Refused
from homelab.models import Wire
from homelab.proxmox import discovery
from homelab.proxmox.discovery import Found
from homelab.proxmox.transport import ChangedCertificate
from homelab.settings import ApiConfig, ApiToken, Config, NodeConfig, Secret, Via
from homelab.shell import TRUST_COMMAND, Result, Shell, Shells, UnknownHostKey
from support.clock import SteppingClock
from support.fake_shell import FakeShell, done
from support.https_server import Asked, HttpsServer, Reply, https_server, json_reply, text_reply
from support.names import without_name_server
from unit.builders import CONFIG, NODE

TOKEN = ApiToken("root@pam", "t", Secret("s"))
Members = Mapping[str, str]
"""Name -> address of the members of a cluster."""


def status(members: Members, local: str) -> list[dict[str, object]]:
    return [
        {"type": "node", "name": name, "ip": ip, "online": int(name != "off"), "local": int(name == local)}
        for name, ip in members.items()
    ]


class FakeShells(Shells):
    """Every machine is a fake one, named after its address."""

    def __init__(self, names: Mapping[str, str], members: Members) -> None:
        super().__init__(user="root", key_path=None, known_hosts=None)
        self._names = names
        self._members = members
        self.asked: list[str] = []

    def node(self, host: str, port: int) -> Shell:
        assert port
        name = self._names.get(host, "stranger")

        def respond(line: str, _: bytes) -> Result:
            self.asked.append(f"{name}: {line}")
            return done(json.dumps(status(self._members, name))) if "cluster/status" in line else done("[]")

        return FakeShell(respond, name)


class Strangers(FakeShells):
    """Machines whose host keys nobody has vouched for."""

    def __init__(self) -> None:
        super().__init__({}, {})

    def node(self, host: str, port: int) -> Shell:
        assert port

        def respond(_: str, __: bytes) -> Result:
            raise UnknownHostKey(f"SSH to {host}", "its host key is not in known_hosts", f"compare the key of {host}")

        return FakeShell(respond, host)


class Net:
    """A network on loopback: who listens where, and what the search makes of it."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self.ssh_port = self._free_port()
        self.said: list[tuple[str, str]] = []
        self.shells = FakeShells({}, {})

    def _free_port(self) -> int:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return int(listener.getsockname()[1])

    def api(self, answer: Callable[[Asked], Reply], address: str = "127.0.0.1", port: int = 0) -> HttpsServer:
        folder = self._folder / f"{address}-{port}-{time.monotonic_ns()}"
        folder.mkdir()
        return self._stack.enter_context(https_server(folder, answer, address, port))

    def ssh(self, address: str = "127.0.0.1") -> None:
        self._stack.enter_context(socket.create_server((address, self.ssh_port)))

    def find(self, *nodes: NodeConfig, server: HttpsServer | None, via: Via = Via.AUTO, **changes: object) -> Found:
        port = server.port if server else self._free_port()
        config = replace(
            CONFIG,
            nodes=tuple(
                replace(node, number=n, api_port=port, ssh_port=self.ssh_port) for n, node in enumerate(nodes, 1)
            ),
            node_domain="invalid",
            api=ApiConfig(TOKEN, server.ca_bundle if server else None),
        )
        return discovery.find(
            replace(config, **changes),  # type: ignore[arg-type]
            via=via,
            shells=self.shells,
            on_fallback=lambda *words: self.said.append(words),
            clock=SteppingClock(),
        )


@pytest.fixture(autouse=True)
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    without_name_server(monkeypatch)


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with ExitStack() as stack:
        yield Net(stack, tmp_path)


def says(members: Members, local: str) -> Callable[[Asked], Reply]:
    return lambda _: json_reply(status(members, local))


def named(name: str, host: str | None = None) -> NodeConfig:
    return replace(NODE, name=name, host=host)


def test_name_that_does_not_resolve_is_found_by_its_member_address(net: Net) -> None:
    server = net.api(says({"pve1": "127.0.0.1"}, "pve1"))
    found = net.find(named("pve1"), server=server, fallback_addresses=("127.0.0.1",))
    assert list(found.links) == ["pve1"]
    assert found.links["pve1"].wire is Wire.API
    assert found.status is not None
    assert [member.name for member in found.status.members] == ["pve1"]
    assert (found.problems, net.said, len(server.asked)) == ({}, [], 1)


@pytest.mark.parametrize("name", ["127.0.0.1", "PVE1.home.lan"])
def test_node_given_as_address_or_full_name_gets_the_name_that_proxmox_uses(net: Net, name: str) -> None:
    server = net.api(says({"pve0": "127.0.0.9", "pve1": "127.0.0.1"}, "pve1"))
    found = net.find(named(name, "127.0.0.1"), server=server)
    assert [node.name for node in found.config.nodes] == ["pve1"]
    assert list(found.links) == ["pve1"]


def test_machine_names_itself_where_its_address_is_not_the_clusters(net: Net) -> None:
    server = net.api(says({"pve1": "192.0.2.1"}, "pve1"))
    found = net.find(named("127.0.0.1"), server=server)
    assert list(found.links) == ["pve1"]
    assert len(server.asked) == 1


def test_other_address_of_a_node_in_pve_ips_is_recognised_by_asking(net: Net) -> None:
    members = {"pve1": "127.0.0.1", "pve2": "127.0.0.8"}
    first = net.api(says(members, "pve1"))
    second = net.api(says(members, "pve2"), "127.0.0.2", first.port)
    bundle = first.ca_bundle.parent / "both.pem"
    bundle.write_bytes(first.ca_bundle.read_bytes() + second.ca_bundle.read_bytes())
    found = net.find(
        named("pve1"),
        named("pve2"),
        server=first,
        fallback_addresses=("127.0.0.1", "127.0.0.2"),
        api=ApiConfig(TOKEN, bundle),
    )
    assert set(found.links) == {"pve1", "pve2"}
    found.links["pve2"].call("GET", "/nodes/pve2/qemu")
    assert second.asked[-1].path == "/api2/json/nodes/pve2/qemu"


def test_node_that_nobody_reaches_is_a_problem_and_the_others_go_on(net: Net) -> None:
    server = net.api(says({"pve1": "127.0.0.1", "off": "127.0.0.7"}, "pve1"))
    found = net.find(named("pve1"), named("off"), server=server, fallback_addresses=("127.0.0.1",))
    assert list(found.links) == ["pve1"]
    problem = found.problems["off"]
    assert "off.invalid: name not known" in problem.why
    assert f"127.0.0.7 port {server.port}: connection refused" in problem.why
    assert "the cluster says that it is offline" in problem.why
    assert "NODE_HOST_2" in problem.cure


def test_nothing_at_all_gives_each_node_its_problem(net: Net) -> None:
    found = net.find(named("pve1"), server=None)
    assert (found.links, found.status, list(found.problems)) == ({}, None, ["pve1"])


def test_untrusted_certificate_makes_ssh_the_wire_from_the_start(net: Net) -> None:
    server = net.api(says({"pve1": "127.0.0.1"}, "pve1"))
    net.ssh()
    net.shells = FakeShells({"127.0.0.1": "pve1"}, {"pve1": "127.0.0.1"})
    found = net.find(named("pve1", "127.0.0.1"), server=server, api=ApiConfig(TOKEN, None))
    assert found.links["pve1"].wire is Wire.SSH
    (node, reason), *more = net.said
    assert (node, more) == ("pve1", [])
    assert "SSL routines::certificate verify failed" in reason


def test_closed_api_makes_ssh_the_wire_and_via_api_does_not_take_it(net: Net) -> None:
    net.ssh()
    net.shells = FakeShells({"127.0.0.1": "pve1"}, {"pve1": "127.0.0.1"})
    found = net.find(named("pve1", "127.0.0.1"), server=None)
    assert found.links["pve1"].wire is Wire.SSH
    assert "connection refused" in net.said[0][1]
    found = net.find(named("pve1", "127.0.0.1"), server=None, via=Via.API)
    assert list(found.problems) == ["pve1"]


def test_untrusted_certificate_with_via_api_is_a_problem_with_its_cure(net: Net) -> None:
    server = net.api(says({"pve1": "127.0.0.1"}, "pve1"))
    found = net.find(named("pve1", "127.0.0.1"), server=server, via=Via.API, api=ApiConfig(TOKEN, None))
    assert "certificate verify failed" in found.problems["pve1"].why
    assert "PROXMOX_FINGERPRINT_1" in found.problems["pve1"].cure


@pytest.mark.parametrize("is_given", [True, False], ids=["own-addresses", "pve-ips"])
def test_untrusted_certificates_are_cured_by_each_node_s_own_key(net: Net, is_given: bool) -> None:
    addresses = ("127.0.0.1", "127.0.0.2")
    members = dict(zip(("pve1", "pve2"), addresses, strict=True))
    server = net.api(says(members, "pve1"))
    net.api(says(members, "pve2"), "127.0.0.2", server.port)
    nodes = [named(name, address if is_given else None) for name, address in members.items()]
    found = net.find(
        *nodes,
        server=server,
        via=Via.API,
        api=ApiConfig(TOKEN, None),
        fallback_addresses=() if is_given else addresses,
    )
    for number, other in ((1, 2), (2, 1)):
        cure = found.problems[f"pve{number}"].cure
        assert f"PROXMOX_FINGERPRINT_{number} to what the node's console shows" in cure
        assert f"PROXMOX_FINGERPRINT_{other}" not in cure
        assert ("switch the node on" in cure) is not is_given


def test_node_of_which_no_name_is_known_is_cured_by_its_address(net: Net) -> None:
    problem = net.find(named("pve1"), server=None).problems["pve1"]
    assert problem.why == "pve1.invalid: name not known; pve1: name not known"
    assert problem.cure == "no name of it is known to this machine: set NODE_HOST_1 to its address"


@pytest.mark.parametrize("count", [1, 2])
def test_host_keys_that_nobody_vouched_for_have_one_cure(net: Net, count: int) -> None:
    addresses = ("127.0.0.1", "127.0.0.2")[:count]
    for address in addresses:
        net.ssh(address)
    net.shells = Strangers()
    problem = net.find(named("pve1"), server=None, fallback_addresses=addresses).problems["pve1"]
    assert problem.why.startswith("127.0.0.1: its host key is not in known_hosts; ")
    assert problem.why.endswith("; pve1.invalid: name not known; pve1: name not known")
    first = "compare the key of 127.0.0.1" if count == 1 else f"{TRUST_COMMAND} shows these host keys and asks"
    assert problem.cure == f"{first}; or switch the node on, or correct NODE_HOST_1, PROXMOX_PORT or SSH_PORT_1"


def test_unreached_node_that_no_cluster_knows_is_a_wrong_name_and_not_switched_off(net: Net) -> None:
    server = net.api(says({"pve1": "127.0.0.1", "pve2": "127.0.0.7"}, "pve1"))
    found = net.find(named("pve1", "127.0.0.1"), named("pve22"), named("192.0.2.9", "127.0.0.8"), server=server)
    problem = found.problems["pve22"]
    assert problem.what == "node NODE_2=pve22 is not in the cluster"
    assert problem.why.endswith("these are its nodes: pve1, pve2")
    assert problem.cure.startswith("correct NODE_2;")
    assert "switch the node on" in found.problems["192.0.2.9"].cure


def test_via_ssh_does_not_knock_at_the_api(net: Net) -> None:
    server = net.api(says({"pve1": "127.0.0.1"}, "pve1"))
    net.ssh()
    net.shells = FakeShells({"127.0.0.1": "pve1"}, {"pve1": "127.0.0.1"})
    found = net.find(named("pve1", "127.0.0.1"), server=server, via=Via.SSH)
    assert (found.links["pve1"].wire, server.connections, net.said) == (Wire.SSH, 0, [])
    assert net.shells.asked == ["pve1: pvesh get /cluster/status --output-format json"]
    found = net.find(named("pve1", "127.0.0.9"), server=server, via=Via.SSH)
    assert list(found.problems) == ["pve1"]


def test_certificate_that_is_not_the_pinned_one_is_told_once_it_is_known_whose_it_is(net: Net) -> None:
    server = net.api(says({"pve1": "127.0.0.1"}, "pve1"))
    net.ssh()
    net.shells = FakeShells({"127.0.0.1": "pve1"}, {"pve1": "127.0.0.1"})
    pinned = replace(named("pve1"), fingerprint="00:11")
    found = net.find(pinned, server=server, fallback_addresses=("127.0.0.1",), api=ApiConfig(TOKEN, None))
    with pytest.raises(ChangedCertificate, match="00:11 is trusted"):
        found.links["pve1"].call("GET", "/version")
    assert (net.said, server.asked) == ([], [])


def test_pinned_fingerprint_of_any_node_opens_an_unnamed_address(net: Net) -> None:
    server = net.api(says({"pve2": "127.0.0.1"}, "pve2"))
    pinned = replace(named("pve2"), fingerprint=server.fingerprint)
    found = net.find(
        named("pve1"), pinned, server=server, fallback_addresses=("127.0.0.1",), api=ApiConfig(TOKEN, None)
    )
    assert list(found.links) == ["pve2"]


def test_wrong_token_ends_the_search(net: Net) -> None:
    server = net.api(lambda _: text_reply("", "401 Authentication failed!"))
    net.ssh()
    with pytest.raises(Refused, match="401") as told:
        net.find(named("pve1", "127.0.0.1"), server=server)
    assert "pveum user token remove root@pam t; pveum user token add root@pam t" in told.value.cure
    assert net.shells.asked == []


def test_missing_token_leaves_ssh(net: Net) -> None:
    server = net.api(says({"pve1": "127.0.0.1"}, "pve1"))
    net.ssh()
    net.shells = FakeShells({"127.0.0.1": "pve1"}, {"pve1": "127.0.0.1"})
    found = net.find(named("pve1", "127.0.0.1"), server=server, api=ApiConfig(None, None))
    assert found.links["pve1"].wire is Wire.SSH
    assert "there is no API_TOKEN" in net.said[0][1]


def test_something_else_at_the_address_is_not_taken_for_proxmox(net: Net) -> None:
    server = net.api(lambda _: text_reply("<html>"))
    found = net.find(named("pve1", "127.0.0.1"), server=server)
    assert "instead of Proxmox' JSON" in found.problems["pve1"].why


def strangers(net: Net, second: Callable[[Asked], Reply]) -> tuple[HttpsServer, ApiConfig]:
    """Two hosts that share no cluster: pve1 at 127.0.0.1, and another at 127.0.0.2."""
    first = net.api(says({"pve1": "127.0.0.1"}, "pve1"))
    other = net.api(second, "127.0.0.2", first.port)
    bundle = first.ca_bundle.parent / "both.pem"
    bundle.write_bytes(first.ca_bundle.read_bytes() + other.ca_bundle.read_bytes())
    return first, ApiConfig(TOKEN, bundle)


@pytest.mark.parametrize("name", ["pve2", "127.0.0.2"])
def test_host_outside_the_cluster_is_a_problem_of_its_own(net: Net, name: str) -> None:
    server, api = strangers(net, says({"pve2": "127.0.0.2"}, "pve2"))
    found = net.find(named("pve1", "127.0.0.1"), named(name, "127.0.0.2"), server=server, api=api)
    assert list(found.links) == ["pve1"]
    assert found.status is not None
    assert [member.name for member in found.status.members] == ["pve1"]
    assert [node.name for node in found.config.nodes] == ["pve1", f"NODE_2={name}"]
    problem = found.problems[f"NODE_2={name}"]
    assert "its members are pve1" in problem.why
    assert "--env" in problem.cure


def test_stranger_of_the_same_name_is_not_taken_for_the_member(net: Net) -> None:
    server, api = strangers(net, says({"pve1": "127.0.0.2"}, "pve1"))
    found = net.find(named("pve1", "127.0.0.1"), named("127.0.0.2"), server=server, api=api)
    assert list(found.links) == ["pve1"]
    assert list(found.problems) == ["NODE_2=127.0.0.2"]
    assert "is not in the cluster" in found.problems["NODE_2=127.0.0.2"].what


def test_stranger_of_the_same_name_that_answers_first_is_not_taken_for_the_member_either(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = socket.create_connection
    is_asked = threading.Event()

    def late(address: tuple[str, int], *rest: object, **more: object) -> object:
        if address[0] == "127.0.0.1":
            is_asked.wait(5)
        return connect(address, *rest, **more)  # type: ignore[arg-type]

    def stranger(_: Asked) -> Reply:
        is_asked.set()
        return json_reply(status({"pve1": "127.0.0.2"}, "pve1"))

    monkeypatch.setattr("homelab.proxmox.probing.socket.create_connection", late)
    server, api = strangers(net, stranger)
    found = net.find(named("pve1", "127.0.0.1"), named("127.0.0.2"), server=server, api=api)
    assert [member.address for member in found.status.members] == ["127.0.0.1"] if found.status else False
    assert list(found.links) == ["pve1"]
    assert list(found.problems) == ["NODE_2=127.0.0.2"]


def test_host_that_does_not_say_whether_it_is_a_member_is_no_part_of_the_run(net: Net) -> None:
    first = net.api(says({"pve1": "127.0.0.1"}, "pve1"))
    other = net.api(lambda _: text_reply("", "401 Authentication failed!"), "127.0.0.2", first.port)
    bundle = first.ca_bundle.parent / "both.pem"
    bundle.write_bytes(first.ca_bundle.read_bytes() + other.ca_bundle.read_bytes())
    found = net.find(named("pve1", "127.0.0.1"), named("pve2", "127.0.0.2"), server=first, api=ApiConfig(TOKEN, bundle))
    assert (list(found.links), list(found.problems)) == (["pve1"], ["NODE_2=pve2"])


def test_cluster_with_most_of_the_configured_nodes_is_the_one(net: Net) -> None:
    server, api = strangers(net, says({"pve2": "127.0.0.2", "pve3": "127.0.0.3"}, "pve2"))
    found = net.find(named("pve1", "127.0.0.1"), named("pve2", "127.0.0.2"), named("pve3"), server=server, api=api)
    assert list(found.links) == ["pve2"]
    assert set(found.problems) == {"NODE_1=pve1", "pve3"}


@pytest.mark.parametrize("names", [("pve1", "127.0.0.1"), ("127.0.0.1", "pve1"), ("pve1.a", "pve1.b")])
def test_second_entry_for_one_node_is_a_problem_and_the_first_goes_on(net: Net, names: tuple[str, str]) -> None:
    server = net.api(says({"pve1": "127.0.0.1"}, "pve1"))
    found = net.find(*(named(name, "127.0.0.1") for name in names), server=server)
    assert list(found.links) == ["pve1"]
    problem = found.problems[f"NODE_2={names[1]}"]
    assert problem.why == f"NODE_2={names[1]} is the node of NODE_1"
    assert [node.name for node in found.config.nodes] == ["pve1", f"NODE_2={names[1]}"]


def test_name_lookup_that_hangs_holds_nobody_up(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    server = net.api(says({"pve1": "127.0.0.1"}, "pve1"))
    release, look_up = threading.Event(), socket.getaddrinfo

    def slow(host: str, *rest: object, **more: object) -> object:
        if host.startswith("pve"):
            release.wait(5)
        return look_up(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("socket.getaddrinfo", slow)
    monkeypatch.setattr("homelab.proxmox.discovery.BETTER_ONE_S", 0.05)
    started = time.monotonic()
    found = net.find(named("pve1"), server=server, fallback_addresses=("127.0.0.1",))
    release.set()
    assert list(found.links) == ["pve1"]
    assert time.monotonic() - started < 1


def test_doors_that_never_answer_end_after_the_time_for_all(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> socket.socket:
        raise TimeoutError

    monkeypatch.setattr("socket.create_connection", never)
    found = net.find(named("pve1", "192.0.2.1"), server=None)
    assert "192.0.2.1 port" in found.problems["pve1"].why
    assert "no answer within 5 s" in found.problems["pve1"].why


def test_one_address_with_a_port_per_node_is_told_apart(net: Net) -> None:
    members = {"pve1": "10.0.0.1", "pve2": "10.0.0.2"}
    first = net.api(says(members, "pve1"))
    second = net.api(says(members, "pve2"))
    bundle = first.ca_bundle.parent / "both.pem"
    bundle.write_bytes(first.ca_bundle.read_bytes() + second.ca_bundle.read_bytes())
    nodes = tuple(
        replace(named("127.0.0.1"), number=n, api_port=port, ssh_port=net.ssh_port)
        for n, port in ((1, first.port), (2, second.port))
    )
    config: Config = replace(CONFIG, nodes=nodes, api=ApiConfig(TOKEN, bundle))
    found = discovery.find(config, via=Via.AUTO, shells=net.shells, on_fallback=lambda *_: None, clock=SteppingClock())
    assert set(found.links) == {"pve1", "pve2"}
