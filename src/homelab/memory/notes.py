"""The line that homelab keeps in a VM's notes, for runs from other machines; the rest of the notes is a person's."""

from __future__ import annotations

import re

from homelab.memory.stamps import read_stamp, stamp

LINE = re.compile(r"\s*^homelab: replaced (?P<when>\S+)[ \t]*$", re.MULTILINE)


def without_line(notes: str) -> str:
    """The notes as a person wrote them."""
    return LINE.sub("", notes).strip()


def with_line(notes: str, replaced_at: float) -> str:
    """The notes with the time, in Unix seconds, at which the VM was last replaced."""
    return f"{without_line(notes)}\n\nhomelab: replaced {stamp(replaced_at)}".strip()


def replaced_at(notes: str) -> float | None:
    """The newest time that the notes tell, in Unix seconds; what cannot be read as a time tells none."""
    return max((when for line in LINE.finditer(notes) if (when := read_stamp(line["when"])) is not None), default=None)
