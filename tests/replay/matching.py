"""Is an answer the recorded one? Tokens stand for what varies; lists may come in any order."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

HEX = "[0-9a-fA-F]"
PATTERNS = {
    "PID": r"\d+",
    "TIME": r"(?:\d+|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\S*)",
    "DIGEST": HEX + "{40}",
    "UUID": f"{HEX}{{8}}(?:-{HEX}{{4}}){{3}}-{HEX}{{12}}",
    "MAC": f"(?:{HEX}{{2}}:){{5}}{HEX}{{2}}",
    "FINGERPRINT": f"(?:{HEX}{{2}}:){{31}}{HEX}{{2}}",
    "N": r"\s*-?\d+(?:\.\d+)?",
    "HASH": r"\w+",
    "RATE": r"[\d.]+ \S+",
    "DATE": r"[\d.\-]+",
    "LINK-LOCAL": r"fe80::[0-9a-f:]+",
}
TOKEN = re.compile(r"<(UPID:[^>]*|[A-Z][A-Z-]*)>")
UNORDERED_TEXT = ("content", "tags")
PROGRESS = re.compile(r"transferred .* \(\d+\.\d+%\)")


def differences(expected: Any, actual: Any, where: str = "answer") -> list[str]:
    """What is not as recorded, in words; nothing if all is."""
    if isinstance(expected, dict):
        return _dict_differences(expected, actual, where)
    if isinstance(expected, list):
        return _list_differences(expected, actual, where)
    if isinstance(expected, str):
        name = where.rpartition(".")[2]
        if name in UNORDERED_TEXT and isinstance(actual, str) and _members(expected) == _members(actual):
            return []
        is_same = _is_number_token(expected, actual) or (
            isinstance(actual, str) and re.fullmatch(pattern(expected), actual, re.S) is not None
        )
    else:
        is_same = type(expected) is type(actual) and expected == actual
    return [] if is_same else [f"{where}: recorded {expected!r}, got {actual!r}"]


def text_differences(expected: str, actual: str, where: str) -> list[str]:
    """As differences, for what a command printed: JSON is compared as such, progress lines may repeat."""
    parsed = _json(expected), _json(actual)
    if all(isinstance(one, dict | list) for one in parsed):
        return differences(*parsed, where)
    wanted, got = ("\n".join(without_progress(text.split("\n"))) for text in (expected, actual))
    return differences(wanted, got, where)


def without_progress(lines: Sequence[str]) -> list[str]:
    """Lines with only one left of each run of progress lines, whatever it says."""
    kept: list[str] = []
    for line in lines:
        shown = "transferred" if PROGRESS.fullmatch(line) else line
        if shown != "transferred" or kept[-1:] != [shown]:
            kept.append(shown)
    return kept


def pattern(text: str) -> str:
    """A text with tokens as a regular expression."""
    parts = TOKEN.split(text)
    return "".join(_token_pattern(part) if n % 2 else re.escape(part) for n, part in enumerate(parts))


def _token_pattern(token: str) -> str:
    if token.startswith("UPID:"):
        return f"UPID:pve1:{HEX}{{8}}:{HEX}{{8,9}}:{HEX}{{8}}:{re.escape(token.removeprefix('UPID:'))}:"
    return PATTERNS.get(token, r".+?")


def _is_number_token(expected: str, actual: Any) -> bool:
    is_number = isinstance(actual, int | float) and not isinstance(actual, bool)
    return is_number and expected in ("<N>", "<PID>", "<TIME>")


def _members(text: str) -> list[str]:
    return sorted(re.split(r"[,;]", text))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _dict_differences(expected: dict[str, Any], actual: Any, where: str) -> list[str]:
    if not isinstance(actual, dict):
        return [f"{where}: recorded an object, got {actual!r}"]
    found = [f"{where}: {key!r} is missing" for key in expected if key not in actual]
    found += [f"{where}: {key!r} is not in the record: {actual[key]!r}" for key in actual if key not in expected]
    for key in expected.keys() & actual.keys():
        found += differences(expected[key], actual[key], f"{where}.{key}")
    return found


def _list_differences(expected: list[Any], actual: Any, where: str) -> list[str]:
    if not isinstance(actual, list):
        return [f"{where}: recorded a list, got {actual!r}"]
    left = list(actual)
    found: list[str] = []
    for item in expected:
        reasons: list[list[str]] = [differences(item, one, f"{where}[]") for one in left]
        hit = next((n for n, reason in enumerate(reasons) if not reason), None)
        if hit is not None:
            del left[hit]
        else:
            closest: list[str] = min(reasons, key=len) if reasons else [f"{where}: {item!r} is missing"]
            found += closest
    return found + ([] if found else [f"{where}: not in the record: {one!r}" for one in left])
