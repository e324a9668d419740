"""Options and file names of the core utilities, and their error lines."""

from __future__ import annotations

import getopt
import posixpath
from collections.abc import Sequence

from pvelab.machine import Process


class UsageRefused(Exception):
    """An option that the command does not know here."""


class Options:
    """The options of a command line as getopt(3) reads them, and the words that are left."""

    def __init__(self, process: Process, short: str = "", long: Sequence[str] = ()) -> None:
        try:
            found, self.words = getopt.gnu_getopt(process.argv[1:], short, list(long))
        except getopt.GetoptError as refused:
            option = f"-- '{refused.opt}'" if len(refused.opt) == 1 else f"'--{refused.opt}'"
            problem = "option requires an argument" if "requires" in refused.msg else "invalid option"
            raise UsageRefused(f"{process.argv[0]}: {problem} {option}") from refused
        self._found = found

    def __contains__(self, names: str) -> bool:
        """Was any of the names (separated by |) given?"""
        return any(option in names.split("|") for option, _ in self._found)

    def value(self, names: str, default: str = "") -> str:
        """The last value given under any of the names."""
        values = [value for option, value in self._found if option in names.split("|")]
        return values[-1] if values else default

    def values(self, names: str) -> list[str]:
        """All values given under any of the names."""
        return [value for option, value in self._found if option in names.split("|")]


def complain_about(process: Process, failed: OSError, name: str, doing: str = "") -> int:
    """Write the line that coreutils write when a file cannot be used; the exit code 1."""
    subject = f"{doing} '{name}'" if doing else name
    process.complain(f"{process.argv[0]}: {subject}: {failed.strerror}")
    return 1


def into(process: Process, source: str, target: str) -> str:
    """The path that `mv` and `cp` mean: inside the target when that is a folder."""
    path = process.path(target)
    if process.machine.files.is_folder(path):
        return posixpath.join(path, posixpath.basename(source.rstrip("/")))
    return path
