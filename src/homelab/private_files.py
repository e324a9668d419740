"""Files and folders that are their owner's alone from the moment they are made, whatever the umask."""

from __future__ import annotations

import os
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make it, and what is missing above it, as the XDG base directory specification wants it. Raises OSError."""
    for one in reversed((folder, *folder.parents)):
        if not one.is_dir():
            one.mkdir(mode=0o700, exist_ok=True)


def replace(path: Path, text: str) -> None:
    """Write all of it or nothing, also where the power fails. Raises OSError."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(new, "w", encoding="utf-8", opener=opener) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def opener(path: str, flags: int) -> int:
    """For open(): the mode of a file that it makes."""
    return os.open(path, flags, 0o600)
