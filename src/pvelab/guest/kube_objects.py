"""Kubernetes objects as their API holds them: versions, finalizers, owners; written as plain JSON documents."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pvelab.guest import kube_resources
from pvelab.guest.timestamps import timestamp

T = TypeVar("T")
Document = dict[str, Any]
Listener = Callable[[str, str, Document], None]
"""Told of (ADDED | MODIFIED | DELETED, resource, document)."""


def copied(document: Document) -> Document:
    """A document that shares nothing with the given one which could be altered."""
    return copied_value(document)


def copied_value(value: T) -> T:
    """The same for any part of a document. They are copied all the time, and pickle does it in a third of the time."""
    duplicate: T = pickle.loads(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    return duplicate


class KubeError(Exception):
    """An answer of the API server other than success; `reason` and `details` as in a Status object."""

    def __init__(self, code: int, reason: str, message: str, details: Document | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}


def details_of(resource: str, name: str) -> Document:
    """The details of a Status that is about one object."""
    found = kube_resources.resource(resource)
    return {"name": name} | ({"group": found.group} if found.group else {}) | {"kind": found.plural}


def not_found(resource: str, name: str) -> KubeError:
    """404 in the API server's words."""
    qualified = kube_resources.resource(resource).qualified
    return KubeError(404, "NotFound", f'{qualified} "{name}" not found', details_of(resource, name))


def conflict(resource: str, name: str, why: str) -> KubeError:
    """409 in the API server's words."""
    qualified = kube_resources.resource(resource).qualified
    text = f'Operation cannot be fulfilled on {qualified} "{name}": {why}'
    return KubeError(409, "Conflict", text, details_of(resource, name))


@dataclass(slots=True)
class ObjectStore:
    """All objects of one cluster by (resource, namespace, name). Documents given out are copies."""

    now: Callable[[], float]
    version: int = 1
    listeners: list[Listener] = field(default_factory=list)
    _objects: dict[tuple[str, str, str], Document] = field(default_factory=dict)

    def find(self, resource: str, name: str, namespace: str = "") -> Document | None:
        """A copy of the object, if it exists."""
        found = self._objects.get((resource, namespace, name))
        return copied(found) if found is not None else None

    def get(self, resource: str, name: str, namespace: str = "") -> Document:
        """A copy of the object. Raises KubeError (NotFound)."""
        found = self.find(resource, name, namespace)
        if found is None:
            raise not_found(resource, name)
        return found

    def list(self, resource: str, namespace: str | None = None) -> list[Document]:
        """Copies of all objects of a kind, by name; of one namespace or of all."""
        return [copied(found) for found in self._of(resource, namespace)]

    def create(self, resource: str, document: Document) -> Document:
        """Add an object. Raises KubeError (AlreadyExists)."""
        metadata = document["metadata"]
        key = (resource, metadata.get("namespace", ""), metadata["name"])
        if key in self._objects:
            qualified = kube_resources.resource(resource).qualified
            text = f'{qualified} "{metadata["name"]}" already exists'
            raise KubeError(409, "AlreadyExists", text, details_of(resource, metadata["name"]))
        held = copied(document)
        held["metadata"].update(creationTimestamp=timestamp(self.now()), uid=str(uuid.uuid4()))
        self._objects[key] = held
        return self._changed("ADDED", resource, held)

    def change(self, resource: str, name: str, edit: Callable[[Document], None], namespace: str = "") -> Document:
        """Let `edit` alter the object in place; an object whose last finalizer went while being deleted goes too."""
        held = self._objects.get((resource, namespace, name))
        if held is None:
            raise not_found(resource, name)
        before = copied(held)
        edit(held)
        if held == before:
            return before
        metadata = held["metadata"]
        is_due = "deletionTimestamp" in metadata and not metadata.get("deletionGracePeriodSeconds")
        if is_due and not metadata.get("finalizers"):
            return self._remove(resource, held)
        return self._changed("MODIFIED", resource, held)

    def delete(self, resource: str, name: str, namespace: str = "", grace_s: int = 0) -> Document:
        """Remove an object, or mark it as being deleted while it has finalizers or grace. Raises KubeError (NotFound).

        grace_s: what somebody else, who removes it in the end, has to clean up.
        """
        held = self._objects.get((resource, namespace, name))
        if held is None:
            raise not_found(resource, name)
        metadata = held["metadata"]
        if not metadata.get("finalizers") and not grace_s:
            return self._remove(resource, held)
        if "deletionTimestamp" not in metadata:
            due = timestamp(self.now() + grace_s)
            metadata.update(deletionTimestamp=due, deletionGracePeriodSeconds=grace_s)
            self._changed("MODIFIED", resource, held)
        return copied(held)

    def _of(self, resource: str, namespace: str | None) -> Iterator[Document]:
        for key in sorted(self._objects):
            if key[0] == resource and namespace in (None, key[1]):
                yield self._objects[key]

    def _remove(self, resource: str, held: Document) -> Document:
        metadata = held["metadata"]
        del self._objects[(resource, metadata.get("namespace", ""), metadata["name"])]
        return self._changed("DELETED", resource, held)

    def _changed(self, event: str, resource: str, held: Document) -> Document:
        self.version += 1
        held["metadata"]["resourceVersion"] = str(self.version)
        given = copied(held)
        for listener in list(self.listeners):
            listener(event, resource, given)
        return given
