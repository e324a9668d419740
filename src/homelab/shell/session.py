"""One SSH connection to one machine: commands with a deadline, both outputs drained, drops told from refusals."""

from __future__ import annotations

import logging
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from homelab.errors import TimedOut, Undecided, Unreachable
from homelab.shell.client_config import HostOptions
from homelab.shell.login import HANDSHAKE_TIMEOUT_S, LOOK_AT_SSHD, log_in
from homelab.shell.machine import Machine
from homelab.shell.presented import Presented, look
from homelab.shell.trust import ShownKey, Trust, UnknownHostKey

if TYPE_CHECKING:
    import paramiko

logger = logging.getLogger(__name__)

SESSIONS_AT_ONCE = 8
"""Below the MaxSessions 10 of an OpenSSH server."""
CHUNK_BYTES = 1 << 18
KILLED = range(129, 193)
"""Exit codes of commands that a signal (1 to 64) ended."""


class Readable(Protocol):
    """Something that gives bytes piece by piece, empty at its end."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. Texts are UTF-8 with replacements; `raw_stdout` is what came."""

    exit_code: int
    stdout: str
    stderr: str
    raw_stdout: bytes = b""

    @property
    def is_inconclusive(self) -> bool:
        """Did it fail by a signal, or without a word? Then nobody can say how far it came.

        A shell, and sudo, give the number of a signal on top of 128; what a program itself refuses it explains.
        """
        return self.exit_code in KILLED or (self.exit_code != 0 and not self.stderr.strip())


Meet = Callable[[ShownKey], bool]
"""Is a host key that nobody has vouched for to be believed from now on?"""


class Shell:
    """One machine to run commands on; connects at the first command and again after a drop. Thread-safe."""

    def __init__(
        self,
        options: Callable[[], HostOptions],
        machine: Machine,
        trust: Trust | None = None,
        meet: Meet = lambda _: False,
    ) -> None:
        """`options` is asked at each connect; without `trust` its known_hosts decides, then `meet`."""
        self.machine = machine
        self.where = machine.where
        self._options = options
        self._trust = trust
        self._meet = meet
        self._connection: tuple[paramiko.SSHClient, paramiko.Transport] | None = None
        self._lock = threading.Lock()
        self._sessions = threading.BoundedSemaphore(SESSIONS_AT_ONCE)

    @property
    def login(self) -> str:
        """The command by which a person logs in there."""
        return self.machine.login

    def run(
        self, command: Sequence[str] | str, *, stdin: bytes | Readable | None = None, timeout_s: float = 30
    ) -> Result:
        """Run a command; a list is quoted word by word, a text is read by the remote shell. Any exit code is a Result.

        Raises Unreachable when it certainly did not run, Undecided when the connection ended before its exit code,
        TimedOut after timeout_s of real time (it may still be running there).
        """
        line = command if isinstance(command, str) else shlex.join(command)
        logger.debug("%s: %s", self.where, line)
        deadline = time.monotonic() + timeout_s
        with self._sessions:
            channel = self._open()
            try:
                return _Run(channel, self.where, deadline).execute(line, stdin)
            finally:
                close(channel)

    def connect(self) -> None:
        """Log in now, if not logged in; raises Unreachable with the reason."""
        self._transport()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection[0].close()
                self._connection = None

    def _open(self) -> paramiko.Channel:
        """A session on the connection; a connection found dead is replaced once, since nothing was sent on it."""
        import paramiko

        transport, is_reused = self._transport()
        try:
            return transport.open_session(timeout=HANDSHAKE_TIMEOUT_S)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if is_reused and not isinstance(error, paramiko.ChannelException):
                transport.close()
                return self._open()
            raise Unreachable(f"SSH to {self.where}", f"no session could be opened: {error}", LOOK_AT_SSHD) from error

    def _transport(self) -> tuple[paramiko.Transport, bool]:
        """The live connection, made if need be; whether it was there before."""
        with self._lock:
            if self._connection is not None:
                client, transport = self._connection
                if transport.is_active():
                    return transport, True
                client.close()
            self._connection = None
            self._connection = self._logged_in()
            return self._connection[1], False

    def _logged_in(self) -> tuple[paramiko.SSHClient, paramiko.Transport]:
        """Whoever is asked about a key may take his time: nothing is connected meanwhile."""
        try:
            return log_in(self._options(), self.machine, self._trust)
        except UnknownHostKey as unknown:
            if unknown.shown is None or not self._meet(unknown.shown):
                raise
        return log_in(self._options(), self.machine, self._trust)

    def presented(self, kinds: Sequence[str] = ()) -> Presented:
        """The host key that the machine shows, of one of these kinds if it has one; nobody logs in.

        Raises Unreachable.
        """
        return look(self._options(), self.machine, kinds)


