"""An SSH server for any machine of the lab: public keys only, commands through the lab's shell, files by SFTP."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import asyncssh

from pvelab import progress
from pvelab.clock import in_background
from pvelab.machine import Account, Input, Machine
from pvelab.sftp import FileAccess
from pvelab.shell.environment import Executed
from pvelab.shell.files import FileSystem
from pvelab.shell.run import shell_for
from pvelab.shell.streams import Collected
from pvelab.ssh_channel import ClientStreams, FromClient, ToClient, cut_short
from pvelab.ssh_terminal import Conversation, TerminalOutput
from pvelab.state import Action

SSH_PORT = 2222
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
_WINDOW_BYTES = 8 << 20
_PACKET_BYTES = 256 << 10
_WAITING_CONNECTIONS = 256
UNTOUCHED = Action()


@dataclass(frozen=True, slots=True)
class SshRequest:
    """One command line as it was received and how it ended; exit_code is None when the client never learned it."""

    machine: Machine
    user: str
    command_line: str
    executed: tuple[Executed, ...]
    exit_code: int | None


@dataclass(slots=True)
class SshHooks:
    """Where faults come in and where command lines are written down."""

    intercept: Callable[[Machine, str, str], Action | None] = lambda *_: None
    record: Callable[[SshRequest], None] = lambda _: None


def host_key(files: FileSystem) -> bytes:
    """The machine's private host key in OpenSSH's format; made, with its .pub, where there is none yet."""
    if not files.is_file(HOST_KEY):
        key = asyncssh.generate_private_key("ssh-ed25519")
        files.provide(HOST_KEY, key.export_private_key("openssh"), mode=0o600)
        files.provide(f"{HOST_KEY}.pub", key.export_public_key("openssh"))
    return files.read(HOST_KEY)


class SshServer:
    """Listens for one machine; `machine` is asked anew for each connection, so that it may be replaced."""

    def __init__(self, machine: Callable[[], Machine], hooks: SshHooks) -> None:
        self.machine = machine
        self.hooks = hooks
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.is_shut = False
        """Nobody is let in any more, also not who was being accepted at that moment."""
        self._running: set[asyncio.Task[None]] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def listen(self, private_key: bytes, address: str, port: int) -> None:
        """Accept connections under a host key. Raises OSError."""
        self.is_shut = False
        self._acceptor = await asyncssh.listen(
            address,
            port,
            server_factory=lambda: _Login(self),
            server_host_keys=[asyncssh.import_private_key(private_key)],
            session_factory=self._run,
            sftp_factory=lambda channel: FileAccess(channel, self.machine()),
            encoding=None,
            line_editor=False,
            agent_forwarding=False,
            x11_forwarding=False,
            gss_host=None,
            compression_algs=None,
            window=_WINDOW_BYTES,
            max_pktsize=_PACKET_BYTES,
            backlog=_WAITING_CONNECTIONS,
            reuse_address=True,
        )

    def cut(self) -> None:
        """In one moment stop listening and cut every connection, as a power cut does; commands that run are killed."""
        self.is_shut = True
        if self._acceptor:
            self._acceptor.close()
        for connection in list(self.connections):
            connection.abort()
        self.kill_commands()

    def kill_commands(self) -> None:
        """End every command that runs, those included whose clients have gone."""
        for command in list(self._running):
            command.cancel()

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        self.cut()
        acceptor, self._acceptor = self._acceptor, None
        if acceptor:
            await acceptor.wait_closed()

    async def _run(
        self,
        stdin: asyncssh.SSHReader[bytes],
        stdout: asyncssh.SSHWriter[bytes],
        stderr: asyncssh.SSHWriter[bytes],
    ) -> None:
        channel = stdout.channel
        user = str(stdout.get_extra_info("username"))
        connection = stdout.get_extra_info("connection")
        streams = ClientStreams(FromClient(stdin), ToClient(stdout), ToClient(stderr))
        has_terminal = isinstance(channel, asyncssh.SSHServerChannel) and channel.get_terminal_type() is not None
        if has_terminal:
            screen = TerminalOutput(streams.out)
            streams = ClientStreams(streams.stdin, screen, screen)
        command = _Command(self, user, channel.get_command() or "", connection.abort)
        command.has_terminal = has_terminal
        is_killed = await self._finish(command, streams, channel.wait_closed())
        if command.is_cut:
            command.cut()
        elif isinstance(channel, asyncssh.SSHServerChannel) and not channel.is_closing():
            if is_killed:
                channel.exit_with_signal("KILL")
            else:
                channel.exit(command.exit_code)

    async def _finish(self, command: _Command, streams: ClientStreams, closed: Coroutine[Any, Any, None]) -> bool:
        """Run a command to its end; was it killed? When its client goes, it goes on: its input ends, nobody reads on.

        A real sshd does no more either for a command without a terminal.
        """
        context = contextvars.copy_context()
        work = asyncio.get_running_loop().create_task(command.run(streams), context=context)
        self._running.add(work)
        work.add_done_callback(self._running.discard)
        gone = asyncio.create_task(closed)
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if command.hangs:
                work.cancel()
            if not work.done():
                context.run(in_background.set, True)
                await asyncio.wait((work,))
        finally:
            gone.cancel()
            work.cancel()
        if not work.cancelled():
            work.result()
        return work.cancelled()


class _Command:
    """One command line in execution; `abort` is the end of its client's connection."""

    def __init__(self, server: SshServer, user: str, text: str, abort: Callable[[], None]) -> None:
        self._hooks = server.hooks
        self._machine = server.machine()
        self._user = user
        self._text = text
        self._abort = abort
        self._action = UNTOUCHED
        self._is_over = False
        self.has_terminal = False
        self.exit_code = 255

    @property
    def is_cut(self) -> bool:
        """Does a fault cut the connection?"""
        return self._action.kind in ("reset", "reset-after", "drop")

    @property
    def hangs(self) -> bool:
        """Does a fault keep it from ever being run?"""
        return self._action.kind == "hang"

    def cut(self) -> None:
        """Cut the connection, once."""
        if not self._is_over:
            self._is_over = True
            self._action.when_cut()
            self._abort()

    async def run(self, streams: ClientStreams) -> None:
        """Run it, or what a fault puts in its place."""
        action = self._action = self._hooks.intercept(self._machine, self._user, self._text) or UNTOUCHED
        streams = cut_short(streams, self.cut) if action.kind == "drop" else streams
        held = Collected()
        out = held if action.kind in ("half", "altered") else streams.out
        is_conversation = self.has_terminal and not self._text
        stdin = Input() if is_conversation else streams.stdin
        shell = shell_for(self._machine, self._user, (stdin, out, streams.err))
        learned: int | None = None
        try:
            if action.delay_s:
                await self._machine.clock.sleep(action.delay_s)
            if action.kind == "hang":
                await asyncio.Event().wait()
            elif action.kind == "answer":
                self.exit_code = action.status
                await streams.err.write(action.reason.encode() + b"\n")
            elif action.kind != "reset":
                with progress.fated(action.fate):
                    if is_conversation:
                        self.exit_code = await Conversation(shell, streams.stdin, out).hold()
                    else:
                        self.exit_code = await shell.run_text(self._text or await _script(streams.stdin))
                if out is held:
                    await streams.out.write(action.altered(bytes(held.data)))
            learned = None if self.is_cut else self.exit_code
        except BrokenPipeError:
            learned = None
        finally:
            executed = tuple(shell.environment.executed)
            self._hooks.record(SshRequest(self._machine, self._user, self._text, executed, learned))


class _Login(asyncssh.SSHServer):
    """Decides who may log in."""

    def __init__(self, server: SshServer) -> None:
        self._server = server
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.connections.add(conn)
        if self._server.is_shut:
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._connection:
            self._server.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        del username
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        account = self._server.machine().accounts.get(username)
        return account is not None and _is_authorized(account, key)


def _is_authorized(account: Account, key: asyncssh.SSHKey) -> bool:
    offered = key.export_public_key("openssh").split()[1].decode()
    return any(offered in line.split() for line in account.authorized_keys)


async def _script(stdin: Input) -> str:
    """What a shell without a command line is told to do."""
    script = bytearray()
    while chunk := await stdin.chunk():
        script += chunk
    return script.decode()
