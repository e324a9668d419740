"""The Kubernetes API of one k3s server: who may ask, and what the answers are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pvelab.guest import kube_derived, kube_discovery, kube_nodes, kube_pods, kube_rbac, kube_writes
from pvelab.guest.kube_objects import Document, KubeError, not_found
from pvelab.guest.kube_openapi import openapi
from pvelab.guest.kube_patch import patched
from pvelab.guest.kube_rbac import Wish
from pvelab.guest.kube_requests import Place, Request, Served, User, place_of
from pvelab.guest.kube_table import table_document
from pvelab.guest.kube_watch import History, Told
from pvelab.guest.kube_writes import Change, Removal, Target
from pvelab.guest.timestamps import timestamp

if TYPE_CHECKING:
    from pvelab.guest.k3s_cluster import Cluster

_TOKEN_S, _LEAST_TOKEN_S = 3600, 600
_HEALTH = ("/readyz", "/livez", "/healthz")
_NO_QUORUM_S = 10.0
_KUBELET_PORT = 10250
_WATCH_S = 1800
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_UNAVAILABLE = "the server is currently unable to handle the request"
_UNKNOWN_PATH = "the server could not find the requested resource"
_UNSERVED = ("attach", "exec", "portforward", "proxy")
"""What can be done with a pod, and is refused here by name."""
_TOLD_ALL = {"k8s.io/initial-events-end": "true"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    kind: str = "application/json"


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer without end: one JSON document after the other, for at most so many lab seconds."""

    events: AsyncIterator[bytes]
    timeout_s: float
    status: int = 200


