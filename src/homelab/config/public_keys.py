"""OpenSSH public keys for the guests, checked before a VM is made that nobody can log in to."""

from __future__ import annotations

import base64
import binascii

from homelab.config.values import BadValue

DEFAULT_FILES = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")

_WANTED = "the path of an OpenSSH public key file, such as ~/.ssh/id_ed25519.pub"
_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


def public_keys(text: str) -> str:
    """The keys of a public key file, one a line, comments and blank lines left out."""
    if "PRIVATE KEY" in text or text.startswith("PuTTY-User-Key-File"):
        raise BadValue("the file is a private key, which must never leave this machine", _WANTED)
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise BadValue("the file holds no key", _WANTED)
    if not all(_is_public_key(key) for key in keys):
        raise BadValue("the file is not an OpenSSH public key file", _WANTED)
    return "\n".join(keys)


def _is_public_key(line: str) -> bool:
    """Whether a line is `[options] type base64 [comment]`, and the base64 says the same type."""
    words = line.split()
    position = next((at for at, word in enumerate(words) if word in _TYPES), None)
    if position is None or position + 1 == len(words):
        return False
    try:
        blob = base64.b64decode(words[position + 1], validate=True)
    except (binascii.Error, ValueError):
        return False
    name = words[position].encode()
    return blob.startswith(len(name).to_bytes(4, "big") + name) and len(blob) > len(name) + 4
