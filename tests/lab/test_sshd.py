"""Independent SSH clients (paramiko, OpenSSH) log in to a lab machine, run commands and bring files."""

from __future__ import annotations

import asyncio
import base64
import io
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import asyncssh
import paramiko
import pytest

from lab.shell_machine import PlainMachine, plain_machine
from pvelab.sshd import HOST_KEY, SshHooks, SshRequest, SshServer, host_key
from pvelab.state import Action

T = TypeVar("T")


@dataclass(slots=True)
class Server:
    """A served machine, and what a test needs to reach it."""

    machine: PlainMachine
    ssh: SshServer
    port: int
    key_path: Path
    on_its_thread: Callable[[Callable[[], None]], object]
    requests: list[SshRequest] = field(default_factory=list)

    def client(self, user: str = "root", key_path: Path | None = None) -> paramiko.SSHClient:
        """A logged-in paramiko client that has checked the host key."""
        client = paramiko.SSHClient()
        name, key = self.machine.files.read(f"{HOST_KEY}.pub").decode().split()[:2]
        client.get_host_keys().add(f"[127.0.0.1]:{self.port}", name, paramiko.Ed25519Key(data=base64.b64decode(key)))
        client.connect(
            "127.0.0.1",
            self.port,
            user,
            key_filename=str(key_path or self.key_path),
            allow_agent=False,
            look_for_keys=False,
            sock=_quick_socket(self.port),
        )
        return client


