"""Takes secrets out of what is shown: those known by value, however they are written, and what looks like one. Pure."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus

from homelab.settings import Secret

LOOKS_SECRET = re.compile(
    r"K10[0-9a-f]{64}::\S+|(?<=PVEAPIToken=)[^\s'\"]+|(?<=Bearer )[^\s'\"]+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
"""A full join token of k3s, what proves who we are in an HTTP header, and the user and password in a URL."""
SHORT = 8
"""A secret shorter than this is only masked where it stands as a word of its own: `0` is also half of every number."""


def masked(text: str, secrets: Collection[Secret]) -> str:
    """The text with `***` for every secret; a longer one goes before a shorter one inside it."""
    for form in _forms(frozenset(secrets)):
        if form in text:
            text = text.replace(form, "***") if len(form) >= SHORT else _as_word(form).sub("***", text)
    return LOOKS_SECRET.sub("***", text)


def masked_data(value: object, secrets: Collection[Secret]) -> object:
    """The same for every text in nested JSON data; numbers stay numbers."""
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, dict):
        return {key: masked_data(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [masked_data(item, secrets) for item in value]
    return value


@lru_cache(maxsize=8)
def _forms(secrets: frozenset[Secret]) -> tuple[str, ...]:
    """Every form of every secret, the longest first. Not one pattern: to compile that takes longer than a run."""
    forms = {form for secret in secrets for form in _forms_of(secret.reveal()) if form}
    return tuple(sorted(forms, key=len, reverse=True))


def _as_word(form: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(form)}(?!\w)")


def _forms_of(secret: str) -> Iterator[str]:
    """How a secret may stand in a text: plain, by line, in a URL, quoted for a shell, JSON or Python, in base64."""
    for part in (secret, *_lines(secret)):
        yield part
        yield from (quote(part, safe=""), quote(part), quote_plus(part))
        yield part.replace("'", "'\"'\"'")
        yield from (json.dumps(part)[1:-1], repr(part)[1:-1])
        if len(part) >= SHORT:
            yield from _in_base64(part.encode())


def _lines(secret: str) -> Iterable[str]:
    """Of a key in PEM form each line; what stands before and after it in every key is none."""
    return (line for line in secret.splitlines() if len(line) >= SHORT and not line.startswith("-----"))


def _in_base64(secret: bytes) -> Iterator[str]:
    """By itself, and what is the same wherever it stands in a longer text: its bytes begin at one of three places."""
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(secret).decode()
        for before, affected in ((0, 0), (1, 2), (2, 3)):
            whole = (before + len(secret)) // 3 * 4
            yield encode(b"\0" * before + secret).decode()[affected:whole]
