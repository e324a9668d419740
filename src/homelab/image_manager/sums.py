"""The list of checksums beside an image, and who vouches for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from homelab import download
from homelab.errors import HomelabError
from homelab.image_manager import signature
from homelab.image_manager.signature import DoesNotFit
from homelab.runtime import Clock
from homelab.settings import ImageConfig

NAME = "SHA256SUMS"
SIGNATURE_ENDING = ".gpg"
GNU_LINE = re.compile(r"(?P<sum>[0-9a-fA-F]{64})[ \t]+[*]?(?:\./)?(?P<name>\S+)")
BSD_LINE = re.compile(r"SHA256 ?\((?P<name>[^)]+)\) ?= ?(?P<sum>[0-9a-fA-F]{64})")
VOUCH = "set IMAGE_SHA256 to the image's checksum, or IMAGE_UNVERIFIED=1 to use it unchecked"
UNSIGNED = (
    "set IMAGE_SIGNING_KEY and IMAGE_SIGNING_FINGERPRINT to the publisher's, or IMAGE_SHA256SUMS_URL to its list "
    f"by https; or {VOUCH}"
)
ANOTHER_LOOK_S = 5.0


@dataclass(frozen=True, slots=True)
class Published:
    """The checksum that the image must have, and since when there is this image, in Unix seconds; None: not known."""

    sha256: str
    at: float | None = None


def published(image: ImageConfig, clock: Clock, attempts: int = download.ATTEMPTS) -> Published:
    """What the list says of the image, once it is known who says it. Raises HomelabError.

    Without IMAGE_SHA256SUMS_URL the list is the SHA256SUMS beside the image, and has to be signed by IMAGE_SIGNING_KEY
    or else Ubuntu's key. A list of one's own choice without a key is believed as its https server is.
    """
    url = image.sums_url or f"{image.url.rpartition('/')[0]}/{NAME}"
    if image.sums_url and image.signing_key is None:
        found = _fetched(url, VOUCH, clock, attempts)
        return Published(_listed(image, url, found.content), found.modified_at)
    try:
        return _signed(image, url, clock, attempts)
    except DoesNotFit:
        # the two files are replaced one after the other when a new image is published
        clock.sleep(ANOTHER_LOOK_S)
        return _signed(image, url, clock, attempts)


def _signed(image: ImageConfig, url: str, clock: Clock, attempts: int) -> Published:
    sums = _fetched(url, VOUCH, clock, attempts).content
    made = _fetched(url + SIGNATURE_ENDING, UNSIGNED, clock, attempts).content
    signed_at = signature.check(sums, made, image.signing_key or signature.ubuntu_key(), clock.now())
    return Published(_listed(image, url, sums), signed_at)


def _fetched(url: str, instead: str, clock: Clock, attempts: int) -> download.Small:
    try:
        return download.fetch_small(url, clock=clock, attempts=attempts)
    except download.NotFetched as error:
        raise HomelabError(error.what, error.why, f"{error.cure}; or {instead}") from error


def _listed(image: ImageConfig, url: str, sums: bytes) -> str:
    """The checksum in the line of the image's file name, in the form of sha256sum or of BSD."""
    name = image.url.rpartition("/")[2]
    for line in sums.decode("utf-8", "replace").splitlines():
        found = GNU_LINE.fullmatch(line.strip()) or BSD_LINE.fullmatch(line.strip())
        if found and found["name"] == name:
            return found["sum"].lower()
    raise HomelabError(f"no checksum for {name}", f"it is not listed in {url}", VOUCH)
