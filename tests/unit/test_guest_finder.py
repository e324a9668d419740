"""A VM's host key and first boot as its agent and cloud-init tell of them, and what changes under our hands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from homelab.errors import ChangedIdentity, NodeFailed, NotResponding, Refused, TimedOut, Undecided
from homelab.k3s_manager import GuestFinder
from homelab.memory import GuestKeys
from homelab.models import RunningVm
from homelab.proxmox.answers import AgentInterface
from homelab.proxmox.client import Proxmox
from homelab.proxmox.neighbours import Neighbour
from homelab.shell import ChangedHostKey, HostKey, LearnOnce, PinnedKey, Result, Shell, Shells, Trust
from support.clock import SteppingClock
from support.fake_shell import FakeShell, done
from unit.builders import CONFIG, node_config, vm

HOST_KEY = HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIFW2LLQV8MkT0TmaqCqWFt2dU1aDxSxE5RmMwLrdkIgO")
JSON = '{"status": "done"}'


def finder() -> GuestFinder:
    return finder_of(cast(Proxmox, None), cast(Shells, None), Path("/nonexistent"))


def finder_of(pve: Proxmox, shells: Shells, folder: Path) -> GuestFinder:
    def say(_sentence: str) -> None:
        """Nobody listens."""

    return GuestFinder(
        pve, CONFIG, shells, SteppingClock(), say, lambda *_: None, names=lambda _: (), keys=GuestKeys(folder)
    )


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


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            done("Cloud-init v. 25.1 running\napt-get update\n"),
            "last seen: running (modules-final); its log ends with: Cloud-init v. 25.1 running | apt-get update",
        ),
        (done(exit_code=1), "its log ends with: no log"),
        (None, "its log ends with: no log"),
    ],
)
def test_first_boot_that_does_not_end_is_told_with_the_end_of_its_log(log: Result | None, said: str) -> None:
    def respond(line: str, _: bytes) -> Result:
        if not line.startswith("tail"):
            return done('{"status": "running", "detail": "modules-final"}')
        if log is None:
            raise Undecided("SSH", "the connection ended")
        return log

    with pytest.raises(TimedOut, match="cloud-init does not end") as ended:
        finder().wait_for_cloud_init(vm(), FakeShell(respond))
    assert said in ended.value.why
    assert "cloud-init status --long" in ended.value.cure


def test_other_machine_that_shows_up_during_the_first_boot_ends_the_wait_at_once() -> None:
    def respond(_line: str, _: bytes) -> Result:
        raise ChangedHostKey("SSH to 192.0.2.7", "it shows another host key")

    with pytest.raises(ChangedHostKey):
        finder().wait_for_cloud_init(vm(), FakeShell(respond))


class Agent:
    """What the guest agent gives of a file, one look after the other."""

    def __init__(self, *texts: str) -> None:
        self._texts: Iterator[str] = iter(texts)

    def agent_file_read(self, _node: str, _vmid: int, _path: str) -> str:
        return next(self._texts)


class Guests:
    """Shells on VMs that answer at once; remembers whom they trust."""

    def __init__(self) -> None:
        self.trusted: list[Trust] = []

    def guest(self, _host: str, _port: int, _user: str, trust: Trust) -> Shell:
        self.trusted.append(trust)
        return FakeShell(lambda *_: done())


def test_host_key_file_that_is_not_written_yet_is_read_again_and_remembered(tmp_path: Path) -> None:
    agent, guests = Agent("", "ssh-ed25519 !\n", f"{HOST_KEY}\n"), Guests()
    finder = finder_of(cast(Proxmox, agent), cast(Shells, guests), tmp_path)

    finder.login(node_config(ip_config="ip=192.0.2.7/24,gw=192.0.2.1"), RunningVm(vm()))

    assert guests.trusted == [PinnedKey((HOST_KEY,))]
    assert GuestKeys(tmp_path).recall(vm().config.uuid) == str(HOST_KEY)


class Silent:
    """A new VM whose agent gives no host key, and at whose address nobody answers its node."""

    def __init__(self, *addresses: str) -> None:
        self._interfaces = (AgentInterface("eth0", vm().config.macs["net0"], addresses),)

    def root(self, _node: str) -> None:
        """It can be logged in to."""

    def agent_interfaces(self, _node: str, _vmid: int) -> tuple[AgentInterface, ...]:
        return self._interfaces

    def agent_file_read(self, _node: str, _vmid: int, _path: str) -> str:
        raise Refused("agent", "QEMU guest agent is not running", status=500)

    def neighbours_at(self, _node: str, _place: str) -> tuple[Neighbour, ...]:
        raise Undecided("SSH", "the connection ended")


def test_agent_that_the_image_brings_along_is_asked_although_none_was_installed(tmp_path: Path) -> None:
    guests = Guests()
    finder = finder_of(cast(Proxmox, Silent("192.0.2.7")), cast(Shells, guests), tmp_path)

    finder.login(node_config(), RunningVm(vm(), is_new=True, has_agent=False))

    assert [type(trust) for trust in guests.trusted] == [LearnOnce]


def test_host_key_of_an_earlier_time_that_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    GuestKeys(tmp_path).keep(vm().config.uuid, "ssh-ed25519 cut o")
    finder = finder_of(cast(Proxmox, Silent("192.0.2.7")), cast(Shells, Guests()), tmp_path)

    with pytest.raises(NodeFailed, match="its SSH host key cannot be checked"):
        finder.login(node_config(), RunningVm(vm()))


@pytest.mark.parametrize("ip_config", ["ip=dhcp", "ip=192.0.2.7/24"])
def test_node_that_turns_out_to_be_another_machine_is_not_waited_for(tmp_path: Path, ip_config: str) -> None:
    class Changed(Silent):
        def agent_interfaces(self, _node: str, _vmid: int) -> tuple[AgentInterface, ...]:
            raise ChangedIdentity("API", "its certificate has changed")

        def agent_file_read(self, _node: str, _vmid: int, _path: str) -> str:
            raise ChangedIdentity("API", "its certificate has changed")

    finder = finder_of(cast(Proxmox, Changed()), cast(Shells, Guests()), tmp_path)
    before = finder.clock.now()

    with pytest.raises(ChangedIdentity):
        finder.login(node_config(ip_config=ip_config), RunningVm(vm()))
    assert finder.clock.now() == before


def test_new_vm_that_nobody_hears_at_its_static_address_does_not_respond(tmp_path: Path) -> None:
    guests = Guests()
    finder = finder_of(cast(Proxmox, Silent()), cast(Shells, guests), tmp_path)

    with pytest.raises(NotResponding, match=r"nobody answers at its address 192\.0\.2\.7, not within"):
        finder.login(node_config(ip_config="ip=192.0.2.7/24"), RunningVm(vm(), is_new=True))
    assert guests.trusted == []
