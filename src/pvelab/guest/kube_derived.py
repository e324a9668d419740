"""What a k3s server tells without storing it: the metrics of nodes and pods, leases, and who may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvelab.guest import kube_nodes, kube_rbac
from pvelab.guest.kube_objects import Document, KubeError
from pvelab.guest.kube_rbac import Wish
from pvelab.guest.kube_requests import Request
from pvelab.guest.timestamps import timestamp

if TYPE_CHECKING:
    from pvelab.guest.k3s_cluster import Cluster

METRICS_GROUP, METRICS_VERSION = "metrics.k8s.io", "v1beta1"
LEASES = "kube-node-lease"
_METRICS = f"/apis/{METRICS_GROUP}/{METRICS_VERSION}"
_WINDOW = "10.043s"
_NODE_CPU, _POD_CPU = "112m", "2m"
_NODE_MEMORY, _POD_MEMORY = "1236416Ki", "18432Ki"
_KINDS = (("nodes", "NodeMetrics", False), ("pods", "PodMetrics", True))
_REVIEWS = {
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": "SelfSubjectAccessReview",
    "/apis/authentication.k8s.io/v1/selfsubjectreviews": "SelfSubjectReview",
}


def answer(request: Request, cluster: Cluster) -> tuple[int, Document] | None:
    """Status and document of a request about metrics or about oneself; None for any other. Raises KubeError."""
    if request.path in _REVIEWS and request.method == "POST":
        return 201, _review(request, cluster)
    parts = request.path.removeprefix(_METRICS).strip("/").split("/")
    if request.method != "GET" or not request.path.startswith(f"{_METRICS}/"):
        return None
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    plural, name = [*parts, ""][:2]
    if plural not in ("nodes", "pods"):
        return None
    items = _node_metrics(cluster) if plural == "nodes" else _pod_metrics(cluster, namespace)
    if name:
        return 200, _one(items, name, plural)
    kind = "NodeMetricsList" if plural == "nodes" else "PodMetricsList"
    return 200, {"kind": kind, "apiVersion": f"{METRICS_GROUP}/{METRICS_VERSION}", "metadata": {}, "items": items}


def metrics_resources() -> Document:
    """The discovery document of the metrics' group."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{METRICS_GROUP}/{METRICS_VERSION}",
        "resources": [
            {"name": plural, "singularName": "", "namespaced": inside, "kind": kind, "verbs": ["get", "list"]}
            for plural, kind, inside in _KINDS
        ],
    }


def metrics_aggregated() -> list[Document]:
    """The same as clients from 1.26 on ask for it."""
    return [
        {
            "resource": plural,
            "responseKind": {"group": METRICS_GROUP, "version": METRICS_VERSION, "kind": kind},
            "scope": "Namespaced" if inside else "Cluster",
            "singularResource": "",
            "verbs": ["get", "list"],
        }
        for plural, kind, inside in _KINDS
    ]


def leases(cluster: Cluster) -> list[Document]:
    """One for each Node, renewed while its kubelet lives."""
    return [_lease(cluster, node) for node in cluster.store.list("nodes")]


def _lease(cluster: Cluster, node: Document) -> Document:
    metadata = node["metadata"]
    ready = kube_nodes.condition(node, "Ready") or {}
    seen = timestamp(cluster.timer.now()) if kube_nodes.is_ready(node) else ready.get("lastHeartbeatTime", "")
    owner = {"apiVersion": "v1", "kind": "Node", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "kind": "Lease",
        "apiVersion": "coordination.k8s.io/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": LEASES,
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
            "ownerReferences": [owner],
        },
        "spec": {
            "holderIdentity": metadata["name"],
            "leaseDurationSeconds": 40,
            "renewTime": seen.replace("Z", ".000000Z") if seen else None,
        },
    }


def wish(request: Request) -> Wish | None:
    """What a request about metrics or oneself wants, as roles name it; None for any other."""
    if request.path in _REVIEWS:
        group, _, resource = request.path.split("/")[2:5]
        return Wish("create", group, resource)
    if not request.path.startswith(f"{_METRICS}/"):
        return None
    parts = request.path.removeprefix(_METRICS).strip("/").split("/")
    namespace = parts[1] if parts[0] == "namespaces" and len(parts) > 2 else ""
    plural, name = [*(parts[2:] if namespace else parts), ""][:2]
    return Wish("get" if name else "list", METRICS_GROUP, plural, namespace, name)


def _review(request: Request, cluster: Cluster) -> Document:
    kind = _REVIEWS[request.path]
    version = "/".join(request.path.split("/")[2:4])
    user = request.user
    about = {"username": user.name, "groups": sorted(user.groups)} if user else {}
    status: Document = (
        {"userInfo": about} if kind == "SelfSubjectReview" else {"allowed": _is_allowed(request, cluster)}
    )
    return {"kind": kind, "apiVersion": version, "metadata": {}, "spec": {}, "status": status}


def _is_allowed(request: Request, cluster: Cluster) -> bool:
    """What `kubectl auth can-i` asks."""
    spec = request.document().get("spec") or {}
    asked, path = spec.get("resourceAttributes") or {}, spec.get("nonResourceAttributes") or {}
    kind = "/".join(one for one in (asked.get("resource", ""), asked.get("subresource", "")) if one)
    wanted = Wish(
        asked.get("verb", ""), asked.get("group", ""), kind, asked.get("namespace", ""), asked.get("name", "")
    )
    if path:
        wanted = Wish(path.get("verb", ""), path=path.get("path", ""))
    return request.user is not None and kube_rbac.may(cluster.store, request.user, wanted)


def _node_metrics(cluster: Cluster) -> list[Document]:
    usage = {"cpu": _NODE_CPU, "memory": _NODE_MEMORY}
    return [
        _measured(cluster, node["metadata"]) | {"kind": "NodeMetrics", "usage": dict(usage)}
        for node in cluster.store.list("nodes")
        if kube_nodes.is_ready(node)
    ]


def _pod_metrics(cluster: Cluster, namespace: str) -> list[Document]:
    ready = {node["metadata"]["name"] for node in cluster.store.list("nodes") if kube_nodes.is_ready(node)}
    usage = {"cpu": _POD_CPU, "memory": _POD_MEMORY}
    return [
        _measured(cluster, pod["metadata"])
        | {
            "kind": "PodMetrics",
            "containers": [{"name": one["name"], "usage": dict(usage)} for one in pod["spec"]["containers"]],
        }
        for pod in cluster.store.list("pods", namespace or None)
        if pod["spec"].get("nodeName") in ready and pod["status"].get("phase") == "Running"
    ]


def _measured(cluster: Cluster, metadata: Document) -> Document:
    kept = {name: metadata[name] for name in ("name", "namespace", "creationTimestamp", "labels") if name in metadata}
    return {
        "apiVersion": f"{METRICS_GROUP}/{METRICS_VERSION}",
        "metadata": kept,
        "timestamp": timestamp(cluster.timer.now()),
        "window": _WINDOW,
    }


def _one(items: list[Document], name: str, plural: str) -> Document:
    found = next((one for one in items if one["metadata"]["name"] == name), None)
    if found is None:
        text = f'{plural}.{METRICS_GROUP} "{name}" not found'
        raise KubeError(404, "NotFound", text, {"name": name, "group": METRICS_GROUP, "kind": plural})
    return found
