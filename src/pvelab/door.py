"""One listening address of the lab: open, closed (connections are refused), or hanging (connections time out)."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

_FILLERS = 3
"""More than the queue of a socket with no backlog takes; after that the kernel drops what comes."""


class Listener(Protocol):
    """A server that listens until it is closed."""

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        ...


@dataclass(slots=True, eq=False)
class Door:
    """An address and port, and how to begin to serve there."""

    address: str
    port: int
    serve: Callable[[str, int], Awaitable[Listener]]
    _listener: Listener | None = None
    _stuck: list[socket.socket] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Served as it should be."""
        return self._listener is not None

    async def open(self) -> None:
        """Serve, if it is not being served already. Raises OSError when the address is taken."""
        self._let_go()
        if self._listener is None:
            self._listener = await self.serve(self.address, self.port)

    async def close(self) -> None:
        """Refuse connections."""
        self._let_go()
        if self._listener is not None:
            listener, self._listener = self._listener, None
            await listener.close()

    async def hang(self) -> None:
        """Leave connections without an answer: their handshake never ends."""
        await self.close()
        listening = socket.socket()
        self._stuck.append(listening)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((self.address, self.port))
        listening.listen(0)
        for _ in range(_FILLERS):
            filler = socket.socket()
            self._stuck.append(filler)
            filler.setblocking(False)
            filler.connect_ex((self.address, self.port))

    def _let_go(self) -> None:
        for one in self._stuck:
            one.close()
        self._stuck.clear()
