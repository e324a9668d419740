"""The three ways in which a client may send a change: JSON patch, merge patch, strategic merge patch."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pvelab.guest.kube_objects import Document, KubeError, copied, copied_value

_MERGE_KEYS = {
    "addresses": "type",
    "conditions": "type",
    "containers": "name",
    "containerStatuses": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""Lists whose items a strategic merge knows by a key; other lists, taints too, are replaced as a whole."""
_MERGED_TEXTS = ("finalizers", "podCIDRs")
_DELETE_FROM, _ORDER, _RETAIN = "$deleteFromPrimitiveList/", "$setElementOrder/", "$retainKeys"


def patched(document: Document, kind: str, body: bytes) -> Document:
    """The document with a patch of that content type applied. Raises KubeError."""
    apply = _PATCHES.get(kind)
    if apply is None:
        accepted = ", ".join(sorted(_PATCHES))
        text = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        raise KubeError(415, "UnsupportedMediaType", text)
    try:
        patch = json.loads(body)
    except ValueError as problem:
        raise KubeError(400, "BadRequest", f"error decoding patch: {problem}") from problem
    changed = apply(copied(document), patch)
    if not isinstance(changed, dict) or not isinstance(changed.get("metadata"), dict):
        raise KubeError(400, "BadRequest", "the patch leaves no object")
    return changed


def merged(held: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = held if isinstance(held, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def strategically_merged(held: Any, patch: Any) -> Any:
    """Kubernetes' own merge, with its directives ($patch, $retainKeys, ...)."""
    if not isinstance(patch, dict):
        return patch
    plain = {name: value for name, value in patch.items() if not name.startswith("$")}
    if patch.get("$patch") == "replace":
        return plain
    result = held if isinstance(held, dict) else {}
    for name, value in patch.items():
        if name.startswith(_DELETE_FROM):
            field = name.removeprefix(_DELETE_FROM)
            result[field] = [one for one in result.get(field) or [] if one not in value]
    for name, value in plain.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, list):
            result[name] = _merged_list(name, result.get(name) or [], value)
        else:
            result[name] = strategically_merged(result.get(name), value)
    for name, value in patch.items():
        if name.startswith(_ORDER):
            _put_in_order(result, name.removeprefix(_ORDER), value)
    return {name: value for name, value in result.items() if name in patch.get(_RETAIN, result)}


def _merged_list(field: str, held: list[Any], patch: list[Any]) -> list[Any]:
    if field in _MERGED_TEXTS:
        return [*held, *(one for one in patch if one not in held)]
    key = _MERGE_KEYS.get(field)
    if key is None:
        return patch
    if {"$patch": "replace"} in patch:
        return [one for one in patch if one != {"$patch": "replace"}]
    items = {one.get(key): one for one in held}
    for one in patch:
        if one.get("$patch") == "delete":
            items.pop(one.get(key), None)
        else:
            items[one.get(key)] = strategically_merged(items.get(one.get(key)), one)
    return list(items.values())


def _put_in_order(document: Document, field: str, order: list[Any]) -> None:
    """Items that the order names come in it; the others stay behind them."""
    key = _MERGE_KEYS.get(field, "")
    wanted = [one.get(key) if isinstance(one, dict) else one for one in order]

    def place(item: Any) -> int:
        name = item.get(key) if isinstance(item, dict) else item
        return wanted.index(name) if name in wanted else len(wanted)

    if field in document:
        document[field] = sorted(document[field], key=place)


def json_patched(document: Any, operations: Any) -> Any:
    """RFC 6902. Raises KubeError."""
    try:
        for operation in operations:
            document = _operated(document, operation)
    except (KeyError, IndexError, TypeError, ValueError) as problem:
        text = "the server rejected our request due to an error in our request"
        raise KubeError(422, "Invalid", text) from problem
    return document


def _operated(document: Any, operation: Document) -> Any:
    kind, path = operation["op"], _steps(operation["path"])
    if kind == "test":
        if _value_at(document, path) != operation["value"]:
            raise ValueError(operation["path"])
        return document
    value = operation.get("value")
    if kind in ("move", "copy"):
        value = copied_value(_value_at(document, _steps(operation["from"])))
    if kind == "move":
        _remove_at(document, _steps(operation["from"]))
    if kind == "remove":
        _remove_at(document, path)
    elif kind in ("add", "move", "copy"):
        _add_at(document, path, value)
    elif kind == "replace":
        _value_at(document, path)
        _remove_at(document, path)
        _add_at(document, path, value)
    else:
        raise ValueError(kind)
    return document


def _steps(pointer: str) -> list[str]:
    if not pointer.startswith("/"):
        raise ValueError(pointer)
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/")]


def _value_at(document: Any, path: list[str]) -> Any:
    for step in path:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def _remove_at(document: Any, path: list[str]) -> None:
    parent = _value_at(document, path[:-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]


def _add_at(document: Any, path: list[str], value: Any) -> None:
    parent, last = _value_at(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else int(last), value)
    else:
        parent[last] = value


_PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    "application/json-patch+json": json_patched,
    "application/merge-patch+json": merged,
    "application/strategic-merge-patch+json": strategically_merged,
}
