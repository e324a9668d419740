"""A signature is good when the pinned key made it over exactly these bytes. The network of certifications is not asked.

Ubuntu's key certifies itself by SHA-1, of 2009, which strict libraries refuse. What is believed here is the
fingerprint; the certification only tells when a key ends, and the signature over the list has to be a strong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

from homelab.errors import HomelabError
from homelab.runtime import day_of
from homelab.settings import SigningKey

if TYPE_CHECKING:
    from openpgp.composed import DetachedSignature, SignedPublicKey, SignedPublicSubKey
    from openpgp.packet import Signature

UBUNTU_FINGERPRINT = "D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81"
"""UEC Image Automatic Signing Key <cdimage@ubuntu.com>, which signs the SHA256SUMS on cloud-images.ubuntu.com."""
STRONG_HASHES = frozenset({"sha256", "sha384", "sha512", "sha3-256", "sha3-512"})
BEGIN_ARMOR = "-----BEGIN PGP "
UNREADABLE = "what is between its first and last line cannot be read as one"
GRAFTED = "it holds a name or a subkey that the key itself does not certify"
KEY_CURE = "compare IMAGE_SIGNING_KEY and IMAGE_SIGNING_FINGERPRINT with what gpg --show-keys prints of that file"
RENEW_CURE = "get the publisher's present key; for Ubuntu's images, leave IMAGE_SIGNING_KEY out"
FORGED_CURE = (
    "use nothing from that server until it is clear why; set ISO_URL to the publisher's own address, "
    "or run again in some minutes if the image is being published just now"
)


class BadSignature(HomelabError):
    """The list of checksums cannot be believed."""


class DoesNotFit(BadSignature):
    """The signature is not one of this list, or not by this key."""


def ubuntu_key() -> SigningKey:
    """The key that comes with homelab."""
    file = resources.files("homelab.image_manager").joinpath("ubuntu-cloudimage-key.asc")
    return SigningKey(file.read_text(encoding="ascii"), UBUNTU_FINGERPRINT)


def check(content: bytes, signature: bytes, key: SigningKey, now: float) -> int:
    """When the content was signed by the key, in Unix seconds. `now` too. Raises BadSignature."""
    public = _public_key(key)
    _check_lasting(f"the key {key.fingerprint} of the image's checksums", public, now)
    made = _signatures(signature)
    good = next((one for one in made if _fits(one, public, content)), None)
    if good is None:
        raise DoesNotFit("the signature of the image's checksums is not good", _why(made, public), FORGED_CURE)
    _check_strength(good.signature, now)
    for subkey in (one for one in public.public_subkeys if _is_named(one.key.fingerprint, good.signature)):
        _check_subkey(subkey, now)
    return good.signature.created() or 0


def _public_key(key: SigningKey) -> SignedPublicKey:
    """The key in the file that has the pinned fingerprint."""
    from openpgp.composed import SignedPublicKey

    try:
        found = SignedPublicKey.from_armor_many(key.armored)[0]
    except ValueError as error:
        raise BadSignature("IMAGE_SIGNING_KEY holds no OpenPGP public key", UNREADABLE, KEY_CURE) from error
    for public in found:
        if public.fingerprint.upper() == key.fingerprint:
            try:
                public.verify_bindings()
            except ValueError as error:
                raise BadSignature("IMAGE_SIGNING_KEY cannot be believed", GRAFTED, KEY_CURE) from error
            return public
    held = ", ".join(public.fingerprint.upper() for public in found)
    raise BadSignature("IMAGE_SIGNING_KEY holds another key", f"{held}, not {key.fingerprint}", KEY_CURE)


def _check_lasting(title: str, public: SignedPublicKey, now: float) -> None:
    """Raises BadSignature for a key that was revoked or has expired, by the newest of its own certifications."""
    details = public.details
    if details.revocation_signatures:
        raise BadSignature(title, "it was revoked: its owner does not stand by it any more", RENEW_CURE)
    certified = [*details.direct_signatures, *(one for user in details.users for one in user.signatures)]
    own = [one for one in certified if _is_named(public.fingerprint, one)]
    newest = max(own, key=lambda one: one.created() or 0, default=None)
    _check_end(title, public.created_at, newest, now)


def _check_subkey(subkey: SignedPublicSubKey, now: float) -> None:
    title = f"the key {subkey.key.fingerprint.upper()} of the image's checksums"
    if any(one.typ() == "subkey-revocation" for one in subkey.signatures):
        raise BadSignature(title, "it was revoked: its owner does not stand by it any more", RENEW_CURE)
    newest = max(subkey.signatures, key=lambda one: one.created() or 0)
    _check_end(title, subkey.key.created_at, newest, now)


def _check_end(title: str, created_at: int, certification: Signature | None, now: float) -> None:
    lasts_s = certification.key_expiration_time() if certification else None
    if lasts_s and created_at + lasts_s < now:
        raise BadSignature(title, f"it expired on {day_of(created_at + lasts_s)}", RENEW_CURE)


def _check_strength(signature: Signature, now: float) -> None:
    title = "the signature of the image's checksums is not good"
    if signature.hash_alg() not in STRONG_HASHES:
        raise BadSignature(title, f"it is made by {signature.hash_alg()}, which can be forged", FORGED_CURE)
    lasts_s = signature.signature_expiration_time()
    if lasts_s and (signature.created() or 0) + lasts_s < now:
        raise BadSignature(title, "it has expired", FORGED_CURE)


def _signatures(signature: bytes) -> Sequence[DetachedSignature]:
    from openpgp.composed import DetachedSignature

    text = signature.decode("ascii", "replace")
    try:
        if text.lstrip().startswith(BEGIN_ARMOR):
            return DetachedSignature.from_armor_many(text)[0]
        return DetachedSignature.from_bytes_many(signature)
    except ValueError:
        return ()


def _fits(made: DetachedSignature, public: SignedPublicKey, content: bytes) -> bool:
    try:
        made.verify(public, content)
    except ValueError:
        return False
    return made.signature.typ() == "binary"


def _why(made: Sequence[DetachedSignature], public: SignedPublicKey) -> str:
    if not made:
        return "that file holds no OpenPGP signature"
    keys = [public.fingerprint, *(subkey.key.fingerprint for subkey in public.public_subkeys)]
    if any(_is_named(key, one.signature) for one in made for key in keys):
        return "the list or the signature was altered after it was signed"
    signers = {
        name.upper() for one in made for name in (one.signature.issuer_fingerprint() or one.signature.issuer_key_id())
    }
    return f"it is by the key {', '.join(sorted(signers)) or 'of nobody'}, not by {public.fingerprint.upper()}"


def _is_named(fingerprint: str, signature: Signature) -> bool:
    """Does a signature say that this key made it?"""
    return fingerprint in signature.issuer_fingerprint() or fingerprint[-16:] in signature.issuer_key_id()
