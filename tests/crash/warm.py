"""A process with the tool loaded and one thread: every run is a fork of it, which a SIGKILL ends as it would any run.

Started as `python -m crash.warm FD`. Over the socket FD it takes one order a line, answers with the process id of the
run, lets it go at the next line, and answers with its exit code (negative: the signal that ended it).
"""

from __future__ import annotations

import gc
import importlib
import json
import mmap
import os
import pkgutil
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from support.names import numbers_only

LOADED = (
    "paramiko",
    "proxmoxer.backends.https",
    "requests",
    "requests_toolbelt",
    "rich.table",
    "tenacity",
    "yaml",
    "filelock",
)
FACE = struct.Struct("d")
SHORTEST_S = 1.0
DEFECT = 70
"""The exit code of a run that ended in a traceback."""


@dataclass(frozen=True, slots=True)
class Order:
    """A run: `command` is main or delete_vm. Of every second that it would wait for the network, `patience` pass."""

    command: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    out: str
    err: str
    clock: str
    patience: float = 1.0

    def as_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self)) + "\n"


def face_of(path: str, now: float | None = None) -> mmap.mmap:
    """The time that the clock behind the socket shows, in memory that processes share; set to `now` at first."""
    face = Path(f"{path}.face")
    if now is not None:
        face.write_bytes(FACE.pack(now))
    with face.open("r+b") as file:
        return mmap.mmap(file.fileno(), FACE.size)


class RemoteClock:
    """The clock of the process that has the lab. Each thread sleeps over a connection of its own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._face = face_of(path)
        self._own = threading.local()

    def now(self) -> float:
        """Unix time in seconds."""
        return float(FACE.unpack_from(self._face)[0])

    def sleep(self, seconds: float) -> None:
        """Let lab time pass; raises ValueError where time.sleep would."""
        if seconds < 0:
            raise ValueError("time does not go back")
        if not hasattr(self._own, "file"):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(self._path)
            self._own.file = connection.makefile("rw")
        self._own.file.write(f"{seconds!r}\n")
        self._own.file.flush()
        if not self._own.file.readline():
            raise ConnectionError("the lab lets no more time pass")


def main(descriptor: int) -> None:
    """Take orders until the other end is closed."""
    _load()
    is_practised = False
    with socket.socket(fileno=descriptor) as channel, channel.makefile("rw") as lines:
        print("ready", file=lines, flush=True)
        while line := lines.readline():
            order = Order(**json.loads(line))
            if not is_practised:
                _practise(order)
                is_practised = True
            pid, let_go = _fork(order)
            print("pid", pid, file=lines, flush=True)
            lines.readline()
            os.write(let_go, b"go")
            os.close(let_go)
            _, status = os.waitpid(pid, 0)
            print("ended", os.waitstatus_to_exitcode(status), file=lines, flush=True)


def _load() -> None:
    import homelab

    names = [module.name for module in pkgutil.walk_packages(homelab.__path__, "homelab.")]
    for name in (*LOADED, *names):
        importlib.import_module(name)


def _practise(order: Order) -> None:
    """Read a run's settings once: every fork then has the patterns compiled that each run begins with."""
    from homelab import cli, config
    from homelab.settings import Via

    cli.parse_arguments([])
    with mock.patch.dict(os.environ, order.environment, clear=True):
        config.load(Path(order.arguments[order.arguments.index("--env") + 1]), Via.AUTO)
    _settle()


def _settle() -> None:
    """No rounds of the garbage collector in a run, which is short: each would have the fork copy what it visits."""
    gc.collect()
    gc.disable()


def _fork(order: Order) -> tuple[int, int]:
    """The process id of the run, and what to write to for it to begin."""
    waits, let_go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(let_go)
        os.read(waits, 2)
        os._exit(_run(order))
    os.close(waits)
    return pid, let_go


def _run(order: Order) -> int:
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.folder)
    for descriptor, path in ((1, order.out), (2, order.err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    sys.stdout, sys.stderr = (open(descriptor, "w", encoding="utf-8") for descriptor in (1, 2))  # noqa: SIM115, PTH123
    sys.argv = [order.command]
    _resolve_numbers_only()
    if order.patience < 1.0:
        _be_impatient(order.patience)
    try:
        code = _command(order.command)(order.arguments, clock=RemoteClock(order.clock))
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        code = DEFECT
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _command(name: str) -> Callable[..., int]:
    from homelab.commands import delete_vm
    from homelab.main import main as homelab_main

    return {"main": homelab_main, "delete_vm": delete_vm.main}[name]


def _resolve_numbers_only() -> None:
    """No name resolves, and that at once: runs do not depend on somebody's name server."""
    socket.getaddrinfo = numbers_only(socket.getaddrinfo)


def _be_impatient(patience: float) -> None:
    """Where a run waits for the network in real time, it waits a part of it."""
    from requests.adapters import HTTPAdapter

    from homelab.shell import Shell

    send, run = HTTPAdapter.send, Shell.run

    def send_soon(adapter: Any, *words: Any, **options: Any) -> Any:
        connect_s, read_s = options["timeout"]
        return send(adapter, *words, **{**options, "timeout": (connect_s, max(SHORTEST_S, read_s * patience))})

    def run_soon(shell: Any, command: Any, *, stdin: Any = None, timeout_s: float = 30) -> Any:
        return run(shell, command, stdin=stdin, timeout_s=max(SHORTEST_S, timeout_s * patience))

    mock.patch.object(HTTPAdapter, "send", send_soon).start()
    mock.patch.object(Shell, "run", run_soon).start()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(int(sys.argv[1]))
