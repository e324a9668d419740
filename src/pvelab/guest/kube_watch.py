"""What happened to a cluster's objects, to be followed from any version that is still remembered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from pvelab.guest.kube_objects import Document, KubeError, ObjectStore, copied
from pvelab.guest.kube_resources import RESOURCES

REMEMBERED_EVENTS = 1000

Filter = Callable[[Document], bool]
Told = tuple[str, Document]
"""What a follower is told: ADDED, MODIFIED or DELETED, and the object."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change; `before` is the object as it was."""

    version: int
    kind: str
    resource: str
    document: Document
    before: Document | None

    def as_seen(self, is_wanted: Filter) -> Told | None:
        """The change for somebody who sees only the objects that are wanted; None if it does not show."""
        was_seen = self.before is not None and is_wanted(self.before)
        is_seen = self.kind != "DELETED" and is_wanted(self.document)
        if is_seen:
            return ("MODIFIED" if was_seen else "ADDED", self.document)
        return ("DELETED", self.document) if was_seen else None


class History:
    """The latest changes of a store, from when this was made."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._oldest = store.version
        self._events: deque[Event] = deque(maxlen=REMEMBERED_EVENTS)
        self._last = {
            self._key(resource.plural, document): document
            for resource in RESOURCES
            for document in store.list(resource.plural)
        }
        self._wakers: set[asyncio.Event] = set()
        store.listeners.append(self._note)

    def close(self) -> None:
        """Remember no further."""
        self._store.listeners.remove(self._note)

    async def follow(self, resource: str, since: int, is_wanted: Filter) -> AsyncIterator[Told]:
        """Every change after version `since`, without end. Raises KubeError (Expired) when that is too long ago."""
        if since < self._oldest:
            raise KubeError(410, "Expired", f"too old resource version: {since} ({self._oldest})")
        waker = asyncio.Event()
        self._wakers.add(waker)
        try:
            while True:
                waker.clear()
                for event in [one for one in self._events if one.version > since]:
                    since = event.version
                    told = event.as_seen(is_wanted) if event.resource == resource else None
                    if told:
                        yield told
                if not self._events or self._events[-1].version <= since:
                    await waker.wait()
        finally:
            self._wakers.discard(waker)

    def _note(self, kind: str, resource: str, document: Document) -> None:
        key, held = self._key(resource, document), copied(document)
        event = Event(int(document["metadata"]["resourceVersion"]), kind, resource, held, self._last.get(key))
        if kind == "DELETED":
            self._last.pop(key, None)
        else:
            self._last[key] = held
        if len(self._events) == REMEMBERED_EVENTS:
            self._oldest = self._events[0].version
        self._events.append(event)
        for waker in self._wakers:
            waker.set()

    @staticmethod
    def _key(resource: str, document: Document) -> tuple[str, str, str]:
        metadata = document["metadata"]
        return (resource, metadata.get("namespace", ""), metadata["name"])
