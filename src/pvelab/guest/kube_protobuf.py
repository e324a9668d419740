"""Objects in protobuf, as kubectl sends some kinds of them: the few of which the lab knows the fields.

Source: k8s.io/api, generated.proto of each group; the envelope is runtime.Unknown behind the letters k8s and a zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"
_VARINT, _BYTES = 0, 2
_META = {1: "name", 3: "namespace"}
_RESOURCE = {1: "namespace", 2: "verb", 3: "group", 4: "version", 5: "resource", 6: "subresource", 7: "name"}
_RULE = {1: ["verbs"], 2: ["apiGroups"], 3: ["resources"], 4: ["resourceNames"], 5: ["nonResourceURLs"]}
_SUBJECT = {1: "kind", 2: "apiGroup", 3: "name", 4: "namespace"}
_REFERENCE = {1: "apiGroup", 2: "kind", 3: "name"}
Shape = Mapping[int, Any]
"""By field number: a name for a text or number, (name, shape) for a message; in a list where there may be several."""
_REVIEW = {1: ("resourceAttributes", _RESOURCE), 2: ("nonResourceAttributes", {1: "path", 2: "verb"})}
_BINDING: Shape = {1: ("metadata", _META), 2: [("subjects", _SUBJECT)], 3: ("roleRef", _REFERENCE)}
_ROLE: Shape = {1: ("metadata", _META), 2: [("rules", _RULE)]}
_KINDS: Mapping[str, Shape] = {
    "SelfSubjectAccessReview": {1: ("metadata", _META), 2: ("spec", _REVIEW)},
    "SelfSubjectReview": {1: ("metadata", _META)},
    "TokenRequest": {1: ("metadata", _META), 2: ("spec", {4: "expirationSeconds"})},
    "ServiceAccount": {1: ("metadata", _META)},
    "ClusterRole": _ROLE,
    "Role": _ROLE,
    "ClusterRoleBinding": _BINDING,
    "RoleBinding": _BINDING,
}


class Unreadable(ValueError):
    """No object in protobuf, or one of a kind whose fields the lab does not know."""


def decode(body: bytes) -> dict[str, Any]:
    """The object as JSON would have it. Raises Unreadable."""
    if not body.startswith(_MAGIC):
        raise Unreadable("it does not begin as an object in protobuf does")
    try:
        envelope = _message(body[len(_MAGIC) :], {1: ("type", {1: "apiVersion", 2: "kind"})})
        raw = next((value for number, value in _fields(body[len(_MAGIC) :]) if number == _BYTES), b"")
        kind = envelope.get("type", {})
        shape = _KINDS[kind.get("kind", "")]
        document: dict[str, Any] = {"metadata": {}} | kind | _message(raw if isinstance(raw, bytes) else b"", shape)
        return document
    except (IndexError, KeyError, UnicodeDecodeError) as problem:
        raise Unreadable(f"{type(problem).__name__}: {problem}") from problem


def _message(data: bytes, shape: Shape) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _fields(data):
        if number not in shape:
            continue
        wanted = shape[number]
        one = wanted[0] if isinstance(wanted, list) else wanted
        name, inner = one if isinstance(one, tuple) else (one, None)
        shown = value if isinstance(value, int) else _message(value, inner) if inner else value.decode()
        if isinstance(wanted, list):
            found.setdefault(name, []).append(shown)
        elif shown != "":
            found[name] = shown
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field. Raises IndexError for what is cut off, KeyError for other wire types."""
    position = 0
    while position < len(data):
        tag, position = _number(data, position)
        value, position = _number(data, position)
        if tag & 7 == _VARINT:
            yield tag >> 3, value
        elif tag & 7 == _BYTES:
            if position + value > len(data):
                raise IndexError("cut off")
            yield tag >> 3, data[position : position + value]
            position += value
        else:
            raise KeyError(f"wire type {tag & 7}")


def _number(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, position