@dataclass(slots=True, eq=False)
class KubeApi:
    """Answers for the server at `address`; `sleep` lets lab time pass, `record` is told of every request."""

    cluster: Cluster
    address: str
    sleep: Callable[[float], Awaitable[None]]
    record: Callable[[Served], None] = lambda _: None
    _history: History | None = field(default=None)

    async def answer(self, request: Request) -> Answer | Stream:
        """Answer one request; every refusal is a Status object."""
        try:
            found = await self._answered(request)
        except KubeError as error:
            found = failure(error)
        self.record(Served(self._name, request.method, request.path, found.status))
        if isinstance(found, Answer) and request.is_pretty and found.kind == "application/json":
            return replace(found, body=_json(json.loads(found.body), indent=2))
        return found

    def close(self) -> None:
        """The server is gone."""
        if self._history:
            self._history.close()

    async def _answered(self, request: Request) -> Answer | Stream:
        if request.user is None:
            raise KubeError(401, "Unauthorized", "Unauthorized")
        place = place_of(request.path)
        if not kube_rbac.may(self.cluster.store, request.user, _wish(request, place)):
            raise _forbidden(request, place, request.user)
        if self._history is None:
            self._history = History(self.cluster.store)
        told = self._about_itself(request)
        if told:
            return told
        if place is None and "/pods/" in request.path and request.path.rpartition("/")[2] in _UNSERVED:
            raise _not_implemented(request)
        derived = kube_derived.answer(request, self.cluster) if place is None else None
        if derived:
            return Answer(derived[0], _json(derived[1]))
        if place is None:
            raise KubeError(404, "NotFound", _UNKNOWN_PATH)
        if not self.cluster.is_available:
            await self.sleep(_NO_QUORUM_S)
            raise KubeError(503, "ServiceUnavailable", _UNAVAILABLE)
        if request.method in ("GET", "HEAD"):
            return self._read(request, place, self._history)
        return self._written(request, place)

    # --- about the server ---

    def _about_itself(self, request: Request) -> Answer | None:
        if request.method not in ("GET", "HEAD"):
            return None
        path = request.path.rstrip("/") or "/"
        if path in _HEALTH:
            has_quorum, is_verbose = self.cluster.is_available, "verbose" in request.query
            status, text = kube_discovery.health(path, has_quorum=has_quorum, is_verbose=is_verbose)
            return Answer(status, text.encode(), "text/plain; charset=utf-8")
        if path == "/version":
            return Answer(200, _json(kube_discovery.version(self._version), indent=2))
        if request.accepts(kube_discovery.AGGREGATED):
            whole = kube_discovery.aggregated(path)
            if whole:
                return Answer(200, _json(whole), kube_discovery.AGGREGATED)
        described = openapi(path, self._version)
        if described:
            return Answer(200, described[1], described[0])
        plain = kube_discovery.discovery(path, self.address)
        return Answer(200, _json(plain)) if plain else None

    @property
    def _name(self) -> str:
        server = self.cluster.servers.get(self.address)
        return server.node_name if server else self.address

    @property
    def _version(self) -> str:
        server = self.cluster.servers.get(self.address)
        return server.version if server else self.cluster.lowest_version

    # --- reading ---

    def _read(self, request: Request, place: Place, history: History) -> Answer | Stream:
        resource, store = place.resource, self.cluster.store
        if request.is_watch:
            return Stream(self._events(request, place, history), request.number("timeoutSeconds", _WATCH_S))
        if place.subresource in ("eviction", "token"):
            raise _not_implemented(request)
        if place.subresource == "log":
            return self._logged(place)
        if place.name:
            found = (
                self._lease(place) if place.is_lease else store.get(resource.plural, place.name, place.namespace or "")
            )
            return Answer(200, _json(self._shaped(request, place, [found], found)))
        held = kube_derived.leases(self.cluster) if place.is_lease else store.list(resource.plural, place.namespace)
        documents = [one for one in held if place.is_wanted(one, request.query)]
        for document in documents:
            del document["kind"], document["apiVersion"]
        listed = {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": {"resourceVersion": str(store.version)},
            "items": documents,
        }
        return Answer(200, _json(self._shaped(request, place, documents, listed)))

    def _lease(self, place: Place) -> Document:
        for one in kube_derived.leases(self.cluster):
            if (one["metadata"]["name"], one["metadata"]["namespace"]) == (place.name, place.namespace):
                return one
        raise not_found("leases", place.name)

    def _logged(self, place: Place) -> Answer:
        """What a pod's container has written, which is nothing; its kubelet has to be reached for it."""
        store = self.cluster.store
        pod = store.get("pods", place.name, place.namespace or "")
        node = store.find("nodes", pod["spec"].get("nodeName", ""))
        if node is None or not kube_nodes.is_ready(node):
            kubelet = f"{pod['status'].get('hostIP', '')}:{_KUBELET_PORT}"
            where = (
                f"https://{kubelet}/containerLogs/{place.namespace}/{place.name}/{pod['spec']['containers'][0]['name']}"
            )
            text = f'Get "{where}": proxy error from 127.0.0.1:6443 while dialing {kubelet}, code 502: 502 Bad Gateway'
            raise KubeError(500, "", text)
        return Answer(200, b"", "text/plain")

    def _shaped(self, request: Request, place: Place, documents: list[Document], plain: Document) -> Document:
        """A table of the objects if that is wanted, else the plain answer."""
        if not request.wants_table:
            return plain
        shown = request.query.get("includeObject", "Metadata")
        table = table_document(documents, place.resource.plural, self.cluster.timer.now(), shown)
        return table | {"metadata": {"resourceVersion": plain["metadata"]["resourceVersion"]}}

    async def _events(self, request: Request, place: Place, history: History) -> AsyncIterator[bytes]:
        has_columns = True
        try:
            async for kind, document in self._told(request, place, history):
                shown = document
                if request.wants_table and kind != "BOOKMARK":
                    shown = self._shaped(request, place, [document], document)
                    if not has_columns:
                        shown["columnDefinitions"] = None
                    has_columns = False
                yield _json({"type": kind, "object": shown})
        except KubeError as error:
            yield _json({"type": "ERROR", "object": status_document(error)})

    async def _told(self, request: Request, place: Place, history: History) -> AsyncIterator[Told]:
        store, resource = self.cluster.store, place.resource

        def is_wanted(document: Document) -> bool:
            return place.is_wanted(document, request.query)

        since = request.number("resourceVersion", 0)
        if not since or request.is_set("sendInitialEvents"):
            since = store.version
            for document in filter(is_wanted, store.list(resource.plural, place.namespace)):
                yield "ADDED", document
            if request.is_set("sendInitialEvents"):
                metadata = {"resourceVersion": str(since), "annotations": _TOLD_ALL}
                yield "BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        async for told in history.follow(resource.plural, since, is_wanted):
            yield told

    # --- writing ---

    def _written(self, request: Request, place: Place) -> Answer:
        verb = _VERBS.get(request.method, "")
        if place.subresource == "eviction" and verb == "create":
            return self._evict(request, place)
        if place.subresource == "token" and verb == "create":
            return self._give_token(request, place)
        if verb not in place.resource.verbs or bool(place.name) == (verb == "create"):
            raise _not_implemented(request)
        target = Target(place.resource, place.name, place.namespace or "", place.subresource)
        if verb == "create":
            return self._create(request, place)
        if verb == "delete":
            return self._delete(request, target)
        change = _patching(request) if verb == "patch" else _replacing(request, place)
        changed = kube_writes.update(self.cluster, target, change, is_dry=request.is_dry)
        return Answer(200, _json(self._shaped(request, place, [changed], changed)))

    def _create(self, request: Request, place: Place) -> Answer:
        document = _whole(request.document(), place)
        if place.namespace is not None:
            document["metadata"]["namespace"] = place.namespace
        created = kube_writes.create(self.cluster, place.resource, document, is_dry=request.is_dry)
        return Answer(201, _json(created))

    def _delete(self, request: Request, target: Target) -> Answer:
        options = request.document()
        conditions = options.get("preconditions") or {}
        grace_s = request.number("gracePeriodSeconds", 0) if "gracePeriodSeconds" in request.query else None
        removal = Removal(
            options.get("gracePeriodSeconds", grace_s),
            conditions.get("uid", ""),
            conditions.get("resourceVersion", ""),
            request.is_dry or options.get("dryRun") == ["All"],
        )
        uid = self.cluster.store.get(target.resource.plural, target.name, target.namespace)["metadata"]["uid"]
        left = kube_writes.remove(self.cluster, target, removal)
        if left:
            return Answer(200, _json(left))
        resource = target.resource
        group = {"group": resource.group} if resource.group else {}
        details = {"name": target.name} | group | {"kind": resource.plural, "uid": uid}
        return Answer(200, _json(_success(200) | {"details": details}))

    def _evict(self, request: Request, place: Place) -> Answer:
        options = request.document().get("deleteOptions") or {}
        pod = self.cluster.store.get("pods", place.name, place.namespace or "")
        if not (request.is_dry or options.get("dryRun") == ["All"]):
            kube_pods.evict(self.cluster, pod, options.get("gracePeriodSeconds"))
        return Answer(201, _json(_success(201)))

    def _give_token(self, request: Request, place: Place) -> Answer:
        """TokenRequest: a token for a service account, for as long as is asked for."""
        store, now = self.cluster.store, self.cluster.timer.now()
        store.get("serviceaccounts", place.name, place.namespace or "")
        lasts_s = (request.document().get("spec") or {}).get("expirationSeconds") or _TOKEN_S
        if lasts_s < _LEAST_TOKEN_S:
            text = "may not specify a duration less than 10 minutes"
            raise KubeError(422, "Invalid", f"spec.expirationSeconds: Invalid value: {lasts_s}: {text}")
        token = self.cluster.service_tokens.issue(place.namespace or "", place.name, now + lasts_s)
        status = {"expirationTimestamp": timestamp(now + lasts_s), "token": token}
        kind = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
        metadata = {"name": place.name, "namespace": place.namespace}
        return Answer(
            201, _json(kind | {"metadata": metadata, "spec": {"expirationSeconds": lasts_s}, "status": status})
        )


