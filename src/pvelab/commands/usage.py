"""Usage and help texts as Proxmox VE's tools make them from the parameters of a method."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pvelab.commands.options import Properties

_COLUMNS = 75
_INDENT = " " * 13
_NUMBERED = re.compile(r"([a-z]+)(\d+)")


@dataclass(frozen=True, slots=True)
class Described:
    """What a usage text tells of a command: its first words, its description and its parameters."""

    prefix: str
    description: str
    properties: Properties
    positional: Collection[str] = ()


def short(what: Described, arguments: str = "") -> str:
    """One line: the words that are needed, and whether there are options."""
    options = {name: one for name, one in what.properties.items() if name not in what.positional}
    needed = [f"--{name} <{one.get('type', 'string')}>" for name, one in _shown(options) if not one.get("optional")]
    words = " ".join(filter(None, [arguments, *needed]))
    return f"{what.prefix} {words}{' [OPTIONS]' if options else ''}"


def full(what: Described, usage: str) -> Iterator[str]:
    """The lines of a full text, under a usage line."""
    yield from [f"USAGE: {usage}", ""]
    yield from _wrapped(what.description, "  ", "  ")
    yield ""
    for name in what.positional:
        yield from _one(f"<{name}>", what.properties.get(name, {}))
    options = {name: one for name, one in what.properties.items() if name not in what.positional}
    for name, one in _shown(options):
        yield from _one(f"--{name}", one)


def _shown(properties: Properties) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """In order; of numbered ones (net0, net1...) only the first, as net[n]."""
    for name in sorted(properties):
        numbered = _NUMBERED.fullmatch(name)
        if not numbered or f"{numbered[1]}1" not in properties:
            yield name, properties[name]
        elif numbered[2] == "0":
            yield f"{numbered[1]}[n]", properties[name]


def _one(shown_name: str, one: Mapping[str, Any]) -> Iterator[str]:
    default = f"   (default={one['default']})" if "default" in one else ""
    yield from _wrapped(f"  {shown_name:<10} {_type_text(one)}{default}", "", _INDENT)
    yield from _wrapped(one.get("description") or "no description available", _INDENT, _INDENT)
    yield ""
    if "requires" in one:
        yield from _wrapped(f"Requires option(s): {one['requires']}", _INDENT, _INDENT)
        yield ""


def _wrapped(text: str, first: str, later: str) -> list[str]:
    """As Text::Wrap does it: lines of 75 columns, eight leading blanks become a tab."""
    lines = textwrap.wrap(
        text.rstrip("\n"),
        _COLUMNS,
        initial_indent=first,
        subsequent_indent=later,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    return [re.sub(r"^ {8}", "\t", line) for line in lines]


def _type_text(one: Mapping[str, Any]) -> str:
    if "typetext" in one:
        return str(one["typetext"])
    if "enum" in one:
        return f"<{' | '.join(sorted(map(str, one['enum'])))}>"
    return str(one.get("pattern") or f"<{one.get('type', 'string')}>")
