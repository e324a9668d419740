"""The SSH connection against a real server: outputs, deadlines, drops, host keys, logins."""

from __future__ import annotations

import asyncio
import io
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import asyncssh
import paramiko
import pytest

from homelab.errors import TimedOut, Undecided, Unreachable
from homelab.shell import (
    ChangedHostKey,
    HostKey,
    LearnOnce,
    LoginRefused,
    Machine,
    PinnedKey,
    Shell,
    Shells,
    UnknownHostKey,
)
from homelab.shell.session import close
from support.names import without_name_server
from support.ssh_server import SshServer, ssh_server

BIG = 2_500_000


async def answer(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """The commands that the server knows."""
    command = process.command or ""
    if command == "both":
        for _ in range(BIG // 1000):
            process.stderr.write(b"e" * 1000)
            process.stdout.write(b"o" * 1000)
        await process.stdout.drain()
    elif command == "count":
        process.stdout.write(str(len(await process.stdin.read())).encode())
    elif command == "mute":
        process.stdout.write_eof()
        await asyncio.sleep(30)
    elif command == "hang":
        await asyncio.sleep(30)
    elif command == "drop":
        process.channel.get_connection().abort()
    elif command == "killed":
        process.exit_with_signal("KILL")
        return
    elif command == "early":
        process.exit(7)
        return
    else:
        process.stdout.write(command.encode())
    process.exit(0)


@pytest.fixture(autouse=True)
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    without_name_server(monkeypatch)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "key"


@pytest.fixture
def server(key: Path) -> Iterator[SshServer]:
    with ssh_server(key, answer) as running:
        yield running


@pytest.fixture
def shells(tmp_path: Path, key: Path, server: SshServer) -> Iterator[Shells]:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(server.known_hosts_line)
    with Shells(user="root", key_path=key, known_hosts=known_hosts, home=tmp_path) as opened:
        yield opened


@pytest.fixture
def shell(shells: Shells, server: SshServer) -> Shell:
    return shells.node("127.0.0.1", server.port)


def test_words_of_a_list_arrive_quoted(shell: Shell) -> None:
    assert shell.run(["echo", "a b", "$(reboot)", "it's"]).stdout == """echo 'a b' '$(reboot)' 'it'"'"'s'"""


def test_output_on_both_streams_beyond_the_window_is_read_whole(shell: Shell) -> None:
    result = shell.run("both", timeout_s=20)
    assert (result.exit_code, len(result.stdout), len(result.stderr)) == (0, BIG, BIG)


def test_large_input_is_streamed(shell: Shell) -> None:
    assert shell.run("count", stdin=io.BytesIO(b"x" * BIG), timeout_s=20).stdout == str(BIG)
    assert shell.run("count", stdin=b"").stdout == "0"


def test_exit_code_is_kept_when_a_command_does_not_read_its_input(shell: Shell) -> None:
    assert shell.run("early", stdin=b"x" * BIG).exit_code == 7


def test_deadline_ends_a_hanging_command(shell: Shell) -> None:
    with pytest.raises(TimedOut, match="hang"):
        shell.run("hang", timeout_s=0.2)
    assert shell.run("still usable").stdout == "still usable"


@pytest.mark.parametrize(("command", "timeout_s"), [("mute", 0.2), ("any", 0)], ids=["no-exit-code", "no-time"])
def test_deadline_holds_whatever_is_waited_for(shell: Shell, command: str, timeout_s: float) -> None:
    with pytest.raises(TimedOut):
        shell.run(command, timeout_s=timeout_s)


@pytest.mark.parametrize(("refuses", "error"), [("session", Unreachable), ("exec", Undecided)])
def test_server_that_lets_nobody_run_anything_is_named(
    tmp_path: Path, key: Path, refuses: str, error: type[Exception]
) -> None:
    with ssh_server(key, answer, refuses) as server:
        known_hosts = tmp_path / "known_hosts"
        known_hosts.write_text(server.known_hosts_line)
        with Shells(user="root", key_path=key, known_hosts=known_hosts, home=tmp_path) as shells:
            shell = shells.node("127.0.0.1", server.port)
            shell.connect()
            with pytest.raises(error):
                shell.run("x")


def test_drop_in_mid_command_is_undecided_and_the_next_command_connects_again(shell: Shell, server: SshServer) -> None:
    with pytest.raises(Undecided, match="before the command did"):
        shell.run("drop")
    assert shell.run("again").stdout == "again"
    assert server.logins == 2


@pytest.mark.parametrize("error", [EOFError, OSError])
def test_channel_of_a_connection_that_has_just_gone_is_closed_without_a_word(error: type[Exception]) -> None:
    class Gone:
        def close(self) -> None:
            raise error

    close(cast(paramiko.Channel, Gone()))


def test_command_without_exit_code_is_undecided(shell: Shell) -> None:
    with pytest.raises(Undecided, match="without an exit code"):
        shell.run("killed")


def test_connection_cut_between_commands_is_replaced(shell: Shell, server: SshServer) -> None:
    shell.run("first")
    server.drop_all()
    assert shell.run("second").stdout == "second"


def test_many_threads_share_one_connection(shell: Shell, server: SshServer) -> None:
    outputs: list[str] = []
    threads = [threading.Thread(target=lambda n=n: outputs.append(shell.run(f"n{n}").stdout)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outputs) == sorted(f"n{n}" for n in range(24))
    assert server.logins == 1


def test_cipher_that_costs_least_is_agreed_on(shell: Shell, server: SshServer) -> None:
    shell.run("x")
    assert server.connections[0].get_extra_info("recv_cipher") == "aes256-gcm@openssh.com"


def test_pool_gives_one_shell_per_machine(shells: Shells, server: SshServer) -> None:
    first = shells.server("127.0.0.1", server.port, "ubuntu")
    assert shells.server("127.0.0.1", server.port, "ubuntu") is first


def test_refused_connection_says_so_and_which_key_names_the_port(shells: Shells) -> None:
    with pytest.raises(Unreachable, match="connection refused") as of_node:
        shells.node("127.0.0.1", closed_port()).run("x")
    with pytest.raises(Unreachable, match="connection refused") as of_server:
        shells.server("127.0.0.1", closed_port(), "ubuntu").run("x")
    assert "set SSH_PORT or SSH_PORT_n" in of_node.value.cure
    assert "set VM_SSH_PORT" in of_server.value.cure


def test_unknown_name_says_so(shells: Shells) -> None:
    with pytest.raises(Unreachable, match=r"name no-such-host\.invalid is not known"):
        shells.node("no-such-host.invalid", 22).run("x")


def test_machine_that_accepts_and_stays_silent_is_unreachable(shells: Shells, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homelab.shell.login.HANDSHAKE_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unreachable, match="no SSH connection"):
        shells.node("127.0.0.1", silent.getsockname()[1]).run("x")


def test_connect_time_out_is_named(shells: Shells, monkeypatch: pytest.MonkeyPatch) -> None:
    def time_out(*_args: object) -> socket.socket:
        raise TimeoutError

    monkeypatch.setattr("socket.create_connection", time_out)
    with pytest.raises(Unreachable, match="no answer within 5 s"):
        shells.node("192.0.2.1", 22).run("x")


@pytest.mark.parametrize(
    ("machine", "where", "login"),
    [
        (Machine("pve1.maas", user="root"), "root@pve1.maas", "ssh root@pve1.maas"),
        (Machine("pve1", 2222, "root"), "root@pve1:2222", "ssh -p 2222 root@pve1"),
        (Machine("fd00::7", 2222, "ubuntu"), "ubuntu@fd00::7:2222", "ssh -p 2222 ubuntu@fd00::7"),
        (Machine("pve1"), "pve1", "ssh pve1"),
    ],
)
def test_machine_is_named_and_its_login_is_what_openssh_accepts(machine: Machine, where: str, login: str) -> None:
    assert (machine.where, machine.login) == (where, login)


def test_wrong_key_is_a_refused_login_with_the_command_to_cure_it(tmp_path: Path, server: SshServer) -> None:
    other = tmp_path / "other"
    other.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    pinned = PinnedKey((HostKey.parse(server.host_key_line),))
    with (
        Shells(user="root", key_path=other, known_hosts=None, home=tmp_path) as shells,
        pytest.raises(LoginRefused, match="authentication failed") as refused,
    ):
        shells.guest("127.0.0.1", server.port, "root", pinned).run("x")
    assert refused.value.cure == f"ssh-copy-id -p {server.port} root@127.0.0.1, or set SSH_KEY_PATH or CLOUD_USER"


def test_missing_key_file_names_the_setting(tmp_path: Path, server: SshServer) -> None:
    pinned = PinnedKey((HostKey.parse(server.host_key_line),))
    with (
        Shells(user="root", key_path=tmp_path / "none", known_hosts=None, home=tmp_path) as shells,
        pytest.raises(LoginRefused, match="cannot be read") as refused,
    ):
        shells.guest("127.0.0.1", server.port, "root", pinned).run("x")
    assert "SSH_KEY_PATH" in refused.value.cure


def test_key_with_a_passphrase_points_to_the_agent(tmp_path: Path, server: SshServer) -> None:
    locked = tmp_path / "locked"
    locked.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key(passphrase="secret"))
    pinned = PinnedKey((HostKey.parse(server.host_key_line),))
    with (
        Shells(user="root", key_path=locked, known_hosts=None, home=tmp_path) as shells,
        pytest.raises(LoginRefused, match="passphrase") as refused,
    ):
        shells.guest("127.0.0.1", server.port, "root", pinned).run("x")
    assert "ssh-add" in refused.value.cure


def test_unknown_host_key_is_refused_with_scan_and_compare(tmp_path: Path, key: Path, server: SshServer) -> None:
    known_hosts = tmp_path / "empty"
    with (
        Shells(user="root", key_path=key, known_hosts=known_hosts, home=tmp_path) as shells,
        pytest.raises(UnknownHostKey, match="not in known_hosts") as refused,
    ):
        shells.node("127.0.0.1", server.port).run("x")
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >> {known_hosts}" in refused.value.cure
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in refused.value.cure
    assert not known_hosts.exists()
    assert server.commands == []


def test_changed_host_key_is_refused_with_the_file_that_holds_the_old_one(
    tmp_path: Path, key: Path, server: SshServer
) -> None:
    known_hosts = tmp_path / "known_hosts"
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[:2]
    known_hosts.write_text(f"[127.0.0.1]:{server.port} {' '.join(other)}\n")
    with (
        Shells(user="root", key_path=key, known_hosts=known_hosts, home=tmp_path) as shells,
        pytest.raises(ChangedHostKey, match="has changed") as refused,
    ):
        shells.node("127.0.0.1", server.port).run("x")
    assert f"ssh-keygen -R '[127.0.0.1]:{server.port}' -f {known_hosts}" in refused.value.cure


def test_guest_with_another_key_than_the_pinned_one_is_refused(shells: Shells, server: SshServer) -> None:
    with pytest.raises(ChangedHostKey, match="is pinned"):
        shells.guest("127.0.0.1", server.port, "ubuntu", PinnedKey((HostKey("ssh-ed25519", "AAAA"),))).run("x")


def test_key_learned_once_is_kept(shells: Shells, server: SshServer) -> None:
    asked: list[HostKey] = []

    def accept(_host: str, _port: int, shown: HostKey) -> bool:
        asked.append(shown)
        return True

    learned = LearnOnce(accept)
    guest = shells.guest("127.0.0.1", server.port, "ubuntu", learned)
    guest.run("x")
    guest.close()
    guest.run("y")
    assert [str(shown) for shown in asked] == [server.host_key_line]
    with pytest.raises(ChangedHostKey):
        learned.check("127.0.0.1", server.port, HostKey("ssh-ed25519", "AAAA"))


def test_key_that_the_callback_declines_is_unknown(shells: Shells, server: SshServer) -> None:
    with pytest.raises(UnknownHostKey, match="not known"):
        shells.guest("127.0.0.1", server.port, "ubuntu", LearnOnce(lambda *_: False)).run("x")


def test_proxy_command_of_ssh_config_is_used(tmp_path: Path, key: Path, server: SshServer) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[pve1]:{server.port} {server.host_key_line}\n")
    relay = tmp_path / "relay.py"
    relay.write_text(RELAY)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(f"Host pve1\n  ProxyCommand {sys.executable} {relay} 127.0.0.1 %p\n")
    with Shells(user="root", key_path=key, known_hosts=known_hosts, home=tmp_path) as shells:
        assert shells.node("pve1", server.port).run("hello").stdout == "hello"


RELAY = """
import os, socket, sys, threading
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := os.read(0, 65536):
        peer.sendall(data)
    peer.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := peer.recv(65536):
    os.write(1, data)
"""


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
