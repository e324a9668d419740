"""What machines say, without anything that looks like a join token. Pure."""

from __future__ import annotations

import re

TOKEN_LIKE = re.compile(r"K10[0-9a-f]{64}::\S+|\b[a-z0-9]{6}\.[a-z0-9]{16}\b|(?<=-token[ =])\S+")


def masked(text: str) -> str:
    """The text with three asterisks for each."""
    return TOKEN_LIKE.sub("***", text)
