"""A TCP load balancer before k3s servers: each connection goes, as it is, to a server that answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from pvelab.network import K3S_PORT

_CHUNK_BYTES = 1 << 16


@dataclass(slots=True, eq=False)
class Forwarder:
    """Listens until it is closed; `choose` names the server for the next connection, None if there is none."""

    choose: Callable[[], str | None]
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def listen(self, address: str, port: int) -> None:
        """Begin. Raises OSError when the address is taken."""
        self._server = await asyncio.start_server(self._accept, address, port)

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await self._forward(reader, writer)
        finally:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chosen = self.choose()
        if chosen is None:
            return
        try:
            answers, asks = await asyncio.open_connection(chosen, K3S_PORT)
        except OSError:
            return
        try:
            await asyncio.gather(_pump(reader, asks), _pump(answers, writer))
        finally:
            asks.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
