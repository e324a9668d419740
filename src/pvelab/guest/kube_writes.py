"""What a write through the Kubernetes API does, whoever sends it: kubectl from outside or k3s's own on a server."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pvelab.guest import kube_nodes, kube_pods, kube_resources
from pvelab.guest.kube_objects import Document, KubeError, conflict, details_of
from pvelab.guest.kube_resources import Resource

if TYPE_CHECKING:
    from pvelab.guest.k3s_cluster import Cluster

Change = Callable[[Document], Document]
_KEPT = ("uid", "creationTimestamp", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds")
_NODE_SPEC = ("unschedulable", "taints")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_PROTECTED_NAMESPACES = ("default", "kube-public", "kube-system")
_QUALIFIED_NAME = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]{,61})?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{,61})?[A-Za-z0-9])?")
_BAD_NAME = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_BAD_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
_NODE_FORBIDDEN = "spec: Forbidden: node updates may only change labels, taints, or capacity"


@dataclass(frozen=True, slots=True)
class Target:
    """One object, or with a subresource one side of it."""

    resource: Resource
    name: str
    namespace: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Removal:
    """How to delete: None as grace means the kind's own; `uid` and `resource_version` must be the object's if given."""

    grace_s: int | None = None
    uid: str = ""
    resource_version: str = ""
    is_dry: bool = False


def update(cluster: Cluster, target: Target, change: Change, *, is_dry: bool = False) -> Document:
    """Let `change` say what an object is to be, and keep what may be kept of that. Raises KubeError."""
    resource = target.resource
    held = cluster.store.get(resource.plural, target.name, target.namespace)
    wanted = _allowed(target, held, change(held))
    if resource.plural == "nodes":
        kube_nodes.keep_unschedulable_taint(wanted, cluster.timer.now())
    if is_dry:
        return wanted

    def edit(document: Document) -> None:
        document.clear()
        document.update(wanted)

    return cluster.store.change(resource.plural, target.name, edit, target.namespace)


def edit(cluster: Cluster, target: Target, alter: Callable[[Document], None]) -> Document:
    """Let `alter` change a copy of the object in place, then update the object with it. Raises KubeError."""

    def change(document: Document) -> Document:
        alter(document)
        return document

    return update(cluster, target, change)


def create(cluster: Cluster, resource: Resource, document: Document, *, is_dry: bool = False) -> Document:
    """Add an object. Raises KubeError."""
    metadata = document["metadata"]
    if resource.is_namespaced:
        cluster.store.get("namespaces", metadata["namespace"])
    _check_shape(document)
    _check_texts(resource, metadata["name"], document)
    for name in _KEPT:
        metadata.pop(name, None)
    if resource.plural == "namespaces":
        metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = metadata["name"]
        document |= {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    return document if is_dry else cluster.store.create(resource.plural, document)


def remove(cluster: Cluster, target: Target, removal: Removal) -> Document | None:
    """Delete an object; returned while it is still there, None when it is gone. Raises KubeError."""
    resource, store = target.resource, cluster.store
    held = store.get(resource.plural, target.name, target.namespace)
    _check_precondition(target, held, removal)
    if resource.plural == "namespaces" and target.name in _PROTECTED_NAMESPACES:
        text = f'namespaces "{target.name}" is forbidden: this namespace may not be deleted'
        raise KubeError(403, "Forbidden", text, details_of("namespaces", target.name))
    if removal.is_dry:
        return held
    if resource.plural == "pods":
        kube_pods.terminate(cluster, held, removal.grace_s)
    else:
        if resource.plural == "namespaces":
            _empty(cluster, target.name)
        store.delete(resource.plural, target.name, target.namespace)
    return store.find(resource.plural, target.name, target.namespace)


def _empty(cluster: Cluster, namespace: str) -> None:
    """What is in a namespace goes with it."""
    for resource in kube_resources.RESOURCES:
        for document in cluster.store.list(resource.plural, namespace) if resource.is_namespaced else []:
            cluster.store.delete(resource.plural, document["metadata"]["name"], namespace)


def _check_precondition(target: Target, held: Document, removal: Removal) -> None:
    metadata = held["metadata"]
    pairs = (("UID", "uid", removal.uid), ("ResourceVersion", "resourceVersion", removal.resource_version))
    for title, field, wanted in pairs:
        if wanted and wanted != metadata[field]:
            why = f"Precondition failed: {title} in precondition: {wanted}, {title} in object meta: {metadata[field]}"
            raise conflict(target.resource.plural, target.name, why)


def _allowed(target: Target, held: Document, wanted: Document) -> Document:
    """What an update may make of an object. Raises KubeError."""
    _check_shape(wanted)
    before, after = held["metadata"], wanted["metadata"]
    if after.get("name") != target.name:
        text = f"the name of the object ({after.get('name')}) does not match the name on the URL ({target.name})"
        raise KubeError(400, "BadRequest", text)
    if after.get("resourceVersion") not in (None, before["resourceVersion"]):
        raise conflict(target.resource.plural, target.name, _MODIFIED)
    if after.get("uid") not in (None, before["uid"]):
        uids = f"UID in precondition: {after['uid']}, UID in object meta: {before['uid']}"
        raise conflict(target.resource.plural, target.name, f"Precondition failed: {uids}")
    if "deletionTimestamp" in before and set(after.get("finalizers", [])) - set(before.get("finalizers", [])):
        text = "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted"
        raise _invalid(target, text)
    kept = {name: before[name] for name in _KEPT if name in before}
    metadata = {name: value for name, value in after.items() if name not in _KEPT and value not in ({}, [], None)}
    if target.resource.plural == "nodes":
        metadata = {"annotations": {}, "finalizers": [], "labels": {}} | metadata
    result = wanted | {"metadata": metadata | kept, "apiVersion": held["apiVersion"], "kind": held["kind"]}
    if "status" in target.resource.subresources:
        result = _one_side(target, held, result)
    _check_texts(target.resource, target.name, result)
    _check_kind(target, held, result)
    return result


def _check_shape(document: Document) -> None:
    """What is counted on everywhere must be of its type. Raises KubeError."""
    metadata = document["metadata"]
    for field in ("labels", "annotations"):
        held = metadata.get(field) or {}
        if not isinstance(held, dict) or not all(isinstance(value, str) for value in held.values()):
            raise _misshapen(f"ObjectMeta.metadata.{field}", "map[string]string")
    if not isinstance(metadata.get("finalizers") or [], list):
        raise _misshapen("ObjectMeta.metadata.finalizers", "[]string")
    for field in ("spec", "status"):
        if not isinstance(document.get(field, {}), dict):
            raise _misshapen(f".{field}", "object")
    taints = document.get("spec", {}).get("taints") or []
    if not isinstance(taints, list) or not all(isinstance(taint, dict) for taint in taints):
        raise _misshapen("NodeSpec.spec.taints", "[]v1.Taint")


def _misshapen(field: str, kind: str) -> KubeError:
    text = f"cannot restore struct from: json: cannot unmarshal into Go struct field {field} of type {kind}"
    return KubeError(400, "BadRequest", text)


def _one_side(target: Target, held: Document, wanted: Document) -> Document:
    """An update of an object leaves its status alone, one of its status all the rest."""
    own, other = (wanted, held) if target.subresource == "status" else (held, wanted)
    result = dict(other)
    result.pop("status", None)
    return result | ({"status": own["status"]} if "status" in own else {})


def _check_kind(target: Target, held: Document, wanted: Document) -> None:
    if target.resource.plural == "nodes":
        for field in held["spec"].keys() | wanted.get("spec", {}).keys():
            if field not in _NODE_SPEC and held["spec"].get(field) != wanted.get("spec", {}).get(field):
                raise _invalid(target, _NODE_FORBIDDEN)
        _check_taints(target, wanted.get("spec", {}).get("taints") or [])
    if target.resource.plural == "secrets" and held.get("immutable") and held.get("data") != wanted.get("data"):
        raise _invalid(target, "data: Forbidden: field is immutable when `immutable` is set")


def _check_taints(target: Target, taints: list[Document]) -> None:
    seen = set()
    for position, taint in enumerate(taints):
        where, effect = f"metadata.taints[{position}]", taint.get("effect", "")
        if not _QUALIFIED_NAME.fullmatch(taint.get("key", "")):
            raise _invalid(target, f'{where}.key: Invalid value: "{taint.get("key", "")}": {_BAD_NAME}')
        if effect not in _EFFECTS:
            supported = ", ".join(f'"{one}"' for one in sorted(_EFFECTS))
            raise _invalid(target, f'{where}.effect: Unsupported value: "{effect}": supported values: {supported}')
        if (taint["key"], effect) in seen:
            raise _invalid(target, f"{where}: Duplicate value: taints must be unique by key and effect pair")
        seen.add((taint["key"], effect))


def _check_texts(resource: Resource, name: str, document: Document) -> None:
    target = Target(resource, name)
    metadata = document["metadata"]
    for field in ("labels", "annotations"):
        for key, value in (metadata.get(field) or {}).items():
            if not _QUALIFIED_NAME.fullmatch(key):
                raise _invalid(target, f'metadata.{field}: Invalid value: "{key}": {_BAD_NAME}')
            if field == "labels" and not _LABEL_VALUE.fullmatch(value):
                raise _invalid(target, f'metadata.labels: Invalid value: "{value}": {_BAD_VALUE}')


def _invalid(target: Target, text: str) -> KubeError:
    details = details_of(target.resource.plural, target.name) | {"kind": target.resource.kind}
    return KubeError(422, "Invalid", f'{target.resource.kind} "{target.name}" is invalid: {text}', details)
