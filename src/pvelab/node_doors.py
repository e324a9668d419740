"""The doors of the Proxmox nodes: each has its API on 8006 and its SSH."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

from pvelab.certs import Issued
from pvelab.door import Door, Listener
from pvelab.http_api import ApiListener, serve_api
from pvelab.identity import Identity
from pvelab.network import API_PORT, SSH_PORT
from pvelab.sshd import SshHooks, SshServer
from pvelab.state import World


class NodeDoors:
    """Every door of the nodes of one spec; the world behind them may be replaced at any time."""

    def __init__(self, world: Callable[[], World], identity: Identity, folder: Path, hooks: SshHooks) -> None:
        self._world = world
        self._hooks = hooks
        self._identity = identity
        folder.mkdir(parents=True, exist_ok=True)
        self._own = {name: _context(issued, folder, name) for name, issued in identity.certificates.items()}
        self._foreign = {name: _context(issued, folder, f"{name}-foreign") for name, issued in identity.foreign.items()}
        for name, context in self._own.items():
            context.sni_callback = self._choose(name)
        self._strange: set[str] = set()
        self._listeners: dict[str, ApiListener] = {}
        self._ssh_servers: dict[str, SshServer] = {}
        self.api: dict[str, Door] = {}
        self.ssh: dict[str, Door] = {}

    def add(self, node: str, address: str) -> None:
        """Give a node its doors, closed for now."""
        self.api[node] = Door(address, API_PORT, lambda at, port: self._serve_api(node, at, port))
        self.ssh[node] = Door(address, SSH_PORT, lambda at, port: self._serve_ssh(node, at, port))

    async def open(self) -> None:
        """Open what is not open, under the nodes' own certificates."""
        for node in list(self._strange):
            self.show_foreign(node, False)
        for door in self._all():
            await door.open()

    async def close(self) -> None:
        """Close every door."""
        for door in self._all():
            await door.close()

    def cut(self, node: str) -> None:
        """Cut every connection to a node in one moment, as a power cut does; what runs over SSH is killed."""
        if node in self._listeners:
            self._listeners[node].drop()
        if node in self._ssh_servers:
            self._ssh_servers[node].cut()

    def kill_commands(self) -> None:
        """End every command that runs on a node, also where its client has gone."""
        for server in self._ssh_servers.values():
            server.kill_commands()

    def show_foreign(self, node: str, is_foreign: bool) -> None:
        """Have a node's API show a certificate of an authority that nobody trusts, or its own again."""
        (self._strange.add if is_foreign else self._strange.discard)(node)
        if self.api[node].is_open:
            self._listeners[node].drop()

    def _all(self) -> Iterable[Door]:
        return (*self.api.values(), *self.ssh.values())

    async def _serve_api(self, node: str, address: str, port: int) -> Listener:
        listener = self._listeners[node] = await serve_api(self._world, node, (address, port), self._own[node])
        return listener

    def _choose(self, node: str) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
        """Choose the certificate of each connection when it begins."""

        def choose(connection: ssl.SSLObject, _name: str | None, _own: ssl.SSLContext) -> None:
            if node in self._strange:
                connection.context = self._foreign[node]

        return choose

    async def _serve_ssh(self, node: str, address: str, port: int) -> Listener:
        server = self._ssh_servers[node] = SshServer(lambda: self._world().nodes[node], self._hooks)
        await server.listen(self._identity.host_keys[node].private_openssh, address, port)
        return server


def _context(issued: Issued, folder: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued.write(folder, name))
    return context
