"""What is packed into the exceptions of an HTTPS exchange: requests wraps urllib3, which wraps the socket's own."""

from __future__ import annotations

import ssl
from typing import Any

from homelab.proxmox.tls import AnotherCertificate, HandshakeFailed


def chain(error: BaseException) -> list[BaseException]:
    """An error, and inside it the next, down to the first."""
    found: list[BaseException] = []
    packed: Any = error
    while isinstance(packed, BaseException) and packed not in found:
        found.append(packed)
        inner = getattr(packed, "reason", None)
        first = packed.args[0] if packed.args else None
        last = packed.args[-1] if packed.args else None
        packed = next((one for one in (inner, first, last) if isinstance(one, BaseException)), packed.__cause__)
    return found


def innermost(error: BaseException) -> str:
    last = chain(error)[-1]
    return str(last) or type(last).__name__


def is_in_handshake(error: BaseException) -> bool:
    """Did TLS fail before anything was sent? Later the same errors leave open what became of the request."""
    return any(isinstance(one, HandshakeFailed) for one in chain(error))


def tls_reason(error: BaseException) -> str:
    for one in chain(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"certificate verify failed: {one.verify_message}"
    return innermost(error)


def another_certificate(error: BaseException) -> AnotherCertificate | None:
    """Was it shown where another one is known?"""
    return next((one for one in chain(error) if isinstance(one, AnotherCertificate)), None)


def not_connected(error: BaseException) -> str:
    """Why no connection came about; empty when one did."""
    from urllib3.exceptions import NameResolutionError, NewConnectionError

    for one in chain(error):
        if isinstance(one, NameResolutionError):
            return "its name is not known here"
        if isinstance(one, NewConnectionError):
            cause = one.__cause__
            return (cause.strerror or str(cause)).lower() if isinstance(cause, OSError) else str(one)
    return ""
