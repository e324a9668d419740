"""One text from `.env` -> one value, or BadValue with the reason and what is wanted instead.

No reason ever repeats the text: it may be a secret that stands under the wrong key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from homelab.settings import ApiToken, Secret

Member = TypeVar("Member", bound=Enum)

MIB = 1024**2
SMALLEST_DISK_BYTES = 4 * 1024**3
LONGEST_WAIT_S = 86_400

_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")
_UNIT_BYTES = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_DECIMAL = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_DISK_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([KMGT]?)", re.IGNORECASE)
_STORAGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]")
_BRIDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_TOKEN = re.compile(
    r"(?P<user>[!-~]+?@[A-Za-z][A-Za-z0-9._-]*)!(?P<token_id>[A-Za-z][A-Za-z0-9._-]*)=(?P<secret>[!-~]+)",
)
_MOST_NICS = 32


class BadValue(ValueError):
    """A text that cannot be used: `why` it cannot, and what is `wanted`. Neither contains the text."""

    def __init__(self, why: str, wanted: str) -> None:
        super().__init__(why)
        self.why = why
        self.wanted = wanted


def boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in _YES:
        return True
    if lowered in _NO:
        return False
    raise BadValue("it is neither yes nor no", "1 or 0 (true/false, yes/no and on/off will do as well)")


def ratio(text: str) -> float:
    """A share of a host: greater than 0, at most 1."""
    wanted = "a fraction greater than 0 and at most 1, such as 0.5"
    if not _DECIMAL.fullmatch(text):
        raise BadValue("it is not a plain number", wanted)
    share = float(text)
    if not 0 < share <= 1:
        raise BadValue("it is not greater than 0 and at most 1", wanted)
    return share


def seconds(text: str) -> float:
    wanted = "a number of seconds, such as 180"
    number = text.removesuffix("s").rstrip()
    if not _DECIMAL.fullmatch(number):
        raise BadValue("it is not a number of seconds", wanted)
    duration_s = float(number)
    if not 0 < duration_s <= LONGEST_WAIT_S:
        raise BadValue(f"it is not greater than 0 and at most {LONGEST_WAIT_S}", wanted)
    return duration_s


def whole_number(smallest: int, largest: int, unit: str = "") -> Callable[[str], int]:
    """A reader for whole numbers from `smallest` to `largest`; `unit` is only for the message."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", text):
            raise BadValue("it is not a whole number", wanted)
        number = int(text)
        if not smallest <= number <= largest:
            raise BadValue(f"it is not between {smallest} and {largest}", wanted)
        return number

    wanted = f"a whole number{f' of {unit}' if unit else ''} from {smallest} to {largest}"
    return read


port = whole_number(1, 65_535)


def one_of(choices: type[Member]) -> Callable[[str], Member]:
    """A reader for the members of an Enum by their values, in any case."""

    def read(text: str) -> Member:
        if text.lower() not in allowed:
            raise BadValue("there is no such choice", "one of " + ", ".join(allowed))
        return choices(text.lower())

    allowed = [member.value for member in choices]
    return read


def matching(pattern: str, why: str, wanted: str) -> Callable[[str], str]:
    """A reader for texts that match `pattern` as a whole."""
    compiled = re.compile(pattern)

    def read(text: str) -> str:
        if not compiled.fullmatch(text):
            raise BadValue(why, wanted)
        return text

    return read


def disk_size(text: str) -> int:
    """A size as `qm resize` takes it, in bytes, rounded down to whole MiB."""
    wanted = "a size with its unit K, M, G or T, of at least 4G, such as 200G"
    match = _DISK_SIZE.fullmatch(text)
    if match is None:
        raise BadValue("it is not a disk size", wanted)
    number, unit = match.groups()
    if not unit:
        raise BadValue("its unit is missing, and Proxmox would take it for bytes", wanted)
    size_bytes = int(float(number) * _UNIT_BYTES[unit.upper()]) // MIB * MIB
    if size_bytes < SMALLEST_DISK_BYTES:
        raise BadValue("it is less than 4G, too small for a cloud image", wanted)
    return size_bytes


