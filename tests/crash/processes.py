"""Runs of the tool as processes of their own, with the lab's clock, to be killed at any moment."""

from __future__ import annotations

import os
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from crash.warm import FACE, Order, face_of
from support.clock import SteppingClock

SOURCES = Path(__file__).resolve().parents[2] / "src"
TESTS = Path(__file__).resolve().parents[1]
KILLED = -signal.SIGKILL
LONGEST_S = 120.0
"""Real seconds after which a run is ended that does not end."""
LONGEST_LAB_S = 14 * 86_400.0
"""Lab seconds after which a run is ended that does not end."""


class Endless(AssertionError):
    """A run did not end."""


class OutOfStep(Exception):
    """What the warm process says is not what is due."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that ended: its exit code (KILLED if it was killed), what it said, the lab seconds that it took."""

    exit_code: int
    out: str
    err: str
    lab_s: float

    @property
    def text(self) -> str:
        """Both outputs."""
        return self.out + self.err


class ClockServer:
    """Lets runs in other processes read a clock, in a file beside the socket, and move it.

    Made before anything else that listens to the clock, so that nobody sees an old time.
    """

    def __init__(self, clock: SteppingClock, path: Path) -> None:
        self.path = str(path)
        self._face = face_of(self.path, clock.now())
        clock.subscribe(lambda: FACE.pack_into(self._face, 0, clock.now()))
        self.latest = float("inf")
        """The lab time at which nobody waits any more."""
        served = self

        class Serve(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with suppress(ConnectionError):
                    for line in self.rfile:
                        if clock.now() >= served.latest:
                            served.is_late.set()
                            return
                        clock.advance(float(line))
                        self.wfile.write(b"\n")

        self.is_late = threading.Event()
        self._server = socketserver.ThreadingUnixStreamServer(self.path, Serve)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 5}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more connections."""
        self._server.server_close()
        Path(self.path).unlink(missing_ok=True)


class Tool:
    """Starts one run of the tool at a time, each a fork of a warm process."""

    def __init__(self, clock: SteppingClock, folder: Path) -> None:
        self.folder = folder
        self._clock = clock
        self._clock_server = ClockServer(clock, folder / "clock")
        own, other = socket.socketpair()
        self._process = _start_warm(other)
        other.close()
        self._channel = own
        self._lines: TextIO = own.makefile("rw")
        self._run: int | None = None
        """The run that goes on, as a file descriptor: a process id may be another's by the time it is used."""
        self._lock = threading.Lock()
        self._hear("ready")

    def close(self) -> None:
        """End the warm process."""
        self._lines.close()
        self._channel.close()
        self._process.wait(timeout=10)
        self._clock_server.close()

    def run(self, command: str, arguments: tuple[str, ...], home: Path, patience: float = 1.0) -> Ended:
        """Run a command to its end, or until `kill`. Raises Endless."""
        out, err = self.folder / "out", self.folder / "err"
        began_at = self._clock.now()
        self._clock_server.latest = began_at + LONGEST_LAB_S
        order = Order(
            command,
            arguments,
            _environment(home),
            str(home),
            str(out),
            str(err),
            self._clock_server.path,
            patience,
        )
        self._say(order.as_line())
        self._run = os.pidfd_open(int(self._hear("pid")))
        self._say("go\n")
        is_over = bool(select.select([self._channel], [], [], LONGEST_S)[0])
        if not is_over:
            self.kill()
        exit_code = int(self._hear("ended"))
        with self._lock:
            os.close(self._run)
            self._run = None
        self._check(is_over, f"{command} {' '.join(arguments)}")
        return Ended(exit_code, _text(out), _text(err), self._clock.now() - began_at)

    def kill(self) -> None:
        """End the run at once, as the kernel does, if one goes on; from any thread."""
        with self._lock, suppress(ProcessLookupError):
            if self._run is not None:
                signal.pidfd_send_signal(self._run, signal.SIGKILL)

    def _check(self, is_over: bool, what: str) -> None:
        if not is_over:
            raise Endless(f"{what}: still going on after {LONGEST_S:g} s")
        if self._clock_server.is_late.is_set():
            self._clock_server.is_late.clear()
            raise Endless(f"{what}: still going on after {LONGEST_LAB_S:g} s of lab time")

    def _say(self, line: str) -> None:
        self._lines.write(line)
        self._lines.flush()

    def _hear(self, what: str) -> str:
        """What is said of a matter; anything else is a mistake of ours."""
        matter, _, said = self._lines.readline().strip().partition(" ")
        if matter != what:
            raise OutOfStep(f"the warm process says {matter or 'nothing'} where {what} is due")
        return said


def _start_warm(channel: socket.socket) -> subprocess.Popen[bytes]:
    path = os.pathsep.join((str(SOURCES), str(TESTS)))
    return subprocess.Popen(
        [sys.executable, "-m", "crash.warm", str(channel.fileno())],
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"},
        pass_fds=(channel.fileno(),),
    )


def _environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", "XDG_STATE_HOME": str(home / "state")}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
