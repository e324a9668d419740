"""The text tables that pvesh prints when no output format is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_NUMBERS = ("integer", "number")
Formats = Mapping[str, str]


def text_table(data: Any, returns: Mapping[str, Any], formats: Formats) -> Iterator[str]:
    """An object as key and value, a list of objects as columns in the order of the schema, other lists line by line."""
    if isinstance(data, dict):
        properties = returns.get("properties", {})
        rows = [[key, _shown(data[key], properties.get(key, {}), formats)] for key in sorted(data)]
        yield from _drawn(["key", "value"], rows, [False, False], formats)
        return
    properties = returns.get("items", {}).get("properties", {})
    names = sorted(properties, key=lambda name: (bool(properties[name].get("optional")), name))
    if not names or not all(isinstance(item, dict) for item in data):
        yield from (item if isinstance(item, str) else json.dumps(item, sort_keys=True) for item in data)
        return
    rows = [[_shown(item.get(name), properties[name], formats) for name in names] for item in data]
    is_number = [properties[name].get("type") in _NUMBERS for name in names]
    yield from _drawn(names, rows, is_number, formats)


def _drawn(names: list[str], rows: list[list[str]], is_number: list[bool], formats: Formats) -> Iterator[str]:
    with_header = formats.get("noheader") != "1"
    columns = zip(*([names] if with_header else []), *rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    with_border = formats.get("noborder") != "1"

    def line(cells: list[str]) -> str:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, is_number, strict=True)
        ]
        return "│ " + " │ ".join(padded) + " │" if with_border else " ".join(padded).rstrip()

    def rule(left: str, fill: str, middle: str, right: str) -> str:
        return left + middle.join(fill * (width + 2) for width in widths) + right

    if with_border:
        yield rule("┌", "─", "┬", "┐")
    if with_header:
        yield line(names)
        if with_border:
            yield rule("╞", "═", "╪", "╡")
    for position, row in enumerate(rows):
        if position and with_border:
            yield rule("├", "─", "┼", "┤")
        yield line(row)
    if with_border:
        yield rule("└", "─", "┴", "┘")


def _shown(value: Any, schema: Mapping[str, Any], formats: Formats) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    if formats.get("human-readable") != "0" and schema.get("renderer") == "bytes":
        return _size(float(value))
    if formats.get("human-readable") != "0" and schema.get("renderer") == "duration":
        return _duration(int(value))
    return str(value)


def _size(size_bytes: float) -> str:
    unit = 0
    while size_bytes >= 1024 and unit < len(_UNITS) - 1:
        size_bytes /= 1024
        unit += 1
    return f"{size_bytes:.2f} {_UNITS[unit]}"


def _duration(seconds: int) -> str:
    parts = []
    for name, length_s in (("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60)):
        count, seconds = divmod(seconds, length_s)
        if count:
            parts.append(f"{count}{name}")
    return " ".join([*parts, f"{seconds}s"] if seconds or not parts else parts)
