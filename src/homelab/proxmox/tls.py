"""Whom we believe to be a Proxmox node over TLS: a CA, or one certificate by its fingerprint."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import certifi
from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import SSLError

UPLOAD_BLOCK_BYTES = 1 << 18


def authorities(ca_bundle: Path | None) -> ssl.SSLContext:
    """Trust in the given CA bundle only, else in the system's and the usual public ones.

    Shared by all nodes and kept until the bundle's content changes: loading it for each connection takes longer than
    a request. Raises OSError.
    """
    return _everybody() if ca_bundle is None else _only(ca_bundle, ca_bundle.read_bytes())


@cache
def _only(ca_bundle: Path, _content: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_bundle))


@cache
def _everybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@cache
def _anybody() -> ssl.SSLContext:
    """For a pinned certificate: its fingerprint decides, so neither issuer nor name do."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True, slots=True)
class TlsTrust:
    """PROXMOX_FINGERPRINT_n (SHA-256 in hex, colons or not) if given, else PROXMOX_CA_BUNDLE or the usual CAs."""

    ca_bundle: Path | None = None
    fingerprint: str | None = None

    def context(self) -> ssl.SSLContext:
        return _anybody() if self.fingerprint else authorities(self.ca_bundle)


class HandshakeFailed(SSLError):
    """TLS came to nothing while connecting, so that no request was sent."""


class _Connection(HTTPSConnection):
    """Tells TLS trouble of connecting from that of a later exchange, for which urllib3 has the same error."""

    def connect(self) -> None:
        try:
            super().connect()
        except (ssl.SSLError, SSLError) as error:
            raise HandshakeFailed(error) from error


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


class TrustAdapter(HTTPAdapter):
    """Lets our TlsTrust decide instead of `verify`."""

    def __init__(self, trust: TlsTrust) -> None:
        self._trust = trust
        super().__init__(pool_maxsize=16)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        kwargs["blocksize"] = UPLOAD_BLOCK_BYTES
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"https": _Pool}

    def build_connection_pool_key_attributes(
        self, request: PreparedRequest, verify: bool | str, cert: Any = None
    ) -> tuple[Any, Any]:
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        pool: dict[str, Any] = {"ssl_context": self._trust.context()}
        if self._trust.fingerprint:
            pool["assert_fingerprint"] = self._trust.fingerprint
        return host, pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing to add: the TLS context already says whom to believe."""
