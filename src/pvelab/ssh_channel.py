"""The streams of a command that came over SSH, whole or cut short by a fault."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from errno import EPIPE

import asyncssh

from pvelab.machine import Input
from pvelab.shell.streams import Output

_READ_BYTES = 1 << 20


class FromClient(Input):
    """What the client sends, as it comes; the client waits while it is not read. With the client it ends."""

    def __init__(self, reader: asyncssh.SSHReader[bytes]) -> None:
        self._reader = reader

    async def chunk(self) -> bytes:
        """The next piece; empty at the end, and when the client is gone."""
        try:
            return await self._reader.read(_READ_BYTES)
        except asyncssh.Error:
            return b""


class ToClient:
    """Output to the client, which is waited for when it does not read."""

    def __init__(self, writer: asyncssh.SSHWriter[bytes]) -> None:
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """Send data. Raises BrokenPipeError when the client is gone."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except asyncssh.Error as lost:
            raise broken_pipe() from lost

    async def close(self) -> None:
        """The channel is closed by the exit status."""


@dataclass(frozen=True, slots=True)
class ClientStreams:
    """What a command reads and writes."""

    stdin: Input
    out: Output
    err: Output


def cut_short(whole: ClientStreams, cut: Callable[[], None]) -> ClientStreams:
    """Streams that end in the middle of the first piece read or written; `cut` ends the connection."""
    end = _End(cut)
    return ClientStreams(_ShortInput(whole.stdin, end), _ShortOutput(whole.out, end), _ShortOutput(whole.err, end))


def broken_pipe() -> BrokenPipeError:
    """What a write into a closed pipe gives."""
    return BrokenPipeError(EPIPE, os.strerror(EPIPE))


@dataclass(slots=True)
class _End:
    """The end of a connection, for all streams of a command."""

    cut: Callable[[], None]
    has_come: bool = False

    def come(self) -> None:
        self.has_come = True
        self.cut()


@dataclass(slots=True)
class _ShortInput(Input):
    """Half of the first piece; then, the connection being gone, the end."""

    whole: Input
    end: _End

    async def chunk(self) -> bytes:
        if self.end.has_come:
            return b""
        piece = await self.whole.chunk()
        self.end.come()
        return piece[: len(piece) // 2]


@dataclass(slots=True)
class _ShortOutput:
    """Half of the first piece; whoever writes more gets a broken pipe."""

    whole: Output
    end: _End

    async def write(self, data: bytes) -> None:
        if self.end.has_come:
            raise broken_pipe()
        if data:
            await self.whole.write(data[: len(data) // 2])
            self.end.come()

    async def close(self) -> None:
        await self.whole.close()
