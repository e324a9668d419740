"""HTTP as a guest does it: over the lab's real sockets, with the guest's own idea of localhost."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

from pvelab.guest import k3s_endpoint
from pvelab.network import K3S_PORT

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine

ETCD_PORTS = (2379, 2380)
"""Both want a certificate of whoever asks."""
_LOCAL = ("127.0.0.1", "localhost")
_PATIENCE_S = 5.0
"""Real seconds after which a server that does not answer is taken for hanging."""


class Trouble(Enum):
    """Why there was no answer."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    CERTIFICATE = "certificate"
    TIMEOUT = "timeout"
    PARTIAL = "partial"
    UNPROVEN = "unproven"


class NoAnswer(Exception):
    """A request that got no complete answer."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One GET or HEAD."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    verify: bool = True
    authority_pem: str = ""
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `url` is where it came from after redirects."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    url: str


async def fetch(guest: GuestMachine, inquiry: Inquiry) -> Answer:
    """Ask. Raises NoAnswer."""
    parts = urlsplit(inquiry.url)
    if parts.hostname in _LOCAL:
        return _ask_self(guest, inquiry)
    if not (parts.hostname or "").replace(".", "").isdigit():
        raise NoAnswer(Trouble.RESOLVE)
    wall = guest.wall(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    if wall:
        raise NoAnswer(Trouble.TIMEOUT if wall.is_silent else Trouble.CONNECT)
    if parts.port in ETCD_PORTS and guest.surroundings.clusters.has_etcd_at(parts.hostname or ""):
        raise NoAnswer(Trouble.UNPROVEN)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await _ask(inquiry)
    except TimeoutError as late:
        raise NoAnswer(Trouble.TIMEOUT) from late
    except aiohttp.ClientConnectorCertificateError as untrusted:
        raise NoAnswer(Trouble.CERTIFICATE) from untrusted
    except aiohttp.ClientConnectorError as refused:
        raise NoAnswer(Trouble.CONNECT) from refused
    except (aiohttp.ClientError, OSError) as broken:
        raise NoAnswer(Trouble.PARTIAL) from broken


async def _ask(inquiry: Inquiry) -> Answer:
    connector = aiohttp.TCPConnector(ssl=_trust(inquiry), force_close=True)
    headers = dict(inquiry.headers)
    if inquiry.user:
        headers["Authorization"] = f"Basic {base64.b64encode(inquiry.user.encode()).decode()}"
    async with (
        aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
        session.request(inquiry.method, inquiry.url, headers=headers, allow_redirects=inquiry.follow) as response,
    ):
        body = await response.read()
        return Answer(response.status, response.reason or "", dict(response.headers), body, str(response.url))


def _trust(inquiry: Inquiry) -> ssl.SSLContext | bool:
    if not inquiry.verify:
        return False
    return ssl.create_default_context(cadata=inquiry.authority_pem) if inquiry.authority_pem else True


def _ask_self(guest: GuestMachine, inquiry: Inquiry) -> Answer:
    parts = urlsplit(inquiry.url)
    endpoint = guest.surroundings.clusters.endpoints.get(guest.address)
    if endpoint is None or parts.port != K3S_PORT or parts.scheme != "https":
        raise NoAnswer(Trouble.CONNECT)
    if inquiry.verify and not inquiry.authority_pem:
        raise NoAnswer(Trouble.CERTIFICATE)
    asked = k3s_endpoint.Asked(parts.path, inquiry.user, inquiry.headers.get("Authorization", ""), is_local=True)
    reply = k3s_endpoint.answer(endpoint.cluster, asked)
    return Answer(reply.status, reply.reason, {"Content-Type": reply.kind}, reply.body, inquiry.url)
