"""Takes secrets out of what is shown: those known by value, and whatever looks like a k3s join token. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from homelab.settings import Secret

JOIN_TOKEN = re.compile(r"K10[0-9a-f]{64}::\S+")
SHORT = 8
"""A secret shorter than this is only masked where it stands as a word of its own: `0` is also half of every number."""


def masked(text: str, secrets: Iterable[Secret]) -> str:
    """The text with `***` for every secret; a longer one goes before a shorter one inside it."""
    for secret in sorted({secret.reveal() for secret in secrets}, key=len, reverse=True):
        pattern = re.escape(secret)
        text = re.sub(pattern if len(secret) >= SHORT else rf"(?<!\w){pattern}(?!\w)", "***", text)
    return JOIN_TOKEN.sub("***", text)


def masked_data(value: object, secrets: Iterable[Secret]) -> object:
    """The same for every text in nested JSON data; numbers stay numbers."""
    secrets = tuple(secrets)
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, dict):
        return {key: masked_data(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [masked_data(item, secrets) for item in value]
    return value
