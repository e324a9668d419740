"""What every join of a run needs, read from a live server and from where k3s is installed from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from homelab.errors import HomelabError, NodeFailed
from homelab.k3s_manager import authority, tokens
from homelab.k3s_manager.answers import parse_version
from homelab.k3s_manager.script import InstallScript
from homelab.k3s_manager.server import K3sServer
from homelab.k3s_manager.servers import Servers
from homelab.k3s_manager.tokens import Tokens
from homelab.kubernetes import url_at
from homelab.settings import K3sConfig, Role, Secret


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a machine is told to join; read once.

    `server_url` is that of the server which gave them, or the VIP; `authorities` are the fingerprints of the CA.
    """

    tokens: Tokens
    version: str
    script: str
    shared_flags: dict[str, object]
    server_url: str
    authorities: frozenset[str]


@dataclass(slots=True)
class CredentialsReader:
    """Reads once and fails once. `hide` is told every token that is read."""

    config: K3sConfig
    servers: Servers
    script: InstallScript
    hide: Callable[[Secret], None]
    _read: Credentials | HomelabError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> Credentials:
        """Raises when a new machine could not join."""
        with self._lock:
            if self._read is None:
                try:
                    self.servers.check_agreement()
                    self._read = self.servers.ask(self._from)
                except HomelabError as error:
                    self._read = error
            if isinstance(self._read, HomelabError):
                raise self._read
            return self._read

    @contextmanager
    def token_for(self, name: str, role: Role) -> Iterator[Secret]:
        """The token for one join: a server's is the cluster's; an agent's ends with the join where k3s allows that."""
        read = self.read()
        if role is Role.SERVER:
            yield read.tokens.server
            return
        if parse_version(read.version) < tokens.BOOTSTRAP_FROM:
            yield read.tokens.agent
            return
        made = self.servers.ask(lambda server: tokens.create(server, name, read.tokens, self.hide))
        try:
            yield made
        finally:
            self.end_token_of(name)

    def end_token_of(self, name: str) -> None:
        """Take an agent's own token back, as far as a server answers; it ends by itself some minutes later."""
        with suppress(HomelabError):
            self.servers.ask(lambda server: tokens.discard(server, name))

    def _from(self, server: K3sServer) -> Credentials:
        authority_pem = server.authority_pem()
        return Credentials(
            tokens.read(server, authority_pem, self.hide),
            self._version(server),
            self.script.text(),
            self._shared_flags(server),
            self.config.server_url or url_at(server.address),
            authority.fingerprints(authority_pem),
        )

    def _shared_flags(self, server: K3sServer) -> dict[str, object]:
        found = server.shared_flags()
        for secret in (value for value in found.values() if isinstance(value, Secret)):
            self.hide(secret)
        return found

    def _version(self, server: K3sServer) -> str:
        """The lowest version among the servers; K3S_VERSION may be older, never newer."""
        versions = [node.version for node in server.nodes() if node.is_server]
        if not versions:
            raise NodeFailed(
                "no k3s server is listed", f"{server.where} shows no control-plane Node", "kubectl get nodes"
            )
        lowest = min(versions, key=parse_version)
        wanted = self.config.version
        if wanted and parse_version(wanted) > parse_version(lowest):
            raise NodeFailed(
                f"K3S_VERSION={wanted} is newer than the cluster",
                f"the servers run {lowest}, and a newer member would not work with them",
                f"set K3S_VERSION to {lowest} or remove it, or upgrade the servers first",
            )
        return wanted or lowest
