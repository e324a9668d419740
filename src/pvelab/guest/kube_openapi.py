"""The little of OpenAPI that kubectl needs before it sends an object: that the server itself checks the fields.

Version 3 as JSON for kubectl from 1.27 on; version 2 in protobuf's wire format for those before.
"""

from __future__ import annotations

import json

from pvelab.guest.kube_objects import Document
from pvelab.guest.kube_resources import GROUPS, RESOURCES, Resource

V2_KIND = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_TITLE = "Kubernetes"
_LENGTH_DELIMITED = 2
_CHECKED = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string", "uniqueItems": True}}]


def openapi(path: str, version: str) -> tuple[str, bytes] | None:
    """Media type and body at /openapi/...; None if nothing is there."""
    if path == "/openapi/v2":
        return V2_KIND, _version_2(version)
    if path == "/openapi/v3":
        paths = {place: {"serverRelativeURL": f"/openapi/v3/{place}?hash={version}"} for place in _places()}
        return "application/json", json.dumps({"paths": paths}).encode()
    found = _places().get(path.removeprefix("/openapi/v3/"))
    return ("application/json", json.dumps(_version_3(found, version)).encode()) if found else None


def _places() -> dict[str, list[Resource]]:
    found: dict[str, list[Resource]] = {}
    for group, version in (("", "v1"), *GROUPS):
        place = f"apis/{group}/{version}" if group else f"api/{version}"
        found[place] = [one for one in RESOURCES if (one.group, one.version) == (group, version)]
    return found


def _version_3(resources: list[Resource], version: str) -> Document:
    paths: Document = {}
    for one in resources:
        prefix = f"/apis/{one.group}/{one.version}" if one.group else f"/api/{one.version}"
        inside = "/namespaces/{namespace}" if one.is_namespaced else ""
        kind = {"group": one.group, "version": one.version, "kind": one.kind}
        paths[f"{prefix}{inside}/{one.plural}/{{name}}"] = {
            "patch": {"parameters": _CHECKED, "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": kind}
        }
    return {"openapi": "3.0.0", "info": {"title": _TITLE, "version": version}, "paths": paths}


def _version_2(version: str) -> bytes:
    """A document with swagger (1), info (2: title, version) and paths (8), of which there are none."""
    info = _field(1, _TITLE.encode()) + _field(2, version.encode())
    return _field(1, b"2.0") + _field(2, info) + _field(8, b"")


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | _LENGTH_DELIMITED, len(content)]) + content
