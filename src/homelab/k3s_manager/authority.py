"""How clusters are told apart: by their CA, as it is served and as it stands in tokens. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def hashes(pem: str) -> frozenset[str]:
    """What a token of the cluster with this CA may hold between K10 and the two colons; none for a text without CA.

    Of one certificate that is the SHA-256 of the text as it is served; of a bundle that of its root, which is any but
    the first. Source: k3s, pkg/clientaccess/token.go, hashCA.
    """
    found = _fingerprints(pem)
    if len(found) == 1:
        return frozenset({hashlib.sha256(pem.encode()).hexdigest()})
    return frozenset(found[1:])


def fingerprints(pem: str) -> frozenset[str]:
    """SHA-256 of each certificate, however its text is broken into lines: the same CA wherever it was copied from."""
    return frozenset(_fingerprints(pem))


def _fingerprints(pem: str) -> list[str]:
    try:
        return [hashlib.sha256(base64.b64decode(body)).hexdigest() for body in CERTIFICATE.findall(pem)]
    except binascii.Error:
        return []
