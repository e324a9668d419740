"""How kubectl shows objects: tables, JSON, YAML, names, JSONPath."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from pvelab.guest import jsonpath
from pvelab.guest.kube_objects import Document
from pvelab.guest.kube_resources import Resource
from pvelab.guest.kube_table import cells_of, columns_of

Row = list[str]
_LEAST_WIDTH, _GAP = 6, 3
_FORMATS = (
    "custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,"
    "name,template,templatefile,wide,yaml"
)
_ESCAPED = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


class BadOutput(Exception):
    """An output format that kubectl does not know; the text is its complaint."""


@dataclass(frozen=True, slots=True)
class Style:
    """What is asked for: -o's value, a list or one object, namespaces or kinds before the names, a line of titles."""

    output: str = ""
    is_list: bool = True
    has_namespaces: bool = False
    has_titles: bool = True
    has_kinds: bool = False


def show(documents: Sequence[Document], resource: Resource, style: Style, now: float) -> str:
    """Objects in the wanted format, without the last newline. Raises BadOutput."""
    output = style.output
    if output in ("json", "yaml") or output.startswith("jsonpath"):
        document = _as_list(documents) if style.is_list else documents[0]
        return _serialized(document, output)
    if output == "name":
        return "\n".join(f"{resource.shown}/{document['metadata']['name']}" for document in documents)
    if output.startswith("custom-columns="):
        return _custom(documents, output.removeprefix("custom-columns="))
    if output not in ("", "wide"):
        text = f'unable to match a printer suitable for the output format "{output}"'
        raise BadOutput(f"error: {text}, allowed formats are: {_FORMATS}")
    return table(_rows(documents, resource, style, now))


def _serialized(document: Document, output: str) -> str:
    if output == "json":
        return _indented(json.dumps(document, sort_keys=True, ensure_ascii=False))
    if output == "yaml":
        return yaml.dump(document, Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=float("inf")).rstrip("\n")
    try:
        return jsonpath.render(output.partition("=")[2], document)
    except jsonpath.BadTemplate as problem:
        raise BadOutput(f"error: error parsing jsonpath {output.partition('=')[2]}, {problem}") from problem


@lru_cache(maxsize=64)
def _indented(text: str) -> str:
    """JSON as kubectl prints it. Most answers are those of a moment ago, and spacing them out takes the most time."""
    return json.dumps(json.loads(text), indent=4, ensure_ascii=False).translate(_ESCAPED)


class _Dumper(yaml.SafeDumper):
    """Writes a text that would be read as something else between double quotes, as Go does."""


def _is_ambiguous(value: str) -> bool:
    resolvers = _Dumper.yaml_implicit_resolvers
    return any(pattern.match(value) for _, pattern in [*resolvers.get(value[:1], []), *resolvers.get(None, [])])


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else '"' if _is_ambiguous(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def table(rows: Sequence[Row]) -> str:
    """Columns as wide as their widest cell, three spaces between them."""
    if not rows:
        return ""
    widths = [max(_LEAST_WIDTH, _GAP + max(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    lines = ("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _as_list(documents: Sequence[Document]) -> Document:
    return {"apiVersion": "v1", "items": list(documents), "kind": "List", "metadata": {"resourceVersion": ""}}


def _custom(documents: Sequence[Document], columns: str) -> str:
    pairs = [column.partition(":") for column in columns.split(",")]
    rows = [[heading for heading, _, _ in pairs]]
    for document in documents:
        found: list[list[Any]] = [jsonpath.select(path, document) for _, _, path in pairs]
        rows.append([",".join(str(value) for value in values) or "<none>" for values in found])
    return table(rows)


def _rows(documents: Sequence[Document], resource: Resource, style: Style, now: float) -> list[Row]:
    columns = columns_of(resource.plural)
    chosen = [place for place, column in enumerate(columns) if style.output == "wide" or not column.is_wide]
    rows = [[columns[place].title.upper() for place in chosen]] if style.has_titles else []
    for document in documents:
        cells = cells_of(document, resource.plural, now)
        rows.append([str(cells[place]) for place in chosen])
        if style.has_kinds:
            rows[-1][0] = f"{resource.shown}/{rows[-1][0]}"
    if style.has_namespaces:
        first = ["NAMESPACE"] if style.has_titles else []
        names = [*first, *(document["metadata"].get("namespace", "") for document in documents)]
        rows = [[name, *row] for name, row in zip(names, rows, strict=True)]
    return rows
