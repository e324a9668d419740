"""kubectl's JSONPath templates: fields, indexes, wildcards, filters, range, quoted text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_STEP = re.compile(
    r"""\.?\[\?\((?P<filter>[^)]*)\)\]|\.?\[(?P<index>-?\d+)\]|\.?\[(?P<all>\*)\]|\.(?P<star>\*)
    |\.?\['(?P<quoted>[^']*)'\]|\.(?P<name>(?:[\w/-]|\\.)+)""",
    re.VERBOSE,
)
_FILTER = re.compile(r"""@(?P<path>[^=!<>]*?)\s*(?P<sign>==|!=)\s*["']?(?P<value>[^"']*)["']?""")


class BadTemplate(Exception):
    """A template that cannot be read; the text is kubectl's."""


def render(template: str, document: Any) -> str:
    """The template filled in from a document. Raises BadTemplate."""
    text = template if "{" in template else "{" + template + "}"
    return "".join(_render(_parts(text), document))


def select(path: str, document: Any) -> list[Any]:
    """All values at a path such as .status.conditions[?(@.type=="Ready")].status. Raises BadTemplate."""
    path = path.removeprefix("$").removeprefix("@")
    if path and path[0] not in ".[":
        path = f".{path}"
    found = [document]
    while path:
        step = _STEP.match(path)
        if not step or not step[0]:
            if path == ".":
                break
            raise BadTemplate(f"error parsing jsonpath {path}, unrecognized character")
        found = [value for one in found for value in _follow(step, one)]
        path = path[step.end() :]
    return found


def _follow(step: re.Match[str], value: Any) -> Iterator[Any]:
    name = step["quoted"] if step["quoted"] is not None else step["name"]
    if name is not None:
        plain = name.replace("\\", "")
        if isinstance(value, dict) and plain in value:
            yield value[plain]
    elif step["all"] or step["star"]:
        yield from value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    elif step["index"] is not None:
        if isinstance(value, list) and -len(value) <= int(step["index"]) < len(value):
            yield value[int(step["index"])]
    elif isinstance(value, list):
        yield from (one for one in value if _fits(step["filter"], one))


def _fits(condition: str, value: Any) -> bool:
    found = _FILTER.fullmatch(condition.strip())
    if not found:
        raise BadTemplate(f"unrecognized character in filter: {condition}")
    is_equal = found["value"] in [_text(one) for one in select(found["path"], value)]
    return is_equal == (found["sign"] == "==")


def _parts(text: str) -> list[str]:
    """Alternating literal text and {...} parts; the latter keep their braces."""
    parts = re.split(r"(\{(?:[^{}\"']|\"[^\"]*\"|'[^']*')*\})", text)
    return [part for part in parts if part]


def _render(parts: list[str], document: Any) -> Iterator[str]:
    left = list(parts)
    while left:
        part = left.pop(0)
        inner = part[1:-1].strip() if part.startswith("{") else None
        if inner is None:
            yield part
        elif inner.startswith("range "):
            body = _until_end(left)
            for value in select(inner.removeprefix("range ").strip(), document):
                yield from _render(body, value)
        elif inner[:1] in ('"', "'"):
            yield inner[1:-1].replace("\\n", "\n").replace("\\t", "\t")
        else:
            yield " ".join(_text(value) for value in select(inner, document))


def _until_end(left: list[str]) -> list[str]:
    depth = 1
    body: list[str] = []
    while left:
        part = left.pop(0)
        depth += part.startswith("{range ") - (part == "{end}")
        if not depth:
            return body
        body.append(part)
    raise BadTemplate("unclosed action")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))