def _quick_socket(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _key_pair(path: Path) -> str:
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.write_bytes(key.export_private_key("openssh"))
    path.chmod(0o600)
    return key.export_public_key("openssh").decode().strip()


@pytest.fixture
def served(tmp_path: Path) -> Callable[[Callable[[Server], T]], T]:
    """Runs a client's part in a thread beside a served machine."""
    public = _key_pair(tmp_path / "key")
    _key_pair(tmp_path / "other-key")

    def use(client: Callable[[Server], T]) -> T:
        async def both() -> T:
            machine = plain_machine(tmp_path / "spool", asyncio.get_running_loop())
            for account in machine.accounts.values():
                account.authorized_keys = [f"{public} tester"]
            ssh = SshServer(lambda: machine, SshHooks())
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            await ssh.listen(host_key(machine.files), "127.0.0.1", port)
            server = Server(machine, ssh, port, tmp_path / "key", asyncio.get_running_loop().call_soon_threadsafe)
            ssh.hooks.record = server.requests.append
            try:
                return await asyncio.wait_for(asyncio.to_thread(client, server), timeout=20)
            finally:
                await ssh.close()

        return asyncio.run(both())

    return use


Use = Callable[[Callable[[Server], T]], T]


def _run(client: paramiko.SSHClient, command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    sent, out, err = client.exec_command(command, timeout=10)
    with suppress(EOFError, OSError):  # a server that cuts the connection may do so before this
        sent.channel.sendall(stdin)
        sent.channel.shutdown_write()
    return out.channel.recv_exit_status(), out.read(), err.read()


def test_command_gives_output_errors_and_exit_code(served: Use[tuple[int, bytes, bytes]]) -> None:
    answer = served(lambda server: _run(server.client(), "echo out; echo err >&2; cat; exit 7", b"in\n"))
    assert answer == (7, b"out\nin\n", b"err\n")


def test_command_does_not_wait_for_input_that_it_does_not_read(served: Use[int]) -> None:
    def leave_input_open(server: Server) -> int:
        _, out, _ = server.client().exec_command("true", timeout=5)
        return out.channel.recv_exit_status()

    assert served(leave_input_open) == 0


@pytest.mark.parametrize(("user", "key"), [("root", "other-key"), ("nobody", "key")])
def test_wrong_key_or_user_is_refused(served: Use[None], tmp_path: Path, user: str, key: str) -> None:
    def refused(server: Server) -> None:
        with pytest.raises(paramiko.AuthenticationException):
            server.client(user, tmp_path / key)

    served(refused)


def test_password_login_is_not_offered(served: Use[list[str]]) -> None:
    def offered(server: Server) -> list[str]:
        with paramiko.Transport(_quick_socket(server.port)) as transport:
            transport.start_client(timeout=5)
            with pytest.raises(paramiko.BadAuthenticationType) as refused:
                transport.auth_none("root")
        return list(refused.value.allowed_types)

    assert served(offered) == ["publickey"]


def test_big_input_arrives_whole(served: Use[tuple[int, bytes, bytes]]) -> None:
    data = bytes(range(256)) * 20_000
    answer = served(lambda server: _run(server.client(), "cat > /tmp/big && wc -c < /tmp/big", data))
    assert answer == (0, b"5120000\n", b"")


def test_many_commands_at_once_are_all_answered(served: Use[list[int]]) -> None:
    def many(server: Server) -> list[int]:
        client = server.client()
        channels = [client.exec_command(f"sleep 2; exit {n}")[1].channel for n in range(10)]
        return [channel.recv_exit_status() for channel in channels]

    assert served(many) == list(range(10))


def test_command_whose_client_goes_away_goes_on_with_its_input_ended(served: Use[bytes]) -> None:
    def go_away(server: Server) -> bytes:
        client = server.client()
        given, _, _ = client.exec_command("cat > /tmp/half && sleep 5 && mv /tmp/half /tmp/whole")
        given.write(b"only this")
        _run(client, "while [ ! -f /tmp/half ]; do sleep 1; done")
        client.close()
        return _run(server.client(), "while [ ! -f /tmp/whole ]; do sleep 1; done; cat /tmp/whole")[1]

    assert served(go_away) == b"only this"


def test_command_whose_client_has_gone_ends_when_it_writes(served: Use[bytes]) -> None:
    def go_away(server: Server) -> bytes:
        client = server.client()
        client.exec_command("touch /tmp/begun; sleep 5; echo word; touch /tmp/after")
        _run(client, "while [ ! -f /tmp/begun ]; do sleep 1; done")
        client.close()
        second = server.client()
        while not any(request.command_line.startswith("touch") for request in server.requests):
            _run(second, "sleep 1")
        return _run(second, "ls /tmp")[1]

    assert served(go_away) == b"begun\n"


def test_power_cut_kills_commands_also_those_without_a_client(served: Use[list[SshRequest]]) -> None:
    def lose_power(server: Server) -> list[SshRequest]:
        client = server.client()
        client.exec_command("sleep 3600; touch /tmp/after")
        _run(client, "true")
        client.close()
        server.on_its_thread(server.ssh.kill_commands)
        second = server.client()
        while not any(request.command_line.startswith("sleep") for request in server.requests):
            _run(second, "true")
        return server.requests

    killed = next(request for request in served(lose_power) if request.command_line.startswith("sleep"))
    assert killed.exit_code is None
    assert [one.argv for one in killed.executed] == [("sleep", "3600")]


def test_killed_command_ends_by_a_signal_and_without_an_exit_code(served: Use[int]) -> None:
    def kill(server: Server) -> int:
        client = server.client()
        channel = client.exec_command("touch /tmp/begun; sleep 3600")[1].channel
        _run(client, "while [ ! -f /tmp/begun ]; do sleep 1; done")
        server.on_its_thread(server.ssh.kill_commands)
        return channel.recv_exit_status()

    assert served(kill) == -1


def test_requests_are_recorded_with_the_programs_that_ran(served: Use[list[SshRequest]]) -> None:
    def ask(server: Server) -> list[SshRequest]:
        _run(server.client("ubuntu"), "sudo -n cat /etc/none > /tmp/out")
        return server.requests

    (request,) = served(ask)
    assert (request.user, request.exit_code) == ("ubuntu", 1)
    assert [(one.argv, one.user, one.writes) for one in request.executed] == [
        (("sudo", "-n", "cat", "/etc/none"), "ubuntu", ("/tmp/out",)),
        (("cat", "/etc/none"), "root", ()),
    ]


@pytest.mark.parametrize(("kind", "is_done"), [("reset", b""), ("reset-after", b"f\n")])
def test_connection_cut_by_a_fault_gives_no_exit_code(served: Use[bytes], kind: str, is_done: bytes) -> None:
    def be_cut(server: Server) -> bytes:
        cut = Action("reset" if kind == "reset" else "reset-after")
        server.ssh.hooks.intercept = lambda _machine, _user, text: cut if "touch" in text else None
        assert _run(server.client(), "touch /tmp/f")[0] == -1
        assert server.requests[0].exit_code is None
        return _run(server.client(), "ls /tmp")[1]

    assert served(be_cut) == is_done


def test_fault_may_answer_in_place_of_the_command(served: Use[tuple[int, bytes, bytes]]) -> None:
    def ask(server: Server) -> tuple[int, bytes, bytes]:
        server.ssh.hooks.intercept = lambda *_: Action("answer", 5, "no")
        return _run(server.client(), "true")

    assert served(ask) == (5, b"", b"no\n")


def test_files_are_put_and_fetched_by_sftp(served: Use[bytes]) -> None:
    data = bytes(range(256)) * 8_000

    def copy(server: Server) -> bytes:
        sftp = server.client("ubuntu").open_sftp()
        sftp.putfo(io.BytesIO(data), "copy", len(data))
        sftp.chmod("copy", 0o600)
        sftp.rename("copy", "kept")
        assert sftp.listdir(".") == ["kept"]
        assert (sftp.stat("kept").st_mode or 0) & 0o777 == 0o600
        with pytest.raises(PermissionError):
            sftp.open("/etc/kept", "w")
        back = io.BytesIO()
        sftp.getfo("kept", back)
        return back.getvalue()

    assert served(copy) == data


@pytest.mark.skipif(not shutil.which("scp"), reason="OpenSSH's client is not installed")
def test_openssh_runs_a_command_and_copies_a_file(served: Use[str], tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 100_000)

    def copy(server: Server) -> str:
        (tmp_path / "known_hosts").write_text(
            f"[127.0.0.1]:{server.port} {server.machine.files.read(HOST_KEY + '.pub').decode()}"
        )
        options = ["-F", "none", "-i", str(server.key_path), "-o", f"UserKnownHostsFile={tmp_path / 'known_hosts'}"]
        target = "root@127.0.0.1"
        subprocess.run(
            ["scp", *options, "-P", str(server.port), str(tmp_path / "data"), f"{target}:/tmp/data"],
            check=True,
            timeout=10,
        )
        asked = ["ssh", *options, "-p", str(server.port), target, "stat -c '%s %U' /tmp/data"]
        return subprocess.run(asked, check=True, capture_output=True, text=True, timeout=10).stdout

    assert served(copy) == "100000 root\n"
