"""The numbered streams of a shell, and their redirection into files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from errno import EBADF
from typing import TYPE_CHECKING, cast

from pvelab.machine import Input, Process
from pvelab.shell.entries import error
from pvelab.shell.streams import DEVICES, FromContent, Given, Nothing, Output, Stream, ToFile

if TYPE_CHECKING:
    from pvelab.shell.environment import Environment
    from pvelab.shell.interpreter import Shell
    from pvelab.shell.syntax import Redirection


class Streams:
    """What the numbers 0, 1, 2 ... stand for in one shell."""

    def __init__(self, stdin: Input, out: Output, err: Output) -> None:
        self._numbered: dict[int, Stream] = {0: stdin, 1: out, 2: err}
        self._opened: list[Output] = []
        self.background: list[asyncio.Task[int]] = []

    def copy(self) -> Streams:
        """The same streams, to be redirected apart."""
        made = Streams(Nothing(), Nothing(), Nothing())
        made._numbered = dict(self._numbered)
        made.background = self.background
        return made

    def put(self, number: int, stream: Stream) -> None:
        """Let a number stand for a stream."""
        self._numbered[number] = stream

    def source(self) -> Input:
        """What commands read; nothing if 0 is closed."""
        stream = self._numbered.get(0)
        return stream if isinstance(stream, Input) else Nothing()

    def output(self, number: int) -> Output:
        """Where output of this number goes. Raises OSError (bad file descriptor)."""
        stream = self._numbered.get(number)
        if not hasattr(stream, "write"):
            raise error(EBADF, str(number))
        return cast(Output, stream)

    async def write(self, number: int, data: bytes) -> None:
        """Write to a numbered stream."""
        await self.output(number).write(data)

    def connect(self, process: Process) -> None:
        """Give a process these streams as its input, `out` and `err`."""
        process.stdin = self.source()
        out, err = self._numbered.get(1), self._numbered.get(2)
        if out is err:
            process.err = process.out

        async def flush() -> None:
            for number, buffer in ((1, process.out), (2, process.err)):
                if buffer:
                    data = bytes(buffer)
                    buffer.clear()
                    await self.output(number).write(data)

        process.flush = flush

    async def redirect(self, one: Redirection, target: str, environment: Environment) -> str:
        """Carry out one redirection; the path of the file it writes to, if any. Raises OSError."""
        if one.operator == "<<":
            self.put(one.number, Given(target.encode()))
        elif one.operator in (">&", "<&"):
            self._duplicate(one.number, target)
        elif one.operator == "<":
            self.put(one.number, self.open_input(environment, target))
        else:
            return self._open_output(environment, one, target)
        return ""

    def open_input(self, environment: Environment, name: str) -> Input:
        """A file or device to read."""
        path = environment.path(name)
        if path == "/dev/stdin":
            return self.source()
        if path in DEVICES:
            return DEVICES[path]()
        return FromContent(environment.machine.files.content(path, environment.user))

    def _open_output(self, environment: Environment, one: Redirection, name: str) -> str:
        path = environment.path(name)
        if path in ("/dev/stdout", "/dev/stderr"):
            self._duplicate(one.number, "1" if path == "/dev/stdout" else "2")
            return ""
        if path in DEVICES:
            self.put(one.number, Nothing())
            return ""
        mode, appends = 0o666 & ~environment.umask, one.operator == ">>"
        opened = ToFile(environment.machine.files.open_writer(path, environment.user, mode=mode, append=appends))
        self._opened.append(opened)
        self.put(one.number, opened)
        return path

    def _duplicate(self, number: int, target: str) -> None:
        if target == "-":
            self._numbered.pop(number, None)
        elif not target.isdigit() or int(target) not in self._numbered:
            raise error(EBADF, target)
        else:
            self._numbered[number] = self._numbered[int(target)]

    async def close(self) -> None:
        """Close the files opened here."""
        opened, self._opened = self._opened, []
        for output in opened:
            await output.close()


@asynccontextmanager
async def redirected(
    shell: Shell, redirections: tuple[Redirection, ...]
) -> AsyncIterator[tuple[Streams, tuple[str, ...]]]:
    """The shell's streams with redirections, and the files they write to; the files are closed at the end."""
    if not redirections:
        yield shell.streams, ()
        return
    streams = shell.streams.copy()
    writes: list[str] = []
    try:
        for one in redirections:
            target = await shell.expander.text(one.target)
            try:
                path = await streams.redirect(one, target, shell.environment)
            except OSError as failed:
                verb = "open" if one.operator.startswith("<") else "create"
                raise RedirectionFailed(f"cannot {verb} {target}: {_reason(failed, verb)}") from failed
            writes += [path] if path else []
        yield streams, tuple(writes)
    finally:
        await streams.close()


class RedirectionFailed(Exception):
    """A redirection could not be made; the command does not run."""


def _reason(failed: OSError, verb: str) -> str:
    if isinstance(failed, FileNotFoundError):
        return "No such file" if verb == "open" else "Directory nonexistent"
    return failed.strerror or str(failed)
