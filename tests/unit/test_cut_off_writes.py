"""Writes over a real SSH connection whose end does not tell how far they came: they are looked at, not taken for no."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from homelab.errors import HomelabError, Refused, Undecided
from homelab.proxmox.remote_files import output
from homelab.proxmox.ssh import Ssh
from homelab.shell import Shells
from support.names import without_name_server
from support.ssh_server import ssh_server

CREATION = ("POST", "/nodes/pve1/qemu", {"vmid": 100})


async def answer(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """A node on which `qm` ends as the last word says: `signal-KILL`, `cut`, or `CODE-WORDS`."""
    words = (process.command or "").split()
    if words[0] != "qm":
        process.stdout.write(b"pve1\n")
        process.exit(0)
        return
    how, _, said = words[-1].partition("-")
    if how == "signal":
        process.exit_with_signal(said)
    elif how == "cut":
        process.channel.get_connection().abort()
    else:
        process.stderr.write(said.encode())
        process.exit(int(how))


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ssh]:
    without_name_server(monkeypatch)
    key, known_hosts = tmp_path / "key", tmp_path / "known_hosts"
    with ssh_server(key, answer) as server:
        known_hosts.write_text(server.known_hosts_line)
        with Shells(user="root", key_path=key, known_hosts=known_hosts, home=tmp_path) as shells:
            yield Ssh("pve1", shells.node("127.0.0.1", server.port), "root")


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ("signal-KILL", Undecided),
        ("signal-TERM", Undecided),
        ("cut", Undecided),
        ("137-Killed", Undecided),
        ("143-", Undecided),
        ("255-", Undecided),
        ("1-", Undecided),
        ("255-refused", Refused),
        ("128-refused", Refused),
        ("2-refused", Refused),
    ],
)
def test_write_that_did_not_come_to_its_own_end_is_undecided(ssh: Ssh, ending: str, error: type[HomelabError]) -> None:
    method, path, params = CREATION

    with pytest.raises(error) as raised:
        ssh.call(method, path, {**params, "name": ending})

    assert type(raised.value) is error
    assert raised.value.why
    assert raised.value.cure


def test_command_of_ours_that_was_killed_is_undecided_too(ssh: Ssh) -> None:
    with pytest.raises(Undecided, match="exit code 137: nothing said"):
        output(ssh, ["qm", "unlock", "137-"])
    with pytest.raises(Refused, match="refused"):
        output(ssh, ["qm", "unlock", "255-refused"])


def test_write_that_succeeds_is_no_error(ssh: Ssh) -> None:
    method, path, params = CREATION
    assert ssh.call(method, path, {**params, "name": "0-"}) is None