def close(channel: paramiko.Channel) -> None:
    """Paramiko tells the other side, which raises where the connection has gone already."""
    with suppress(OSError, EOFError):
        channel.close()


class _EventBefore(threading.Event):
    """An event that is waited for until a deadline (time.monotonic), then raises TimeoutError."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def wait(self, timeout: float | None = None) -> bool:
        if not super().wait(self._deadline - time.monotonic() if timeout is None else timeout):
            raise TimeoutError
        return True


class _Run:
    """One command on its channel."""

    def __init__(self, channel: paramiko.Channel, where: str, deadline: float) -> None:
        self._channel = channel
        self._where = where
        self._deadline = deadline
        self._stderr = bytearray()

    def execute(self, line: str, stdin: bytes | Readable | None) -> Result:
        import paramiko

        try:
            self._start(line)
            if stdin is None:
                self._end_input()
            else:
                source = BytesIO(stdin) if isinstance(stdin, bytes) else stdin
                threading.Thread(target=self._feed, args=(source,), daemon=True).start()
            return self._ended(self._drain())
        except (paramiko.SSHException, EOFError, OSError) as error:
            if time.monotonic() < self._deadline:
                raise self._dropped(str(error) or type(error).__name__) from error
            what = f"{self._where}: {' '.join(line.split()[:2])} ..."
            raise TimedOut(what, "no end within its time", "see what it is doing on that machine") from error

    def _start(self, line: str) -> None:
        """Paramiko waits for the server's word that the command has begun without any limit; its event gets one."""
        self._channel.event = _EventBefore(self._deadline)
        self._channel.exec_command(line)

    def _end_input(self) -> None:
        """Say that no input follows.

        Paramiko's own shutdown_write sends outside the channel's lock: when the command ends at that moment, the word
        comes after our close, and the server drops the whole connection for it.
        """
        channel: Any = self._channel
        with channel.lock:
            message = channel._send_eof()
            if message is not None:
                channel.transport._send_user_message(message)

    def _ended(self, stdout: bytes) -> Result:
        if not self._channel.status_event.wait(self._left_s()):
            raise TimeoutError
        code = self._channel.exit_status
        if code < 0:
            raise self._dropped("it ended without an exit code")
        return Result(code, stdout.decode(errors="replace"), self._stderr.decode(errors="replace"), stdout)

    def _dropped(self, why: str) -> Undecided:
        return Undecided(f"SSH to {self._where}", f"the connection ended before the command did: {why}", LOOK_AT_SSHD)

    def _left_s(self) -> float:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def _drain(self) -> bytes:
        """Read both outputs side by side, or one of them would fill its window and stall the command."""
        channel, arrived, stdout = self._channel, threading.Event(), bytearray()
        channel.in_buffer.set_event(arrived)
        channel.in_stderr_buffer.set_event(arrived)
        while True:
            left_s = self._left_s()
            is_last = channel.eof_received or channel.closed
            if channel.recv_ready():
                stdout += channel.recv(CHUNK_BYTES)
            elif channel.recv_stderr_ready():
                self._stderr += channel.recv_stderr(CHUNK_BYTES)
            elif is_last:
                return bytes(stdout)
            else:
                arrived.wait(left_s)

    def _feed(self, source: Readable) -> None:
        """Send the input beside reading the output; a command that ends without reading it is no error here."""
        try:
            while chunk := source.read(CHUNK_BYTES):
                self._channel.sendall(chunk)
            self._end_input()
        except (OSError, EOFError) as error:
            logger.debug("%s: input not taken: %s", self._where, error)
            close(self._channel)