def _patching(request: Request) -> Change:
    return lambda held: patched(held, request.content_type, request.body)


def _replacing(request: Request, place: Place) -> Change:
    wanted = _whole(request.document(), place)
    return lambda _held: wanted


def _whole(document: Document, place: Place) -> Document:
    """An object as a client sends it whole. Raises KubeError."""
    kind = place.resource.kind
    if document.get("kind") != kind:
        text = f'{document.get("kind", "")} in version "{place.resource.version}" cannot be handled as a {kind}'
        raise KubeError(400, "BadRequest", text)
    if not isinstance(document.get("metadata"), dict) or not document["metadata"].get("name"):
        raise KubeError(422, "Invalid", f'{kind} "" is invalid: metadata.name: Required value: name is required')
    return document


def failure(error: KubeError, indent: int | None = None) -> Answer:
    """An error as the API server sends it."""
    return Answer(error.code, _json(status_document(error), indent))


def status_document(error: KubeError) -> Document:
    """The Status object of an error."""
    document: Document = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.message,
        "reason": error.reason,
    }
    return document | ({"details": error.details} if error.details else {}) | {"code": error.code}


def _success(code: int) -> Document:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}


def _not_implemented(request: Request) -> KubeError:
    return KubeError(501, "NotImplemented", f"Method '{request.method} {request.path}' not implemented")


def _wish(request: Request, place: Place | None) -> Wish:
    """What a request wants, as roles name it."""
    if place is None:
        return kube_derived.wish(request) or Wish(request.method.lower(), path=request.path)
    verb = _VERBS.get(request.method) or ("watch" if request.is_watch else "get" if place.name else "list")
    kind = f"{place.resource.plural}/{place.subresource}" if place.subresource else place.resource.plural
    return Wish(verb, place.resource.group, kind, place.namespace or "", place.name)


def _forbidden(request: Request, place: Place | None, user: User) -> KubeError:
    wish = _wish(request, place)
    if place is None:
        text = f'forbidden: User "{user.name}" cannot {request.method.lower()} path "{request.path}"'
        return KubeError(403, "Forbidden", text)
    resource, verb = place.resource, wish.verb
    subject = f'{resource.qualified} "{place.name}"' if place.name else resource.qualified
    where = f'in the namespace "{place.namespace}"' if place.namespace else "at the cluster scope"
    text = (
        f'{subject} is forbidden: User "{user.name}" cannot {verb} resource "{wish.resource}" '
        f'in API group "{resource.group}" {where}'
    )
    return KubeError(403, "Forbidden", text, {"name": place.name, "kind": resource.plural} if place.name else None)


def _json(document: Mapping[str, Any], indent: int | None = None) -> bytes:
    separators = (",", ":") if indent is None else None
    return json.dumps(document, separators=separators, indent=indent, ensure_ascii=False).encode() + b"\n"
