"""Makes text from outside fit to be shown: nothing in it steers a terminal or fails to be written. Pure."""

from __future__ import annotations

LONGEST_LINE = 4000
TAB = "\t"


def legible(text: str) -> str:
    """The text, its control characters and halves of UTF-16 pairs written as `\\x1b` or `\\ud800`, long lines cut."""
    if text.isprintable() and len(text) <= LONGEST_LINE:
        return text
    return "\n".join(map(_line, text.split("\n")))


def _line(line: str) -> str:
    left_out = len(line) - LONGEST_LINE
    line = "".join(_character(one) for one in line[:LONGEST_LINE])
    return f"{line}... ({left_out} more characters)" if left_out > 0 else line


def _character(one: str) -> str:
    return one if one.isprintable() or one == TAB else one.encode("unicode_escape").decode()
