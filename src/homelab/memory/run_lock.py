"""One run at a time: a lock that the system frees when its holder ends, however it ends."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from homelab import json_text
from homelab.errors import Locked
from homelab.memory.folder import unusable

HOLDER_FILE = "holder.json"


@contextmanager
def held(folder: Path, now: float) -> Iterator[None]:
    """Hold the lock of this state folder; `now` is the Unix time that others are told.

    Raises Locked at once when another process holds it, with what is known of that one; HomelabError where the file
    cannot be opened.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / "lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Locked(
            "another run is going on",
            _holder(folder),
            "wait until it has ended; if it hangs, end that process, and run again: the lock goes with it",
        ) from None
    except OSError as error:
        raise unusable(folder, error) from error
    try:
        _write_holder(folder, now)
        yield
    finally:
        (folder / HOLDER_FILE).unlink(missing_ok=True)
        lock.release()


def _write_holder(folder: Path, now: float) -> None:
    holder = {"pid": os.getpid(), "host": platform.node(), "since": now, "command": Path(sys.argv[0]).name}
    path = folder / HOLDER_FILE
    with suppress(OSError):
        path.touch(mode=0o600)
        path.write_text(json.dumps(holder), encoding="utf-8")


def _holder(folder: Path) -> str:
    try:
        known = json_text.read((folder / HOLDER_FILE).read_text(encoding="utf-8"))
        since = datetime.fromtimestamp(float(known["since"]), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"{known['command']}, process {known['pid']} on {known['host']}, since {since}"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return f"it holds {folder / 'lock'}"
