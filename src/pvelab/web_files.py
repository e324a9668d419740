"""Which part of a file a GET or HEAD gets: conditions and ranges as web servers keep them (RFC 9110, 13 and 14)."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes=(?:(?P<first>[0-9]+)-(?P<last>[0-9]*)|-(?P<tail>[0-9]+))")


@dataclass(frozen=True, slots=True)
class Version:
    """What a file is known by: its size, and when it was changed (Unix seconds)."""

    size_bytes: int
    modified_at: float

    @property
    def etag(self) -> str:
        """A strong one, made as Apache makes it: size and time of change in microseconds."""
        return f'"{self.size_bytes:x}-{int(self.modified_at * 1_000_000):x}"'

    @property
    def headers(self) -> dict[str, str]:
        """What every answer about it says."""
        modified = email.utils.formatdate(self.modified_at, usegmt=True)
        return {"ETag": self.etag, "Last-Modified": modified, "Accept-Ranges": "bytes"}


@dataclass(frozen=True, slots=True)
class Part:
    """An answer: its status, and the bytes from `first` up to but not including `end`."""

    status: int
    first: int
    end: int
    headers: Mapping[str, str]


def part_of(version: Version, asked: Mapping[str, str]) -> Part:
    """The answer to a request with these headers; several ranges at once are answered with the whole file."""
    headers, size = version.headers, version.size_bytes
    if _is_known_already(version, asked):
        return Part(304, 0, 0, headers)
    wanted = _ONE_RANGE.fullmatch(asked.get("Range", ""))
    if wanted is None or not _still_holds(version, asked.get("If-Range")):
        return Part(200, 0, size, headers)
    if wanted["tail"]:
        first, end = max(0, size - int(wanted["tail"])), size
    else:
        first, end = int(wanted["first"]), min(size, int(wanted["last"] or size) + 1)
    if first >= end:
        is_nonsense = wanted["last"] and int(wanted["last"]) < first
        refused = {**headers, "Content-Range": f"bytes */{size}"}
        return Part(200, 0, size, headers) if is_nonsense else Part(416, 0, 0, refused)
    return Part(206, first, end, {**headers, "Content-Range": f"bytes {first}-{end - 1}/{size}"})


def _is_known_already(version: Version, asked: Mapping[str, str]) -> bool:
    """If-None-Match counts before If-Modified-Since, and compares without regard to W/."""
    tags = asked.get("If-None-Match")
    if tags is not None:
        return tags.strip() == "*" or version.etag in re.findall(r'"[^"]*"', tags)
    return "Range" not in asked and _seconds(asked.get("If-Modified-Since")) >= int(version.modified_at)


def _still_holds(version: Version, validator: str | None) -> bool:
    """If-Range: a strong tag, or exactly the date that was given with the file."""
    if validator is None or validator == version.etag:
        return True
    return _seconds(validator) == int(version.modified_at)


def _seconds(date: str | None) -> float:
    """Unix seconds of an HTTP date; what is none is before everything."""
    try:
        return email.utils.parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return float("-inf")
