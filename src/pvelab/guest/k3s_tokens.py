"""Join tokens of k3s: how they are read, what they prove, and the short-lived ones made by `k3s token create`."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from enum import Enum

_PREFIX = "K10"
_HASH_LENGTH = 64
_BOOTSTRAP = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class TokenProblem(Exception):
    """A token that cannot even be read, in k3s's words."""


class Role(Enum):
    """What the supervisor takes the bearer of a token for."""

    SERVER = "server"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart; without a CA hash the cluster is taken on trust."""

    ca_hash: str
    username: str
    password: str

    @property
    def is_bootstrap(self) -> bool:
        """Made by `k3s token create`."""
        return not self.username and bool(_BOOTSTRAP.fullmatch(self.password))


def parse_token(text: str) -> Token:
    """Take a token apart. Raises TokenProblem."""
    if not text:
        raise TokenProblem("token must not be empty")
    if not text.startswith(_PREFIX):
        text = f"{_PREFIX}::{text}" if _BOOTSTRAP.fullmatch(text) else f"{_PREFIX}:::{text}"
    ca_hash, separator, credentials = text.removeprefix(_PREFIX).partition("::")
    if not separator:
        ca_hash, credentials = "", ca_hash
    if len(ca_hash) not in (0, _HASH_LENGTH):
        raise TokenProblem("invalid token CA hash length")
    if _BOOTSTRAP.fullmatch(credentials):
        return Token(ca_hash, "", credentials)
    username, _, password = credentials.partition(":")
    if not password:
        raise TokenProblem("invalid token format")
    return Token(ca_hash, username, password)


def ca_hash(certificate_pem: bytes) -> str:
    """What stands between K10 and the two colons, for a self-signed cluster CA."""
    return hashlib.sha256(certificate_pem).hexdigest()


@dataclass(slots=True)
class BootstrapToken:
    """A token for agents with an end (Unix time); 0: never."""

    id: str
    secret: str
    description: str
    created_at: float
    expires_at: float


@dataclass(slots=True)
class Tokens:
    """What a cluster accepts."""

    ca_hash: str
    server_password: str = field(default_factory=lambda: secrets.token_hex(16))
    agent_password: str = ""
    bootstrap: dict[str, BootstrapToken] = field(default_factory=dict)

    @property
    def server_token(self) -> str:
        """The content of server/token: joins servers and agents."""
        return f"{_PREFIX}{self.ca_hash}::server:{self.server_password}"

    @property
    def agent_token(self) -> str:
        """The content of server/agent-token: the server token unless one was set for agents."""
        return f"{_PREFIX}{self.ca_hash}::node:{self.agent_password}" if self.agent_password else self.server_token

    def full(self, credentials: str) -> str:
        """A token with its CA hash."""
        return f"{_PREFIX}{self.ca_hash}::{credentials}"

    def create(self, ttl_s: float, description: str, now: float) -> BootstrapToken:
        """Make a token for agents that ends after ttl_s; 0: never."""
        made = BootstrapToken(_word(6), _word(16), description, now, now + ttl_s if ttl_s else 0)
        self.bootstrap[made.id] = made
        return made

    def role_of(self, token: Token, now: float) -> Role | None:
        """What the token's bearer may be; None: nobody (401)."""
        if token.is_bootstrap:
            found = self.bootstrap.get(token.password[:6])
            is_valid = found and token.password[7:] == found.secret and not 0 < found.expires_at <= now
            return Role.AGENT if is_valid else None
        if token.password == self.server_password:
            return Role.SERVER
        return Role.AGENT if self.agent_password and token.password == self.agent_password else None

    def tidy(self, now: float) -> None:
        """Drop what has ended, as the token cleaner does."""
        for token in list(self.bootstrap.values()):
            if 0 < token.expires_at <= now:
                del self.bootstrap[token.id]


def _word(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
