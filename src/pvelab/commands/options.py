"""Options of Proxmox VE's command line tools, read as Getopt::Long does from the API's own parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Properties = Mapping[str, Mapping[str, Any]]
ARRAY_SEPARATOR = "\0"
_BOOLEANS = {"": "1"} | dict.fromkeys(("1", "on", "yes", "true"), "1") | dict.fromkeys(("0", "off", "no", "false"), "0")


class UsageRefused(Exception):
    """The words of a command line are not what the command takes; the usage line follows on screen."""

    def __init__(self, reason: str, warnings: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.warnings = tuple(warnings)


@dataclass(slots=True)
class Words:
    """A command line apart: parameters by name, and the words that are left."""

    params: dict[str, str] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)


def read_options(words: Sequence[str], properties: Properties, asked_later: frozenset[str] = frozenset()) -> Words:
    """Read options among the words; those `asked_later` (passwords) may stand without a value, which is then empty.

    What follows `--` is `extra`. Raises UsageRefused.
    """
    found, warnings = Words(), list[str]()
    given: dict[str, list[str]] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            found.extra = left
            break
        option = re.fullmatch(r"--?([^=]+)(?:=(.*))?", word, re.DOTALL)
        if not option:
            found.rest.append(word)
        elif option[1] not in properties:
            warnings.append(f"Unknown option: {option[1]}")
        else:
            is_optional = properties[option[1]].get("type") == "boolean" or option[1] in asked_later
            value = option[2] if option[2] is not None else _next_value(left, is_optional=is_optional)
            if value is None:
                warnings.append(f"Option {option[1]} requires an argument")
            else:
                given.setdefault(option[1], []).append(value)
    if warnings:
        raise UsageRefused("unable to parse option", warnings)
    found.params = {name: _value(properties[name], values) for name, values in given.items()}
    return found


def place_arguments(found: Words, names: Sequence[str]) -> None:
    """Give the words that are left their names; a name in brackets may be missing. Raises UsageRefused."""
    required = [name for name in names if not name.startswith("[")]
    if len(found.rest) < len(required):
        raise UsageRefused("not enough arguments")
    if len(found.rest) > len(names):
        raise UsageRefused("too many arguments")
    found.params.update({name.strip("[]"): word for name, word in zip(names, found.rest, strict=False)})


def map_values(params: dict[str, str], mapping: Mapping[str, Callable[[str], str]]) -> None:
    """Replace values by what they stand for, as a file's content for its name."""
    for name, convert in mapping.items():
        if name in params:
            params[name] = convert(params[name])


def _next_value(left: list[str], *, is_optional: bool) -> str | None:
    if is_optional and (not left or (left[0].startswith("-") and len(left[0]) > 1)):
        return ""
    return left.pop(0) if left else None


def _value(schema: Mapping[str, Any], values: list[str]) -> str:
    kind, form = schema.get("type", "string"), schema.get("format", "")
    if kind == "array":
        return ARRAY_SEPARATOR.join(values)
    if isinstance(form, str) and form.endswith(("-list", "-alist")):
        return ",".join(values)
    if kind != "boolean":
        return values[-1]
    if values[-1].lower() not in _BOOLEANS:
        raise UsageRefused("unable to parse boolean option")
    return _BOOLEANS[values[-1].lower()]
