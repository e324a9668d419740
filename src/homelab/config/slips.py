"""Keys that nobody reads and that look like one that is read: mostly slips of the pen. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

ALIKE = 0.87
"""Share of letters in common: more of it has a key with a letter left out or without its `_`, API_TOKEN_ID has less."""
_OF_A_NODE = re.compile(r"_\d+$")
_NUMBER = re.compile(r"\d+$")


def slips(keys: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Keys that look like a known one, with that one. A known KEY_1 stands for KEY with any number."""
    stems = {_OF_A_NODE.sub("_n", name) for name in known}
    found: dict[str, str] = {}
    for key in keys:
        number = _NUMBER.search(key)
        names = {re.sub("_n$", f"_{number[0]}", stem) for stem in stems} if number else stems
        close = [] if key in names else get_close_matches(key.upper(), sorted(names), 1, ALIKE)
        if close:
            found[key] = close[0]
    return found
