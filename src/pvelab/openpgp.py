"""OpenPGP keys and detached signatures as version 4 of the format has them (RFC 4880), by RSA.

Written here and not taken from a library, so that the lab's signatures have the times that the lab wants and share no
misreading with what checks them. Like the key of Ubuntu's cloud images, a key certifies itself by SHA-1 and without an
issuer's fingerprint, and its signatures are over SHA-512.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

_PUBLIC_KEY, _USER_ID, _SIGNATURE = 6, 13, 2
_RSA, _RSA_BITS, _RSA_EXPONENT = 1, 2048, 65_537
_BINARY, _POSITIVE_CERTIFICATION, _KEY_REVOCATION = 0x00, 0x13, 0x20
_SHA1, _SHA512 = 2, 10
_HASHES: dict[int, hashes.HashAlgorithm] = {_SHA1: hashes.SHA1(), _SHA512: hashes.SHA512()}
_CREATED, _EXPIRES, _KEY_EXPIRES, _ISSUER, _KEY_FLAGS, _ISSUER_FINGERPRINT = 2, 3, 9, 16, 27, 33
_MAY_CERTIFY_AND_SIGN = 0x03


def _new_secret() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair with one user id. Times are Unix seconds; `lasts_s` None: it never expires."""

    user_id: str
    created_at: int
    lasts_s: int | None = None
    revoked_at: int | None = None
    _secret: rsa.RSAPrivateKey = field(default_factory=_new_secret, repr=False)

    @property
    def fingerprint(self) -> str:
        """As gpg shows it, without blanks."""
        return hashlib.sha1(_key_prefixed(self._body)).hexdigest().upper()

    @property
    def armored(self) -> str:
        """The public key as a file."""
        revocation = b"" if self.revoked_at is None else _packet(_SIGNATURE, self._revocation(self.revoked_at))
        user_id = _packet(_USER_ID, self.user_id.encode())
        key = _packet(_PUBLIC_KEY, self._body) + revocation + user_id + _packet(_SIGNATURE, self._certification())
        return _armored("PUBLIC KEY BLOCK", key)

    def sign(self, content: bytes, at: int, *, lasts_s: int | None = None, is_weak: bool = False) -> str:
        """A detached signature of the content, armored; a weak one is over SHA-1."""
        hashed = _subpacket(_CREATED, struct.pack(">I", at))
        hashed += _subpacket(_ISSUER_FINGERPRINT, b"\x04" + bytes.fromhex(self.fingerprint))
        if lasts_s is not None:
            hashed += _subpacket(_EXPIRES, struct.pack(">I", lasts_s))
        made = self._signature(_BINARY, _SHA1 if is_weak else _SHA512, hashed, content)
        return _armored("SIGNATURE", _packet(_SIGNATURE, made))

    @property
    def _body(self) -> bytes:
        numbers = self._secret.public_key().public_numbers()
        return struct.pack(">BIB", 4, self.created_at, _RSA) + _integer(numbers.n) + _integer(numbers.e)

    def _certification(self) -> bytes:
        hashed = _subpacket(_CREATED, struct.pack(">I", self.created_at))
        hashed += _subpacket(_KEY_FLAGS, bytes([_MAY_CERTIFY_AND_SIGN]))
        if self.lasts_s is not None:
            hashed += _subpacket(_KEY_EXPIRES, struct.pack(">I", self.lasts_s))
        user_id = self.user_id.encode()
        content = _key_prefixed(self._body) + struct.pack(">BI", 0xB4, len(user_id)) + user_id
        return self._signature(_POSITIVE_CERTIFICATION, _SHA1, hashed, content)

    def _revocation(self, at: int) -> bytes:
        hashed = _subpacket(_CREATED, struct.pack(">I", at))
        return self._signature(_KEY_REVOCATION, _SHA512, hashed, _key_prefixed(self._body))

    def _signature(self, kind: int, algorithm: int, hashed: bytes, content: bytes) -> bytes:
        head = struct.pack(">BBBBH", 4, kind, _RSA, algorithm, len(hashed)) + hashed
        method = _HASHES[algorithm]
        digest = hashlib.new(method.name, content + head + struct.pack(">BBI", 4, 0xFF, len(head))).digest()
        signed = self._secret.sign(digest, padding.PKCS1v15(), Prehashed(method))
        unhashed = _subpacket(_ISSUER, bytes.fromhex(self.fingerprint)[-8:])
        number = _integer(int.from_bytes(signed, "big"))
        return head + struct.pack(">H", len(unhashed)) + unhashed + digest[:2] + number


def _key_prefixed(body: bytes) -> bytes:
    """A public key as it is hashed."""
    return struct.pack(">BH", 0x99, len(body)) + body


def _packet(tag: int, body: bytes) -> bytes:
    return struct.pack(">BBI", 0xC0 | tag, 0xFF, len(body)) + body


def _subpacket(kind: int, content: bytes) -> bytes:
    return bytes([len(content) + 1, kind]) + content


def _integer(number: int) -> bytes:
    """A multiprecision integer: its length in bits, then its bytes without leading zeros."""
    return struct.pack(">H", number.bit_length()) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _armored(kind: str, content: bytes) -> str:
    text = base64.b64encode(content).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    check = "=" + base64.b64encode(_crc24(content).to_bytes(3, "big")).decode()
    return "\n".join([f"-----BEGIN PGP {kind}-----", "", *lines, check, f"-----END PGP {kind}-----", ""])


def _crc24(content: bytes) -> int:
    crc = 0xB704CE
    for byte in content:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc & 0xFFFFFF
