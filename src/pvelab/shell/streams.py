"""What commands read from and write to: files, pipes, bytes in memory, nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from pvelab.machine import Input
from pvelab.shell.contents import Content
from pvelab.shell.files import Writer

PIPE_BYTES = 1 << 20


class Output(Protocol):
    """Where a command's output goes."""

    async def write(self, data: bytes) -> None:
        """Take data, waiting while there is no room. Raises OSError (no space left, broken pipe)."""
        ...

    async def close(self) -> None:
        """No more is coming."""
        ...


Stream = Input | Output


class Nothing(Input):
    """/dev/null."""

    async def write(self, data: bytes) -> None:
        """Take data and forget it."""

    async def close(self) -> None:
        """Nothing to end."""


class Given(Input):
    """Bytes known beforehand."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def chunk(self) -> bytes:
        """All of it, then the end."""
        data, self._data = self._data, b""
        return data


class Prefixed(Input):
    """Input some of which was taken and given back."""

    def __init__(self, taken: bytes, rest: Input) -> None:
        self._taken = taken
        self._rest = rest

    async def chunk(self) -> bytes:
        """What was given back, then the rest."""
        if self._taken:
            taken, self._taken = self._taken, b""
            return taken
        return await self._rest.chunk()


class FromContent(Input):
    """The content of a file."""

    def __init__(self, content: Content) -> None:
        self._chunks: Iterator[bytes] = content.chunks()

    async def chunk(self) -> bytes:
        """The next piece of the file; others run in between."""
        await asyncio.sleep(0)
        return next(self._chunks, b"")


class Collected:
    """Output kept in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, data: bytes) -> None:
        """Keep data."""
        self.data += data

    async def close(self) -> None:
        """Nothing to end."""


class ToFile:
    """Output into a file of the machine."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """Write data; others run in between."""
        self._writer.write(data)
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Make what was written the file's content."""
        self._writer.close()


class Pipe(Input):
    """One command's output as the next one's input."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._held_bytes = 0
        self._changed = asyncio.Condition()
        self._is_written = False
        self._is_abandoned = False

    async def write(self, data: bytes) -> None:
        """Pass data on. Raises BrokenPipeError when nobody reads any more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._is_abandoned or self._held_bytes < PIPE_BYTES)
            if self._is_abandoned:
                raise BrokenPipeError
            self._chunks.append(data)
            self._held_bytes += len(data)
            self._changed.notify_all()

    async def close(self) -> None:
        """The writer has ended."""
        async with self._changed:
            self._is_written = True
            self._changed.notify_all()

    async def abandon(self) -> None:
        """The reader has ended."""
        async with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()

    async def chunk(self) -> bytes:
        """The next piece, waiting for it."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._chunks) or self._is_written)
            if not self._chunks:
                return b""
            data = self._chunks.popleft()
            self._held_bytes -= len(data)
            self._changed.notify_all()
            return data


class Zeros(Input):
    """/dev/zero."""

    async def chunk(self) -> bytes:
        """Zeros, without end."""
        await asyncio.sleep(0)
        return bytes(65536)


DEVICES: dict[str, Callable[[], Nothing | Zeros]] = {"/dev/null": Nothing, "/dev/zero": Zeros}