def storage(text: str) -> str:
    if not _STORAGE.fullmatch(text):
        raise BadValue("it is not a storage name", "the name of a storage as Proxmox lists it, such as local-zfs")
    return text


def bridges(text: str) -> tuple[str, ...]:
    """A comma list of bridges; the k-th becomes net<k>."""
    wanted = "bridge names separated by commas, such as vmbr0, vmbr1"
    names = tuple(name for name in (part.strip() for part in text.split(",")) if name)
    if not names:
        raise BadValue("it names no bridge", wanted)
    if len(names) > _MOST_NICS:
        raise BadValue(f"a VM has at most {_MOST_NICS} network cards", wanted)
    if not all(_BRIDGE.fullmatch(name) for name in names):
        raise BadValue("not every part of it is the name of a bridge", wanted)
    return names


def api_token(text: str) -> ApiToken:
    """`user@realm!tokenid=secret`; the secret may itself hold `!` and `=`."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise BadValue("it does not have the form user@realm!tokenid=secret", "user@realm!tokenid=secret")
    return ApiToken(match["user"], match["token_id"], Secret(match["secret"]))


def fingerprint(text: str) -> str:
    """A SHA-256 certificate fingerprint, as 32 upper-case pairs with colons."""
    digits = text.replace(":", "").upper()
    if not re.fullmatch(r"[0-9A-F]{64}", digits):
        raise BadValue(
            "it is not a SHA-256 fingerprint",
            "the 32 hexadecimal pairs that `pvenode cert info` shows on the node",
        )
    return ":".join(digits[at : at + 2] for at in range(0, 64, 2))


def sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise BadValue("it is not a SHA-256 checksum", "64 hexadecimal digits, as in the SHA256SUMS beside the image")
    return text.lower()


def key_fingerprint(text: str) -> str:
    """The fingerprint of an OpenPGP key, with or without the blanks that gpg puts in, as upper-case digits."""
    digits = re.sub(r"[\s:]", "", text).removeprefix("0x").upper()
    if not re.fullmatch(r"[0-9A-F]{40}|[0-9A-F]{64}", digits):
        wanted = "the 40 hexadecimal digits that `gpg --show-keys FILE` prints of the publisher's key"
        raise BadValue("it is not the whole fingerprint of an OpenPGP key", wanted)
    return digits


def web_url(text: str) -> str:
    """An http or https URL without credentials and without a trailing slash."""
    wanted = "a URL that begins with https:// or http://"
    try:
        parts = urlsplit(text)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or not text.isascii() or " " in text:
        raise BadValue("it is not a web address", wanted)
    if parts.username is not None:
        raise BadValue("it holds a user name or password", wanted + "; put the credentials into ~/.netrc")
    return text.rstrip("/")


def image_name(text: str) -> str:
    """A file name for a disk image, usable on the node as it is."""
    wanted = "a plain file name that ends in .img, .qcow2 or .raw, such as noble-server-cloudimg-amd64.img"
    if is_installer(text):
        raise BadValue("an installer cannot be booted without a person; a cloud image is needed", wanted)
    if "/" in text or "\\" in text:
        raise BadValue("it is a path, and only a file name can be used", wanted)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,150}\.(img|qcow2|raw)", text):
        raise BadValue("it is not a file name of a disk image", wanted)
    return text


def image_url(text: str) -> str:
    url = web_url(text)
    if is_installer(urlsplit(url).path):
        raise BadValue(
            "an installer cannot be booted without a person; a cloud image is needed",
            "the URL of a cloud image, such as https://cloud-images.ubuntu.com/noble/current/"
            "noble-server-cloudimg-amd64.img, or leave it out",
        )
    return url


def is_installer(name: str) -> bool:
    """Whether a file name or path is that of an installer medium instead of a disk image."""
    lowered = name.lower()
    return lowered.endswith(".iso") or "live-server" in lowered or "-desktop-" in lowered


def file_path(home: Path) -> Callable[[str], Path]:
    """A reader for paths; `~/` is `home`."""

    def read(text: str) -> Path:
        if text == "~" or text.startswith("~/"):
            return home / text[2:]
        if text.startswith("~"):
            raise BadValue("only ~/ is expanded", "an absolute path, or one that begins with ~/")
        return Path(text)

    return read
