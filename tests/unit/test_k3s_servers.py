"""Which server is asked: those that fail, those of another cluster, those found by their guest agent."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import cast

import pytest

from homelab.errors import HomelabError, Misunderstood, NodeFailed, Refused, TimedOut, Unreachable
from homelab.k3s_manager import authority, tokens
from homelab.k3s_manager.guest_servers import GuestServers
from homelab.k3s_manager.leaving import make_room
from homelab.k3s_manager.server import K3sServer
from homelab.k3s_manager.servers import Servers
from homelab.models import KnownCluster, KnownServer, VmConfig, VmRow
from homelab.proxmox.answers import AgentInterface
from homelab.proxmox.client import Proxmox
from homelab.settings import K3sConfig, Role
from homelab.shell import Result, Shell
from support.fake_shell import FakeShell, done

ONE, TWO = "192.0.2.1", "192.0.2.2"


def pem(name: str) -> str:
    body = base64.b64encode(name.encode()).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


class Machine(FakeShell):
    """A server that calls itself by its name, and shows its CA, if it has one; `nodes` are items of kubectl.

    A `failure` is raised by every command.
    """

    def __init__(self, name: str, ca: str = "the CA", nodes: tuple[object, ...] = ()) -> None:
        super().__init__(self._answer, name)
        self.ca = ca
        self.nodes = nodes
        self.name = name
        self.failure: HomelabError | None = None

    def _answer(self, line: str, _: bytes) -> Result:
        if self.failure:
            raise self.failure
        nodes, shown = json.dumps({"items": self.nodes}), pem(self.ca) if self.ca else ""
        if line.startswith("sh -c"):
            return done(f"{self.name}\n{shown}{nodes}")
        return done(shown if "cacerts" in line else nodes)


class NoGuests:
    """No VM is a server."""

    def find(self, _addresses: object, _uuids: object) -> list[K3sServer]:
        return []


def servers(machines: dict[str, Machine], warn: Callable[[str], None] = lambda _: None) -> Servers:
    def connect(address: str) -> Shell:
        if address not in machines:
            raise Unreachable(f"SSH to {address}", "connection refused", "look")
        return machines[address]

    config = K3sConfig((ONE, TWO), None, "https://k3s.example/install.sh", None)
    return Servers(config, _connecting(connect), cast(GuestServers, NoGuests()), None, "k3s.json", warn)


def _connecting(connect: Callable[[str], Shell]) -> Callable[[str], Shell]:
    """Shells are given at once, and log in later; here both is one."""

    class Late:
        def __init__(self, address: str) -> None:
            self.address = address

        def connect(self) -> None:
            connect(self.address)

        def __getattr__(self, name: str) -> object:
            return getattr(connect(self.address), name)

    return lambda address: cast(Shell, Late(address))


def test_question_goes_to_the_next_server_once_the_first_fails() -> None:
    machines = {ONE: Machine("one"), TWO: Machine("two")}
    asked = servers(machines)
    assert asked.look()[1].host_name == "one"

    machines[ONE].failure = TimedOut("kubectl", "no end within its time")

    assert asked.nodes() == ()
    assert asked.look()[1].host_name == "two"


def test_failure_of_the_only_server_that_answers_is_told_as_it_is() -> None:
    machines = {ONE: Machine("one")}
    asked = servers(machines)
    asked.look()
    machines[ONE].failure = Refused("k3s", "does not do it", status=1)

    with pytest.raises(HomelabError) as failed:
        asked.nodes()

    assert "SSH to 192.0.2.2: connection refused" in str(failed.value)


def test_server_that_cannot_list_nodes_is_told_with_a_command_that_can_be_typed() -> None:
    machine = FakeShell(lambda *_: done(stderr="ServiceUnavailable", exit_code=1), "one")

    with pytest.raises(Refused) as refused:
        K3sServer(machine, ONE).look()

    command = "sudo -n k3s kubectl get nodes -o json --request-timeout=10s"
    assert refused.value.why == f"{command}: exit code 1: ServiceUnavailable"
    assert refused.value.cure.endswith(f" '{command}'")


def test_choice_that_was_made_meanwhile_is_taken_over() -> None:
    asked = servers({ONE: Machine("one"), TWO: Machine("two")})

    def question(server: K3sServer) -> str:
        if server.address == ONE:
            asked.keep_away_from("one")
            raise Unreachable("SSH", "gone")
        return server.address

    assert asked.ask(question) == TWO


@pytest.mark.parametrize(("name", "used"), [("one", "two"), ("other", "one")])
def test_server_that_is_to_go_is_kept_away_from(name: str, used: str) -> None:
    asked = servers({ONE: Machine("one"), TWO: Machine("two")})

    asked.keep_away_from(name)

    assert asked.look()[1].host_name == used


def test_where_the_server_that_is_to_go_is_the_only_one_that_is_said() -> None:
    asked = servers({ONE: Machine("one")})

    with pytest.raises(Unreachable):
        asked.keep_away_from("one")


def test_addresses_that_lead_to_two_clusters_are_refused() -> None:
    asked = servers({ONE: Machine("one"), TWO: Machine("two", ca="another CA")})

    with pytest.raises(NodeFailed) as refused:
        asked.check_agreement()

    assert refused.value.why == f"{ONE} and {TWO} show different CAs"
    assert "K3S_EXISTING_NODE_IP" in refused.value.cure


def test_server_of_another_cluster_is_not_told_what_was_meant_for_the_first_one() -> None:
    machines = {ONE: Machine("one"), TWO: Machine("two", ca="another CA")}
    asked = servers(machines)
    asked.look()
    machines[ONE].failure = TimedOut("kubectl", "no end within its time")

    with pytest.raises(NodeFailed) as refused:
        asked.ask(lambda server: server.delete_node("k3s-vm-pve1"))

    assert refused.value.why == f"{TWO} shows another CA than the server that was asked before"
    assert not any("delete" in line for line in machines[TWO].commands)


def test_server_over_ssh_is_of_the_cluster_that_was_asked_through_its_api() -> None:
    asked = servers({ONE: Machine("one")})
    assert asked.wrong_authority("192.0.2.9", pem("the CA of the API")) is None

    with pytest.raises(HomelabError, match="lead to different clusters"):
        asked.look()


def test_server_that_shows_no_ca_is_not_believed_and_the_next_is_asked() -> None:
    said: list[str] = []
    machines = {ONE: Machine("one", ca=""), TWO: Machine("two")}

    assert servers(machines, said.append).look()[1].host_name == "two"

    assert f"{ONE} cannot be asked (root@one: the k3s server shows no CA: " in said[0]
    with pytest.raises(HomelabError, match=r"root@one: the k3s server shows no CA: .* of which cluster it is"):
        servers({ONE: machines[ONE]}).nodes()


def test_while_the_cluster_of_before_cannot_be_told_no_server_is_believed() -> None:
    asked = servers({ONE: Machine("one")})
    asked.doubt = Misunderstood("which cluster cannot be told")

    assert asked.wrong_authority(ONE, pem("the CA")) is asked.doubt
    with pytest.raises(Misunderstood, match="which cluster cannot be told"):
        asked.look()


ALIKE = [
    {ONE: Machine("one")},
    {ONE: Machine("one"), TWO: Machine("two")},
    {ONE: Machine("one"), TWO: Machine("two", ca="")},
]


@pytest.mark.parametrize("machines", ALIKE)
def test_servers_of_one_cluster_agree_and_who_does_not_answer_says_nothing(machines: dict[str, Machine]) -> None:
    servers(machines).check_agreement()


def test_a_warning_is_said_once() -> None:
    said: list[str] = []
    asked = servers({TWO: Machine("two")}, said.append)

    asked.look()
    asked.tell_passed_over({ONE: "its API does not answer"}, "two is asked")
    asked.say("moved")
    asked.say("moved")

    passed_over = f"K3S_EXISTING_NODE_IP: {ONE} cannot be asked (SSH to {ONE}: connection refused)"
    assert said == [f"{passed_over}; two is asked, at {TWO}", "moved"]


def test_server_of_the_cluster_of_before_is_known_by_its_ca() -> None:
    asked = servers({})
    asked.known = KnownCluster(authority.fingerprints(pem("the CA")), (KnownServer("two", "", (ONE, TWO)),))
    asked.shown = {f"https://{TWO}:6443": pem("the CA")}.__getitem__

    assert asked.wrong_authority(ONE, pem("the CA")) is None
    assert asked.wrong_authority(ONE, pem("another CA")) is not None


# --- tokens, and room for a newcomer -----------------------------------------------------------------------------


def test_only_the_tokens_that_were_made_for_the_machine_are_taken_back() -> None:
    made = (
        "TOKEN TTL EXPIRES USAGES DESCRIPTION\n\nabc123 19m soon auth homelab-a x\ndef456 19m soon auth homelab-ab x\n"
    )
    machine = FakeShell(lambda line, _: done(made if line.endswith("list") else ""))

    tokens.discard(K3sServer(machine, ONE), "a")

    assert machine.commands == ["sudo -n k3s token list", "sudo -n k3s token delete abc123"]


def item(name: str) -> dict[str, object]:
    info = {"systemUUID": "u", "kubeletVersion": "v1.33.4+k3s1"}
    return {"metadata": {"name": name}, "status": {"nodeInfo": info}}


@pytest.mark.parametrize(("nodes", "is_deleted"), [((), True), ((item("a"),), False)])
def test_password_goes_only_where_nobody_has_the_name(nodes: tuple[object, ...], is_deleted: bool) -> None:
    machine = Machine("one", nodes=nodes)

    make_room(servers({ONE: machine}), "a", Role.AGENT)

    assert any("delete secret a.node-password.k3s" in command for command in machine.commands) == is_deleted


# --- the CA ------------------------------------------------------------------------------------------------------


def test_a_bundle_is_known_in_tokens_by_its_root() -> None:
    first, root = pem("intermediate"), pem("root")

    assert authority.hashes(first + root) == authority.fingerprints(root)
    assert len(authority.hashes(root)) == 1
    assert authority.hashes(root) != authority.fingerprints(root)


def test_what_is_no_certificate_has_no_hash() -> None:
    broken = "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"

    assert authority.hashes("") == authority.hashes(broken) == frozenset()


# --- servers that are VMs ----------------------------------------------------------------------------------------

ROWS = (VmRow(100, "pve1", "a"), VmRow(101, "pve2", "b"), VmRow(102, "pve3", "ct", is_container=True))
MAC = "BC:24:11:00:00:01"


class Guests:
    """Two VMs: the addresses that their agents tell of, and their uuids."""

    def __init__(self, addresses: dict[int, str], uuids: dict[int, str]) -> None:
        self.addresses, self.uuids = addresses, uuids

    def cluster_vms(self) -> tuple[VmRow, ...]:
        return ROWS

    def agent_interfaces(self, _node: str, vmid: int) -> tuple[AgentInterface, ...]:
        if vmid not in self.addresses:
            raise Refused("guest agent", "QEMU guest agent is not running", status=500)
        return (AgentInterface("eth0", MAC, (self.addresses[vmid],)),)

    def vm_config(self, _node: str, vmid: int) -> VmConfig:
        return VmConfig({"net0": f"virtio={MAC}", "smbios1": f"uuid={self.uuids.get(vmid, '')}"})


def found(guests: Guests, addresses: set[str], uuids: set[str]) -> list[tuple[str, str]]:
    pve = cast(Proxmox, guests)
    return [(server.where, server.address) for server in GuestServers(pve).find(addresses, uuids)]


def test_vm_that_holds_the_address_is_found() -> None:
    assert found(Guests({100: ONE}, {}), {ONE}, set()) == [("VM 100 on pve1 (by its guest agent)", ONE)]


def test_address_that_two_vms_claim_is_nobody_s() -> None:
    assert found(Guests({100: ONE, 101: ONE}, {}), {ONE}, set()) == []


def test_vm_that_moved_is_found_by_its_uuid() -> None:
    guests = Guests({100: TWO, 101: "192.0.2.9"}, {100: "u"})

    assert found(guests, {ONE}, {"u"}) == [("VM 100 on pve1 (by its guest agent)", TWO)]


def test_where_proxmox_cannot_be_asked_no_vm_is_a_server() -> None:
    class Silent(Guests):
        def cluster_vms(self) -> tuple[VmRow, ...]:
            raise Unreachable("GET /cluster/resources", "no node is reached")

    assert found(Silent({}, {}), {ONE}, set()) == []
