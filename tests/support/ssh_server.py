"""A small SSH server on loopback whose commands are Python functions: for tests of the wires."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

Handler = Callable[["asyncssh.SSHServerProcess[bytes]"], Awaitable[None]]


@dataclass
class SshServer:
    """Where the server is, what it was asked, and the keys that fit it."""

    port: int = 0
    commands: list[str] = field(default_factory=list)
    logins: int = 0
    host_key: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    @property
    def known_hosts_line(self) -> str:
        return f"[127.0.0.1]:{self.port} {self.host_key_line}\n"

    @property
    def host_key_line(self) -> str:
        kind, text = self.host_key.export_public_key().decode().split()[:2]
        return f"{kind} {text}"

    def drop_all(self) -> None:
        """Cut every connection without a word."""
        for connection in list(self.connections):
            self.loop.call_soon_threadsafe(connection.abort)


@contextmanager
def ssh_server(client_key: Path, handler: Handler, refuses: str = "", more_keys: str = "") -> Iterator[SshServer]:
    """Serve until the block ends; `client_key` is written and is the only one that may log in.

    `more_keys` is the type of another host key that it has.
    `refuses` is `session` or `exec`: what the server does not let a logged-in client do.
    """
    server = SshServer()
    host_keys = [server.host_key, *([asyncssh.generate_private_key(more_keys)] if more_keys else [])]
    key = asyncssh.generate_private_key("ssh-ed25519")
    client_key.write_bytes(key.export_private_key())
    client_key.chmod(0o600)
    authorized = asyncssh.import_authorized_keys(key.export_public_key().decode())

    class Connection(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            server.logins += 1
            server.connections.append(conn)

        def session_requested(self) -> asyncssh.SSHServerSession[bytes] | bool:
            return Deaf() if refuses == "exec" else False

    class Deaf(asyncssh.SSHServerSession[bytes]):
        """A session in which nothing may be run."""

    async def process(process: asyncssh.SSHServerProcess[bytes]) -> None:
        server.commands.append(process.command or "")
        await handler(process)

    async def serve() -> asyncssh.SSHAcceptor:
        return await asyncssh.create_server(
            Connection,
            "127.0.0.1",
            0,
            server_host_keys=host_keys,
            authorized_client_keys=authorized,
            process_factory=None if refuses else process,
            encoding=None,
        )

    thread = threading.Thread(target=server.loop.run_forever, daemon=True)
    thread.start()
    acceptor = asyncio.run_coroutine_threadsafe(serve(), server.loop).result(5)
    server.port = acceptor.get_port()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_stop(acceptor, server), server.loop).result(5)
        server.loop.call_soon_threadsafe(server.loop.stop)
        thread.join(5)
        server.loop.close()


async def _stop(acceptor: asyncssh.SSHAcceptor, server: SshServer) -> None:
    acceptor.close()
    for connection in server.connections:
        connection.abort()
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
