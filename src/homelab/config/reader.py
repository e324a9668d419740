"""Takes values out of the mapping and collects every problem on the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

from homelab.config.values import BadValue, file_path
from homelab.errors import Problem

Value = TypeVar("Value")
Default = TypeVar("Default")

_SHORTEST_SECRET = 4
_LONGEST_SHOWN = 80
_SECRET_NAME = re.compile(r"TOKEN|PASSW|SECRET|_KEY$")
_LOOKS_SECRET = re.compile(
    r"!\S*=|://[^/\s]*@|PRIVATE KEY|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-|\bK10[0-9a-f]{16}|token|passw|secret",
    re.IGNORECASE,
)


class Files(Protocol):
    """What the configuration may ask of the file system."""

    def read_text(self, path: Path) -> str:
        """The file as text; raises OSError or UnicodeDecodeError."""

    def is_file(self, path: Path) -> bool:
        """Whether `path` is a file; False also when that cannot be found out."""

    def is_open_to_others(self, path: Path) -> bool:
        """Whether others than its owner may read or write a file; False also when that cannot be found out."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What values mean here: the home directory behind `~`, the files, and the reason given for a missing key."""

    home: Path
    files: Files
    why_missing: str


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads keys; wrong values become problems, and the default stands in so that reading goes on."""

    values: Mapping[str, str]
    surroundings: Surroundings
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    claims: dict[tuple[str, object], str] = field(default_factory=dict)

    def with_own_problems(self) -> Reader:
        """The same reader with an empty list of problems, for keys whose problems stay among themselves."""
        return replace(self, problems=[])

    def text(self, key: str) -> str | None:
        """The value without surrounding blanks; None when the key is missing or empty."""
        self.asked.add(key)
        return self.values.get(key, "").strip() or None

    def get(self, key: str, convert: Callable[[str], Value], default: Default) -> Value | Default:
        """The value as `convert` makes it; the default when it is unset, or wrong and now a problem."""
        text = self.text(key)
        if text is None:
            return default
        try:
            if not text.isprintable():
                raise BadValue("it holds a character that cannot be printed", "a value typed anew")
            return convert(text)
        except BadValue as bad:
            self.refuse(key, bad)
            return default

    def path(self, key: str) -> Path | None:
        return self.get(key, file_path(self.surroundings.home), None)

    def content(self, path: Path, wanted: str) -> str:
        """The text of a file that a key names; raises BadValue if it cannot be had."""
        try:
            return self.surroundings.files.read_text(path)
        except UnicodeDecodeError:
            raise BadValue("the file is not text", wanted) from None
        except OSError as error:
            raise BadValue(f"the file cannot be read ({error.strerror or 'no reason given'})", wanted) from error

    def refuse(self, key: str, bad: BadValue) -> None:
        """Note that the value of `key` cannot be used."""
        self.problems.append(
            Problem(f"{key}{self._shown_value(key)} cannot be used", bad.why, f"set {key} to {bad.wanted}")
        )

    def missing(self, key: str, wanted: str) -> None:
        """Note that `key` is needed and not set."""
        self.problems.append(Problem(f"{key} is not set", self.surroundings.why_missing, f"set {key} to {wanted}"))

    def claim(self, kind: str, value: object, holder: str, cure: str) -> bool:
        """Take `value` for a key. A second taker gets a problem, and False; `kind` is for people."""
        first = self.claims.setdefault((kind, value), holder)
        if first == holder:
            return True
        self.problems.append(Problem(f"{holder} repeats a {kind}", f"{first} has the same {kind} already", cure))
        return False

    def shown(self, text: str) -> str:
        """`text` quoted and shortened for a message, or a note in its place if it may be a secret."""
        secrets = (value.strip() for key, value in self.values.items() if _SECRET_NAME.search(key))
        known = [part for secret in secrets for part in (secret, secret.partition("=")[2])]
        if _LOOKS_SECRET.search(text) or any(len(part) >= _SHORTEST_SECRET and part in text for part in known):
            return "(value not shown)"
        return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "...")

    def _shown_value(self, key: str) -> str:
        text = self.text(key)
        if text is None or _SECRET_NAME.search(key):
            return ""
        shown = self.shown(text)
        return f" {shown}" if shown.startswith("(") else f"={shown}"
