"""How kubectl shows objects: tables, JSON, YAML, names, JSONPath."""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from pvelab.guest import jsonpath, kube_nodes
from pvelab.guest.kube_objects import Document

Row = list[str]
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


class BadOutput(Exception):
    """An output format that kubectl does not know; the text is its complaint."""


def show(documents: Sequence[Document], resource: str, output: str, *, is_list: bool, now: float) -> str:
    """Objects in the wanted format, without the last newline. Raises BadOutput."""
    if output in ("json", "yaml") or output.startswith("jsonpath"):
        document = _as_list(documents) if is_list else documents[0]
        return _serialized(document, output)
    if output == "name":
        kind = resource.removesuffix("s")
        return "\n".join(f"{kind}/{document['metadata']['name']}" for document in documents)
    if output.startswith("custom-columns="):
        return _custom(documents, output.removeprefix("custom-columns="))
    if output not in ("", "wide"):
        formats = "custom-columns,custom-columns-file,go-template,json,jsonpath,name,wide,yaml"
        raise BadOutput(
            f"error: unable to match a printer suitable for the output format {output!r}, allowed: {formats}"
        )
    return table(_rows(documents, resource, now, is_wide=output == "wide"))


def _serialized(document: Document, output: str) -> str:
    if output == "json":
        return json.dumps(document, indent=4)
    if output == "yaml":
        return yaml.safe_dump(document, sort_keys=True).rstrip("\n")
    try:
        return jsonpath.render(output.partition("=")[2], document)
    except jsonpath.BadTemplate as problem:
        raise BadOutput(f"error: error parsing jsonpath {output.partition('=')[2]}, {problem}") from problem


def table(rows: Sequence[Row]) -> str:
    """Columns as wide as their widest cell, three spaces between them."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def age(timestamp: str, now: float) -> str:
    """How long ago, in kubectl's short form."""
    seconds = max(0, int(now - calendar.timegm(time.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ"))))
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    if seconds < 10 * _MINUTE:
        return f"{seconds // _MINUTE}m" + (f"{seconds % _MINUTE}s" if seconds % _MINUTE else "")
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 8 * _HOUR:
        return f"{seconds // _HOUR}h" + (f"{seconds % _HOUR // _MINUTE}m" if seconds % _HOUR >= _MINUTE else "")
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    if seconds < 8 * _DAY:
        return f"{seconds // _DAY}d" + (f"{seconds % _DAY // _HOUR}h" if seconds % _DAY >= _HOUR else "")
    return f"{seconds // _DAY}d"


def _as_list(documents: Sequence[Document]) -> Document:
    return {"apiVersion": "v1", "items": list(documents), "kind": "List", "metadata": {"resourceVersion": ""}}


def _custom(documents: Sequence[Document], columns: str) -> str:
    pairs = [column.partition(":") for column in columns.split(",")]
    rows = [[heading for heading, _, _ in pairs]]
    for document in documents:
        found = [jsonpath.select(path, document) for _, _, path in pairs]
        rows.append([",".join(str(value) for value in values) or "<none>" for values in found])
    return table(rows)


def _rows(documents: Sequence[Document], resource: str, now: float, *, is_wide: bool) -> list[Row]:
    head, cells = _COLUMNS.get(resource, (["NAME", "AGE"], lambda _: []))
    rows = [[*head]]
    for document in documents:
        metadata = document["metadata"]
        shown = {"NAME": metadata["name"], "AGE": age(metadata["creationTimestamp"], now)}
        rest = iter(cells(document))
        rows.append([shown[title] if title in shown else next(rest) for title in head])
    if is_wide and resource == "nodes":
        rows[0] += ["INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"]
        for row, document in zip(rows[1:], documents, strict=True):
            row += _wide(document)
    return rows


def _node(document: Document) -> Row:
    ready = kube_nodes.condition(document, "Ready")
    state = "Ready" if ready and ready["status"] == "True" else "NotReady"
    if document["spec"].get("unschedulable"):
        state += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = sorted(label.removeprefix(prefix) for label in document["metadata"]["labels"] if label.startswith(prefix))
    return [state, ",".join(roles) or "<none>", document["status"]["nodeInfo"]["kubeletVersion"]]


def _wide(document: Document) -> Row:
    addresses = {one["type"]: one["address"] for one in document["status"]["addresses"]}
    info = document["status"]["nodeInfo"]
    texts = [info[name] for name in ("osImage", "kernelVersion", "containerRuntimeVersion")]
    return [addresses.get("InternalIP", "<none>"), addresses.get("ExternalIP", "<none>"), *texts]


def _secret(document: Document) -> Row:
    return [document["type"], str(len(document["data"]))]


def _namespace(document: Document) -> Row:
    return [document["status"]["phase"]]


_COLUMNS: dict[str, tuple[Row, Callable[[Any], Row]]] = {
    "nodes": (["NAME", "STATUS", "ROLES", "AGE", "VERSION"], _node),
    "secrets": (["NAME", "TYPE", "DATA", "AGE"], _secret),
    "namespaces": (["NAME", "STATUS", "AGE"], _namespace),
}
