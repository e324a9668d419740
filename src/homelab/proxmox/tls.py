"""Whom we believe to be a Proxmox node over TLS: a CA, or one certificate by its fingerprint."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

import certifi
from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import SSLError

UPLOAD_BLOCK_BYTES = 1 << 18
LOOK_TIMEOUT_S = 5.0


def authorities(ca_bundle: Path | None) -> ssl.SSLContext:
    """Trust in the given CA bundle only, else in the system's and the usual public ones.

    Shared by all nodes and kept until the bundle's content changes: loading it for each connection takes longer than
    a request. Raises OSError.
    """
    return _everybody() if ca_bundle is None else _only(ca_bundle, ca_bundle.read_bytes())


@cache
def _only(ca_bundle: Path, _content: bytes) -> ssl.SSLContext:
    return _not_strict(ssl.create_default_context(cafile=str(ca_bundle)))


def _not_strict(context: ssl.SSLContext) -> ssl.SSLContext:
    """Python 3.13 wants extensions that the CA of a Proxmox cluster, as `openssl req -x509` makes it, does not have."""
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


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


class Certificates(Protocol):
    """What a person trusts beside the CAs: a certificate for each address."""

    def fingerprint(self, host: str, port: int) -> str | None:
        """The one that is trusted at an address: SHA-256, 32 pairs with colons."""
        ...

    def meets_certificate(self, host: str, port: int, look: Callable[[], str]) -> bool:
        """Is the one of which `look` gives the fingerprint to be trusted from now on? It is asked about once."""
        ...


@dataclass(frozen=True, slots=True)
class TlsTrust:
    """`fingerprint` (PROXMOX_FINGERPRINT_n) is the only certificate that is believed, where it is given.

    Else one that `ca_bundle` (PROXMOX_CA_BUNDLE) or the usual CAs vouch for, or that is `learned` of the address.
    """

    ca_bundle: Path | None = None
    fingerprint: str | None = None
    learned: Certificates | None = None

    def expected(self, host: str, port: int) -> str | None:
        """The certificate that is known there, so that no CA need be loaded for it."""
        return self.fingerprint or (self.learned.fingerprint(host, port) if self.learned else None)

    def context(self, host: str, port: int) -> ssl.SSLContext:
        """Raises OSError where the CA bundle cannot be read."""
        return _anybody() if self.expected(host, port) else authorities(self.ca_bundle)


def fingerprint_of(certificate: bytes) -> str:
    """SHA-256 of a certificate (DER) as Proxmox shows it: upper-case pairs with colons."""
    return hashlib.sha256(certificate).digest().hex(":").upper()


class HandshakeFailed(SSLError):
    """TLS came to nothing while connecting, so that no request was sent."""


class AnotherCertificate(ssl.SSLError):
    """The fingerprint that is shown is not the one that is known; `is_pinned`: by .env."""

    def __init__(self, shown: str, known: str, *, is_pinned: bool) -> None:
        super().__init__("certificate verify failed: not the pinned fingerprint")
        self.shown = shown
        self.known = known
        self.is_pinned = is_pinned


class _Connection(HTTPSConnection):
    """Believes whom its `trust` says, before anything is sent.

    Tells TLS trouble of connecting from that of a later exchange, for which urllib3 has the same error.
    """

    trust = TlsTrust()

    def connect(self) -> None:
        try:
            self._connect()
        except (ssl.SSLError, SSLError) as error:
            raise HandshakeFailed(error) from error

    def _connect(self) -> None:
        host, port = self.host, self.port or 0
        known = self.trust.expected(host, port)
        if known is None:
            return self._connect_by_authorities(host, port)
        shown = self._shown()
        if shown == known:
            self.is_verified = True
            return None
        self.close()
        another = AnotherCertificate(shown, known, is_pinned=self.trust.fingerprint is not None)
        if another.is_pinned:
            raise another
        try:
            self._connect_believing(authorities(self.trust.ca_bundle))
        except (OSError, SSLError) as error:
            raise another from error

    def _connect_by_authorities(self, host: str, port: int) -> None:
        """Where they do not vouch for it, a person may."""
        try:
            self._connect_believing(authorities(self.trust.ca_bundle))
        except ssl.SSLCertVerificationError:
            self.close()
            learned = self.trust.learned
            if learned is None or not learned.meets_certificate(host, port, lambda: shown_at(host, port)):
                raise
            self._connect()

    def _connect_believing(self, context: ssl.SSLContext) -> None:
        self.ssl_context, self.cert_reqs = context, context.verify_mode
        super().connect()

    def _shown(self) -> str:
        """The fingerprint of whatever certificate is shown."""
        self._connect_believing(_anybody())
        return fingerprint_of(_der(cast(ssl.SSLSocket, self.sock)))


class TrustAdapter(HTTPAdapter):
    """Lets our TlsTrust decide instead of `verify`."""

    def __init__(self, trust: TlsTrust) -> None:
        self._trust = trust
        super().__init__(pool_maxsize=16)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        kwargs["blocksize"] = UPLOAD_BLOCK_BYTES
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        connection = type("Connection", (_Connection,), {"trust": self._trust})
        pool = type("Pool", (HTTPSConnectionPool,), {"ConnectionCls": connection})
        self.poolmanager.pool_classes_by_scheme = {"https": pool}

    def build_connection_pool_key_attributes(
        self, request: PreparedRequest, verify: bool | str, cert: Any = None
    ) -> tuple[Any, Any]:
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {"ssl_context": self._trust.context(host["host"], host["port"] or 0)}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing to add: the TLS context already says whom to believe."""


def shown_at(host: str, port: int) -> str:
    """The fingerprint of the certificate that whoever is at an address shows; nothing is sent. Raises OSError."""
    return _handshake(host, port, _anybody())


def trouble_by_authorities(host: str, port: int, ca_bundle: Path | None) -> str:
    """Why the CAs do not vouch for whoever is at an address; empty where they do. Raises OSError."""
    try:
        _handshake(host, port, authorities(ca_bundle))
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    return ""


def is_signed_by(authority_pem: str, host: str, port: int) -> bool:
    """Does this CA vouch for whoever is at an address? Nobody there counts as no."""
    context = _not_strict(ssl.create_default_context(cadata=authority_pem))
    try:
        _handshake(host, port, context)
    except OSError:
        return False
    return True


def _handshake(host: str, port: int, context: ssl.SSLContext) -> str:
    with (
        socket.create_connection((host, port), LOOK_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        return fingerprint_of(_der(secured))


def _der(secured: ssl.SSLSocket) -> bytes:
    """Every TLS server has a certificate."""
    return secured.getpeercert(binary_form=True) or b""
