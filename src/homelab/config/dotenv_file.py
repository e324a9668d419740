"""Finds and reads `.env`; what it finds goes through parsing.py."""

from __future__ import annotations

import errno
import os
import stat
from collections import ChainMap
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

from homelab.config.credentials import SECRET_KEYS, given_by_systemd, open_to_others
from homelab.config.parsing import read_config
from homelab.config.reader import Reader, Surroundings
from homelab.config.slips import slips
from homelab.errors import ConfigError, Problem
from homelab.settings import Config, Via

PACKAGE = Path(__file__).resolve().parent.parent
LARGEST_FILE = 4 * 1024**2
LARGEST_ENV_FILE = 256 * 1024
OTHERS = 0o066
"""Reading and writing by the file's group, and by everybody."""


class LocalFiles:
    """The files of this machine."""

    def read_text(self, path: Path) -> str:
        """The text of a key or certificate file; devices and pipes, which may never end, are refused."""
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        with path.open(encoding="utf-8") as stream:
            return stream.read(LARGEST_FILE)

    def is_file(self, path: Path) -> bool:
        try:
            return path.is_file()
        except OSError:
            return False

    def is_open_to_others(self, path: Path) -> bool:
        try:
            mode = path.stat().st_mode
        except OSError:
            return False
        return stat.S_ISREG(mode) and bool(mode & OTHERS)


@dataclass(frozen=True, slots=True)
class Line:
    """One assignment of a `.env` file; `key` is None where the line cannot be read."""

    number: int
    key: str | None
    value: str


def load(env_file: Path | None, via: Via, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration of this machine: the `.env` file, above it systemd's credentials, then the environment.

    A token that a file of its own holds goes before systemd's. Without `env_file` the first of search_path() that
    exists is read; without any, only the environment.
    Raises ConfigError.
    """
    environment = os.environ if environment is None else environment
    path = env_file or next((candidate for candidate in search_path() if LocalFiles().is_file(candidate)), None)
    lines = [] if path is None else _read_lines(path)
    given = given_by_systemd(environment, LocalFiles())
    values = {**expand(lines, environment), **environment}
    if values.get("API_TOKEN_FILE", "").strip():
        given.pop("API_TOKEN", None)
    values = {**values, **given, **environment}
    reader = Reader(values, Surroundings(home(), LocalFiles(), _why_missing(path)))
    unreadable = [_unreadable(path, line) for line in lines if line.key is None]
    try:
        config = read_config(reader, via)
    except ConfigError as error:
        raise ConfigError([*error.problems, *unreadable, *_unread(path, lines)]) from None
    noticed = map(str, (*unreadable, *_unread(path, lines)))
    warnings = [*config.warnings, *noticed, *_repeated(path, lines, reader.asked), *_shared(path, lines)]
    return replace(config, warnings=tuple(warnings))


def search_path() -> list[Path]:
    """Where `.env` is looked for: beside the package's modules, in the project root, in the current directory."""
    root = next((parent for parent in PACKAGE.parents if (parent / "pyproject.toml").is_file()), PACKAGE)
    return list(dict.fromkeys(directory / ".env" for directory in (PACKAGE, root, Path.cwd())))


def expand(lines: Iterable[Line], environment: Mapping[str, str]) -> dict[str, str]:
    """The assignments with ${NAME} and ${NAME:-default} filled in: from the environment, else from lines above."""
    from dotenv.variables import parse_variables

    values: dict[str, str] = {}
    known = ChainMap(dict(environment), values)
    for line in lines:
        if line.key is not None:
            values[line.key] = "".join(atom.resolve(known) for atom in parse_variables(line.value))
    return values


def _read_lines(path: Path) -> list[Line]:
    """The assignments in a `.env` file, as python-dotenv reads them."""
    from dotenv.parser import parse_stream

    cure = "name a readable text file with --env, or leave --env out"
    try:
        with path.open(encoding="utf-8-sig") as stream:
            text = stream.read(LARGEST_ENV_FILE + 1)
    except OSError as error:
        raise ConfigError([Problem(f"{path} cannot be read", str(error.strerror), cure)]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(f"{path} cannot be read", "it is not UTF-8 text", cure)]) from error
    if len(text) > LARGEST_ENV_FILE:
        raise ConfigError([Problem(f"{path} cannot be read", f"it is larger than {LARGEST_ENV_FILE} characters", cure)])
    return [
        Line(_line_number(binding.original.line, binding.original.string), binding.key, binding.value or "")
        for binding in parse_stream(StringIO(text))
        if binding.key is not None or binding.error
    ]


def _line_number(first: int, original: str) -> int:
    """The line of the assignment itself; python-dotenv counts from the blank lines before it."""
    return first + original[: len(original) - len(original.lstrip())].count("\n")


def _why_missing(path: Path | None) -> str:
    if path is not None:
        return f"neither {path} nor the environment has it"
    return f"the environment does not have it, and there is no {' or '.join(map(str, search_path()))}"


def _unreadable(path: Path | None, line: Line) -> Problem:
    what = f"{path}, line {line.number} cannot be read"
    return Problem(
        what, "it is not KEY=value, or a quote is not closed", "correct the line, or begin it with # to skip it"
    )


def _unread(path: Path | None, lines: Iterable[Line]) -> list[Problem]:
    """Keys in the file that nobody reads, and that are hardly meant to be other programs'."""
    found = slips((line.key for line in lines if line.key is not None), _known_keys())
    return [
        Problem(f"{path}: {key} is not read", f"it looks like {name}", f"call it {name}, if that is meant")
        for key, name in found.items()
    ]


def _known_keys() -> set[str]:
    """Every key there is, as a file of one node would be asked for them; numbered ones as KEY_1."""
    reader = Reader({"NODE_1": "node"}, Surroundings(Path("/nonexistent"), LocalFiles(), ""))
    with suppress(ConfigError):
        read_config(reader, Via.AUTO)
    return reader.asked


def _repeated(path: Path | None, lines: Iterable[Line], asked: set[str]) -> list[str]:
    """Sentences about keys of ours that stand in the file more than once."""
    numbers: dict[str, list[int]] = {}
    for line in lines:
        if line.key in asked:
            numbers.setdefault(str(line.key), []).append(line.number)
    return [
        f"{path}: {key} is set in lines {', '.join(map(str, found))}; the last one counts"
        for key, found in numbers.items()
        if len(found) > 1
    ]


def _shared(path: Path | None, lines: Iterable[Line]) -> list[str]:
    """A sentence about a file that others may read, and that has a secret in it."""
    has_secret = any(line.key in SECRET_KEYS and line.value.strip() for line in lines)
    return [open_to_others(str(path), path)] if path and has_secret and LocalFiles().is_open_to_others(path) else []


def home() -> Path:
    """The home directory; the root directory for an account that has none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
