"""Puts files in place on a machine: whole, or not at all."""

from __future__ import annotations

from dataclasses import dataclass

from homelab.errors import NodeFailed
from homelab.shell import Readable, Shell

PLACE = """\
umask "$2" && mkdir -p "${1%/*}" && cat > "$1.new" || exit
if [ -n "$4" ]; then echo "$4  $1.new" | sha256sum -c --status || { rm -f "$1.new"; exit 1; }; fi
chmod "$3" "$1.new" && mv -f "$1.new" "$1"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file goes, for root, and with which mode (octal). With a sha256 the machine itself checks what came."""

    path: str
    mode: str = "0600"
    sha256: str = ""
    timeout_s: float = 60

    @property
    def umask(self) -> str:
        """For its folders, too: what only root may read lies in folders that only root may look into."""
        return "077" if self.mode == "0600" else "022"


def put(shell: Shell, place: Place, content: bytes | Readable) -> None:
    """Raises NodeFailed with what the machine says."""
    words = ["sh", "-c", PLACE, "put", place.path, place.umask, place.mode, place.sha256]
    result = shell.run(["sudo", "-n", *words], stdin=content, timeout_s=place.timeout_s)
    if result.exit_code:
        raise NodeFailed(
            f"{shell.where}: {place.path} cannot be written",
            result.stderr.strip()[-300:] or "it did not arrive whole",
            "check that the user may sudo without a password, and that the disk is not full; then run again",
        )
