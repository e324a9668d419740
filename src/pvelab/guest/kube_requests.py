"""A request to the Kubernetes API taken apart: what it is about, and in which form its answer is wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pvelab.guest import kube_protobuf, kube_resources, kube_selectors
from pvelab.guest.kube_objects import Document, KubeError
from pvelab.guest.kube_resources import Resource

_SHOWING = ("curl", "Wget", "Mozilla/5.0")
_TRUE = ("1", "true", "True")


@dataclass(frozen=True, slots=True)
class User:
    """Whom a client certificate names."""

    name: str
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    accept: str = ""
    content_type: str = ""
    body: bytes = b""
    user: User | None = None
    agent: str = ""

    @property
    def is_pretty(self) -> bool:
        """To be read by a person: the client asks for it, or is one that shows what it gets."""
        return self.is_set("pretty") or self.agent.startswith(_SHOWING)

    def is_set(self, name: str) -> bool:
        """Is this parameter true?"""
        return self.query.get(name, "") in _TRUE

    @property
    def is_watch(self) -> bool:
        """To be followed, not answered once."""
        return self.method == "GET" and self.is_set("watch")

    @property
    def is_dry(self) -> bool:
        """Nothing is to be kept of what it does."""
        return self.query.get("dryRun") == "All"

    @property
    def wants_table(self) -> bool:
        """Is a table wanted before anything else?"""
        return "as=Table" in self.accept.partition(",")[0]

    def number(self, name: str, otherwise: int) -> int:
        """This parameter as a number. Raises KubeError."""
        text = self.query.get(name) or str(otherwise)
        if not text.isdecimal():
            raise KubeError(400, "BadRequest", f'strconv.ParseInt: parsing "{text}": invalid syntax')
        return int(text)

    def accepts(self, kind: str) -> bool:
        """Is this media type, with its parameters, one of those wanted?"""
        return kind in [one.strip() for one in self.accept.split(",")]

    def document(self) -> Document:
        """The object in the body. Raises KubeError."""
        if self.content_type == kube_protobuf.MEDIA_TYPE:
            try:
                return kube_protobuf.decode(self.body)
            except kube_protobuf.Unreadable as problem:
                raise KubeError(415, "UnsupportedMediaType", f"the lab cannot read this object: {problem}") from problem
        if self.content_type not in ("", "application/json"):
            text = "the body of the request was in an unknown format - accepted media types include: application/json"
            raise KubeError(415, "UnsupportedMediaType", text)
        try:
            document = json.loads(self.body) if self.body else {}
        except ValueError as problem:
            raise KubeError(400, "BadRequest", f"couldn't get version/kind; json parse error: {problem}") from problem
        if not isinstance(document, dict):
            raise KubeError(400, "BadRequest", "Object 'Kind' is missing in the body of the request")
        return document


@dataclass(frozen=True, slots=True)
class Served:
    """What a server was asked, and the status of its answer."""

    node: str
    method: str
    path: str
    status: int


@dataclass(frozen=True, slots=True)
class Place:
    """What a path of the API is about; no name: all objects of the kind, of one namespace if it is named."""

    resource: Resource
    namespace: str | None = None
    name: str = ""
    subresource: str = ""

    @property
    def is_lease(self) -> bool:
        """One of those that are told without being stored?"""
        return self.resource.plural == "leases"

    def is_wanted(self, document: Document, query: Mapping[str, str]) -> bool:
        """Does a request with these selectors mean the object? Raises KubeError."""
        if self.namespace not in (None, document["metadata"].get("namespace", "")):
            return False
        if self.name not in ("", document["metadata"]["name"]):
            return False
        return kube_selectors.fits(document, query.get("labelSelector", "")) and kube_selectors.has_fields(
            document, query.get("fieldSelector", ""), self.resource
        )


def place_of(path: str) -> Place | None:
    """What is at /api/v1/... or /apis/GROUP/VERSION/...; None if nothing is served there."""
    prefix, *parts = path.strip("/").split("/")
    group, version, *parts = ("", *parts, "", "") if prefix == "api" else (*parts, "", "", "")
    parts = [part for part in parts if part]
    namespace: str | None = None
    if parts[:1] == ["namespaces"] and len(parts) > 2 and kube_resources.served(group, version, parts[2]):
        namespace, parts = parts[1], parts[2:]
    resource = kube_resources.served(group, version, parts[0]) if parts else None
    if resource is None or len(parts) > 3 or (namespace is not None and not resource.is_namespaced):
        return None
    name, subresource = [*parts[1:], "", ""][:2]
    if (name and resource.is_namespaced and namespace is None) or subresource not in ("", *resource.subresources):
        return None
    return Place(resource, namespace, name, subresource)
