"""What can be wrong with the image server: the faults `image-broken`, `sums-broken` and `image-renewed`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pvelab.catalogue import UnknownChoice
from pvelab.identity import IMAGE_KEY_MADE_AT, new_image_key
from pvelab.openpgp import SigningKey
from pvelab.qcow2 import qcow2_image
from pvelab.sources import IMAGE_FOLDER, SIGNATURE_PATH, SUMS_PATH, Damage
from pvelab.spec import DAY_S, IMAGE_BYTES

if TYPE_CHECKING:
    from pvelab.site import Site

Choice = TypeVar("Choice")

DAMAGES = {
    "truncated": Damage.TRUNCATED,
    "wrong-checksum": Damage.WRONG_CONTENT,
    "missing": Damage.MISSING,
    "web-page": Damage.WEB_PAGE,
    "installer": Damage.INSTALLER,
    "cut-once": Damage.CUT_ONCE,
    "stalled": Damage.STALLED,
}


def image_broken(site: Site, how: str) -> None:
    """The image server sends half an image, another image, or 404.

    how is one of: truncated (cut at its middle, each time), cut-once, stalled (silent from its middle on),
    wrong-checksum, missing, web-page (with status 200), installer (an ISO file under the image's name).
    """
    _damage(site, f"{IMAGE_FOLDER}/{site.spec.image_name}", _chosen(how, DAMAGES))


def sums_broken(site: Site, how: str) -> None:
    """The list of checksums beside the image, or its signature, cannot be trusted.

    how is one of: missing, unsigned, altered (a checksum in the list), garbled (the signature), web-page (in the place
    of the signature), other-key (signed by a key that is not in the .env), expired-key and revoked-key (the key's file
    says so), weak (signed over SHA-1), expired (the signature itself), unlisted (signed, and without the image).
    """
    _chosen(how, _SUMS_FAULTS)(site)


def image_renewed(site: Site, days: int = 30) -> None:
    """The image is replaced by a build that is so many days newer, with its own signed checksums."""
    newer = qcow2_image(IMAGE_BYTES, seed=days)
    built_at = site.image_built_at + days * DAY_S
    site.sources.publish_image(site.spec.image_name, newer, site.image_key, built_at)
    site.repairs.append(site.publish_image)


def _damage(site: Site, path: str, damage: Damage) -> None:
    site.sources.damaged[path] = damage
    site.repairs.append(site.sources.damaged.clear)


def _withdraw(site: Site, path: str) -> None:
    _damage(site, path, Damage.MISSING)


def _publish(site: Site, path: str, content: bytes) -> None:
    site.sources.publish(path, content)
    site.repairs.append(site.publish_image)


def _alter(site: Site) -> None:
    sums = site.sources.content(SUMS_PATH)
    _publish(site, SUMS_PATH, (b"0" if sums[:1] != b"0" else b"1") + sums[1:])


def _garble(site: Site) -> None:
    lines = site.sources.content(SIGNATURE_PATH).decode().splitlines()
    middle = lines[len(lines) // 2]
    lines[len(lines) // 2] = middle.swapcase()
    _publish(site, SIGNATURE_PATH, ("\n".join(lines) + "\n").encode())


def _sign_by(site: Site, key: SigningKey, sums: bytes | None = None) -> None:
    content = site.sources.content(SUMS_PATH) if sums is None else sums
    _publish(site, SUMS_PATH, content)
    _publish(site, SIGNATURE_PATH, key.sign(content, int(site.image_built_at)).encode())


def _sign_as(site: Site, *, lasts_s: int | None = None, is_weak: bool = False) -> None:
    """The list is signed by the right key, in another way."""
    sums, at = site.sources.content(SUMS_PATH), int(site.image_built_at)
    _publish(site, SIGNATURE_PATH, site.image_key.sign(sums, at, lasts_s=lasts_s, is_weak=is_weak).encode())


def _show(site: Site, key: SigningKey) -> None:
    """The file of the key that the .env names is this one."""
    site.papers.image_key_path.write_text(key.armored)
    site.repairs.append(site.publish_image)


_SUMS_FAULTS: dict[str, Callable[[Site], None]] = {
    "missing": lambda site: _withdraw(site, SUMS_PATH),
    "unsigned": lambda site: _withdraw(site, SIGNATURE_PATH),
    "altered": _alter,
    "garbled": _garble,
    "web-page": lambda site: _damage(site, SIGNATURE_PATH, Damage.WEB_PAGE),
    "other-key": lambda site: _sign_by(site, new_image_key()),
    "expired-key": lambda site: _show(site, replace(site.image_key, lasts_s=DAY_S)),
    "revoked-key": lambda site: _show(site, replace(site.image_key, revoked_at=IMAGE_KEY_MADE_AT + DAY_S)),
    "weak": lambda site: _sign_as(site, is_weak=True),
    "expired": lambda site: _sign_as(site, lasts_s=DAY_S),
    "unlisted": lambda site: _sign_by(site, site.image_key, f"{'0' * 64} *another.img\n".encode()),
}


def _chosen(how: str, choices: dict[str, Choice]) -> Choice:
    if how not in choices:
        raise UnknownChoice(f"how={how}: give {', '.join(choices)}")
    return choices[how]
