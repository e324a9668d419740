"""The text tables that pvesh prints when no output format is asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_NUMBERS = ("integer", "number")
Formats = Mapping[str, str]
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Column:
    """One property of the rows."""

    name: str
    schema: Schema

    @property
    def is_number(self) -> bool:
        """Is it aligned to the right, and sorted by value?"""
        return self.schema.get("type") in _NUMBERS


def text_table(data: Any, returns: Schema, formats: Formats) -> Iterator[str]:
    """The lines of an answer: an object as key and value, a list as a table by its first column, all else as it is.

    An object shows what the schema names, where it names anything; an empty list shows nothing.
    """
    kind = returns.get("type") or _guessed(data)
    if kind == "null" or data is None:
        return
    if kind == "object":
        properties = returns.get("properties", {})
        names = _ordered(properties) or sorted(data)
        rows = [{"key": name, "value": _shown(data[name], properties.get(name, {}), formats)} for name in names
                if data.get(name) is not None]  # fmt: skip
        yield from _drawn(rows, [_Column("key", {}), _Column("value", {})], formats)
    elif kind == "array":
        yield from _list(data, returns, formats)
    else:
        yield _shown(data, returns, formats)


def _guessed(value: Any) -> str:
    return "object" if isinstance(value, dict) else "array" if isinstance(value, list) else "string"


def _list(data: Sequence[Any], returns: Schema, formats: Formats) -> Iterator[str]:
    items = returns.get("items", {"type": _guessed(data[0]) if data else "string"})
    if not data:
        return
    if items.get("type") != "object":
        rows = [{"value": value} for value in data]
        yield from _drawn(rows, [_Column("value", items)], {**formats, "noheader": "1"})
        return
    properties = items.get("properties", {})
    names = _ordered(properties) or sorted({name for one in data for name in one})
    yield from _drawn(data, [_Column(name, properties.get(name, {})) for name in names], formats)


def _ordered(properties: Mapping[str, Schema]) -> list[str]:
    return sorted(properties, key=lambda name: (bool(properties[name].get("optional")), name))


def _drawn(items: Sequence[Mapping[str, Any]], columns: Sequence[_Column], formats: Formats) -> Iterator[str]:
    rows = [
        [_shown(item.get(one.name), one.schema, formats).split("\n") for one in columns]
        for item in sorted(items, key=_sorting(columns[0]))
    ]
    longest = [max([len(one.name), *(len(line) for row in rows for line in row[n])]) for n, one in enumerate(columns)]
    widths = [
        min(width, one.schema.get("print_width", one.schema.get("maxLength", width)))
        for one, width in zip(columns, longest, strict=True)
    ]
    grid = _Grid(columns, widths, has_border=formats.get("noborder") != "1")
    has_header = formats.get("noheader") != "1"
    yield from grid.rule("┌─┬┐")
    if has_header:
        yield grid.line([one.name for one in columns])
    for position, row in enumerate(rows):
        if position or has_header:
            yield from grid.rule("├─┼┤" if position else "╞═╪╡")
        for level in range(max(map(len, row))):
            cells = [lines[level] if level < len(lines) else "" for lines in row]
            yield grid.line([cell[:width] for cell, width in zip(cells, widths, strict=True)])
    yield from grid.rule("└─┴┘")


@dataclass(frozen=True, slots=True)
class _Grid:
    """How lines are drawn: columns with their widths."""

    columns: Sequence[_Column]
    widths: Sequence[int]
    has_border: bool

    def line(self, cells: Sequence[str]) -> str:
        """The cells of one line; without a border the last one is not filled up."""
        padded = [
            cell.rjust(width) if one.is_number else cell.ljust(width)
            for one, cell, width in zip(self.columns, cells, self.widths, strict=True)
        ]
        return "│ " + " │ ".join(padded) + " │" if self.has_border else " ".join([*padded[:-1], cells[-1]])

    def rule(self, signs: str) -> Iterator[str]:
        """A line between, drawn with left, fill, middle and right; none without a border."""
        left, fill, middle, right = tuple(signs)
        if self.has_border:
            yield left + middle.join(fill * (width + 2) for width in self.widths) + right


def _sorting(column: _Column) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """By the column's value, what has none first."""

    def key(item: Mapping[str, Any]) -> tuple[Any, ...]:
        value = item.get(column.name)
        if value is None:
            return (False, 0)
        return (True, float(value) if column.is_number else str(value))

    return key


def _shown(value: Any, schema: Schema, formats: Formats) -> str:
    if value is None:
        return ""
    if formats.get("human-readable") != "0":
        if schema.get("type") == "boolean":
            return "1" if value and value != "0" else "0"
        render = _RENDERERS.get(schema.get("renderer", ""))
        if render:
            return render(float(value))
    if isinstance(value, dict | list | bool):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def _size(size_bytes: float) -> str:
    unit = int(math.log(size_bytes, 1024)) if size_bytes > 1023 else 0
    return f"{size_bytes / 1024**unit:.2f} {_UNITS[unit]}"


def _duration(seconds: float) -> str:
    """Weeks leave out minutes and days leave out seconds."""
    left, parts = round(seconds), dict[str, int]()
    for name, length_s in (("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        is_too_fine = (name == "m" and parts.get("w")) or (name == "s" and (parts.get("w") or parts.get("d")))
        parts[name], left = (0, left) if is_too_fine else divmod(left, length_s)
    return " ".join(f"{count}{name}" for name, count in parts.items() if count) or "0s"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _percentage(fraction: float) -> str:
    return f"{fraction * 100:.2f}%"


_RENDERERS: Mapping[str, Callable[[float], str]] = {
    "bytes": _size,
    "duration": _duration,
    "fraction_as_percentage": _percentage,
    "timestamp": _moment,
    "timestamp_gmt": _moment,
}
