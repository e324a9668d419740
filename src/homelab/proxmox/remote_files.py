"""Files on a node over SSH: in place as a whole or not at all, and gone again when they were only for a moment."""

from __future__ import annotations

import hashlib
import logging
import posixpath
import re
import secrets
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO

from homelab.errors import HomelabError, Refused, TimedOut, Undecided
from homelab.proxmox.answers import misunderstood, number
from homelab.proxmox.refusals import LOOK_THERE, cure_for, undecided
from homelab.proxmox.transport import Root, Upload
from homelab.shell import Readable, Result

logger = logging.getLogger(__name__)

SLOWEST_BYTES_PER_S = 500_000
SHA256 = re.compile(r"\\?([0-9a-f]{64})\s")
"""What sha256sum prints; a backslash before it tells of one in the name."""
KEYS = "/run/homelab-sshkeys"
"""Only root writes there, the next creation on the node overwrites and removes it, and no reboot outlasts it."""


class _Counted:
    """A file that tells how far it was read."""

    def __init__(self, file: Readable, total: int, on_progress: Callable[[int, int], None]) -> None:
        self._file = file
        self._total = total
        self._on_progress = on_progress
        self._done = 0

    def read(self, size: int, /) -> bytes:
        chunk = self._file.read(size)
        self._done += len(chunk)
        self._on_progress(self._done, self._total)
        return chunk


def place_upload(root: Root, target: str, upload: Upload) -> None:
    """Stream a local file to `target`; raises Refused when it did not arrive whole."""
    size = upload.source.stat().st_size
    with upload.source.open("rb") as file:
        source: Readable = file if upload.on_progress is None else _Counted(file, size, upload.on_progress)
        _place(root, target, source, size, upload.sha256)


def place_bytes(root: Root, target: str, content: bytes) -> None:
    """Write a small file to `target`; raises Refused when it did not arrive whole."""
    _place(root, target, BytesIO(content), len(content), hashlib.sha256(content).hexdigest())


@contextmanager
def temporary(root: Root, content: bytes) -> Iterator[str]:
    """A file that only root can read, for the time of the block.

    Raises Undecided where it may be left: what was done with it is looked at then, and stays open for the next run.
    """
    try:
        _stream(root, KEYS, BytesIO(content), 30, before=f"rm -f {KEYS} && umask 077 && ")
        yield KEYS
    except HomelabError:
        _remove(root, KEYS)
        raise
    try:
        remove_temporary(root)
    except HomelabError as error:
        raise Undecided(f"removal of {KEYS}", str(error), error.cure) from error


def remove_temporary(root: Root) -> None:
    """Remove what was to be there for a moment only, and was left by a run that was cut off."""
    output(root, ["rm", "-f", KEYS])


def remove_parts(root: Root, target: str) -> None:
    """Remove what was written of a file under another name, and not renamed."""
    output(root, ["sh", "-c", _removal_of_parts(target)])


def output(root: Root, argv: Sequence[str], *, timeout_s: float = 30, good: tuple[int, ...] = (0,)) -> str:
    """What a command prints; raises Refused when its exit code is not a good one, Undecided when it was cut off."""
    return _checked(root.run(argv, timeout_s=timeout_s), " ".join(argv[:3]), good).stdout


def sha256_of(root: Root, path: str, timeout_s: float) -> str:
    """Reads the whole file there. Raises Misunderstood as well."""
    printed = output(root, ["sha256sum", path], timeout_s=timeout_s)
    found = SHA256.match(printed)
    if found is None:
        raise misunderstood("sha256sum", f"it printed no hash but {printed[:80]!r}")
    return found[1]


def sha256_if_there(root: Root, path: str) -> str:
    """Of a small file; empty where there is none that can be read."""
    found = SHA256.match(output(root, ["sha256sum", path], good=(0, 1)))
    return found[1] if found else ""


def _part_of(target: str, mark: str) -> str:
    directory, name = posixpath.split(target)
    return posixpath.join(directory, f".{name}.{mark}")


def _removal_of_parts(target: str) -> str:
    return f"rm -f {shlex.quote(_part_of(target, ''))}????????.part"


def _place(root: Root, target: str, source: Readable, size: int, sha256: str) -> None:
    """Under a name of its own first. What others have begun to write is gone then: they were killed, or try again."""
    part = _part_of(target, f"{secrets.token_hex(4)}.part")
    timeout_s = 60 + size / SLOWEST_BYTES_PER_S
    folder = shlex.quote(posixpath.dirname(target))
    output(root, ["sh", "-c", f"mkdir -p {folder} && {_removal_of_parts(target)}"])
    try:
        _stream(root, part, source, timeout_s)
        length = number({"size": output(root, ["stat", "-c", "%s", part])}, "size")
        arrived = sha256_of(root, part, timeout_s)
        if (length, arrived) != (size, sha256):
            why = f"{length} of {size} bytes, sha256 {arrived}, wanted {sha256}"
            raise Refused(f"file {target}", f"it did not arrive whole: {why}", "run again", status=1)
        output(root, ["mv", "-f", part, target])
    except HomelabError:
        _remove(root, part)
        raise


def _stream(root: Root, path: str, source: Readable, timeout_s: float, *, before: str = "") -> None:
    """Write to a file, after what the shell is to do first; the redirection has to happen with root's rights."""
    script = f"{before}cat > {shlex.quote(path)}"
    try:
        _checked(root.run(["sh", "-c", script], stdin=source, timeout_s=timeout_s), f"writing {path}")
    except TimedOut as error:
        raise Undecided(error.what, error.why, error.cure) from error


def _checked(result: Result, what: str, good: tuple[int, ...] = (0,)) -> Result:
    if result.exit_code not in good:
        if result.is_inconclusive:
            raise undecided(what, result)
        why = result.stderr.strip()
        raise Refused(what, why, cure_for(why) or LOOK_THERE, status=result.exit_code)
    return result


def _remove(root: Root, path: str) -> None:
    """Clean up as far as the connection lets us; what is wrong with it has been raised already."""
    try:
        root.run(["rm", "-f", path])
    except HomelabError as error:
        logger.warning("%s may be left on the node: %s", path, error)
