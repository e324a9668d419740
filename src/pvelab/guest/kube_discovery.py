"""What the Kubernetes API server tells of itself: groups, resources, version, health."""

from __future__ import annotations

from pvelab.guest.k3s_release import commit_of, kubernetes_minor
from pvelab.guest.kube_derived import METRICS_GROUP, METRICS_VERSION, metrics_aggregated, metrics_resources
from pvelab.guest.kube_objects import Document
from pvelab.guest.kube_resources import GROUPS, RESOURCES, Resource

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_CREATED = {
    "eviction": {"group": "policy", "version": "v1", "kind": "Eviction"},
    "token": {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"},
}
_STATUS_VERBS = ["get", "patch", "update"]
_CHECKS = ("ping", "log", "etcd", "poststarthook/start-apiextensions-informers", "poststarthook/rbac/bootstrap-roles")


def discovery(path: str, address: str) -> Document | None:
    """The plain discovery document at a path; None if there is none."""
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": _reachable_at(address)}
    if path == "/apis":
        groups = [_group(name) for name in dict.fromkeys([*(name for name, _ in GROUPS), METRICS_GROUP])]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    if path == f"/apis/{METRICS_GROUP}":
        return {"kind": "APIGroup", "apiVersion": "v1"} | _group(METRICS_GROUP)
    if path == f"/apis/{METRICS_GROUP}/{METRICS_VERSION}":
        return metrics_resources()
    for name, version in (("", "v1"), *GROUPS):
        if name and path == f"/apis/{name}":
            return {"kind": "APIGroup", "apiVersion": "v1"} | _group(name)
        if path == (f"/apis/{name}/{version}" if name else f"/api/{version}"):
            return _resources(name, version)
    return None


def aggregated(path: str) -> Document | None:
    """/api or /apis with everything below it, as clients from 1.26 on ask for it; None for another path."""
    if path not in ("/api", "/apis"):
        return None
    groups = (*GROUPS, (METRICS_GROUP, METRICS_VERSION)) if path == "/apis" else (("", "v1"),)
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": name} if name else {},
                "versions": [{"version": version, "resources": _aggregated(name, version), "freshness": "Current"}],
            }
            for name, version in groups
        ],
    }


def health(path: str, *, has_quorum: bool, is_verbose: bool) -> tuple[int, str]:
    """Status and text of /readyz, /livez or /healthz."""
    checks = [
        f"[+]{name} ok" if has_quorum or name != "etcd" else f"[-]{name} failed: reason withheld" for name in _CHECKS
    ]
    word = path.strip("/")
    if not has_quorum:
        return 500, "\n".join([*checks, f"{word} check failed", ""])
    return 200, "\n".join([*checks, f"{word} check passed", ""]) if is_verbose else "ok"


def version(name: str) -> Document:
    """What /version says."""
    major, minor = kubernetes_minor(name)
    return {
        "major": str(major),
        "minor": str(minor),
        "gitVersion": name,
        "gitCommit": commit_of(name) * 5,
        "gitTreeState": "clean",
        "goVersion": "go1.24.6",
        "compiler": "gc",
        "platform": "linux/amd64",
    }


def _reachable_at(address: str) -> list[Document]:
    return [{"clientCIDR": "0.0.0.0/0", "serverAddress": f"{address}:6443"}]


def _group(name: str) -> Document:
    versions = [
        {"groupVersion": f"{group}/{version}", "version": version}
        for group, version in (*GROUPS, (METRICS_GROUP, METRICS_VERSION))
        if group == name
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _of(group: str, version: str) -> list[Resource]:
    return [one for one in RESOURCES if (one.group, one.version) == (group, version)]


def _resources(group: str, version: str) -> Document:
    found: list[Document] = []
    for resource in _of(group, version):
        found.append(_described(resource))
        for name in resource.subresources:
            verbs, kind = _side(resource, name)
            beside = {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.is_namespaced}
            found.append(beside | kind | {"verbs": verbs})
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": found,
    }


def _described(resource: Resource) -> Document:
    document: Document = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.is_namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    return document | _lists(resource)


def _lists(resource: Resource) -> Document:
    found = {"shortNames": list(resource.short), "categories": list(resource.categories)}
    return {name: value for name, value in found.items() if value}


def _side(resource: Resource, name: str) -> tuple[list[str], Document]:
    """Verbs and kind of a subresource."""
    if name == "log":
        return ["get"], {"kind": resource.kind}
    created = _CREATED.get(name)
    return (["create"], dict(created)) if created else (list(_STATUS_VERBS), {"kind": resource.kind})


def _aggregated(group: str, version: str) -> list[Document]:
    if group == METRICS_GROUP:
        return metrics_aggregated()
    found: list[Document] = []
    for resource in _of(group, version):
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        sides = [(name, *_side(resource, name)) for name in resource.subresources]
        document: Document = {
            "resource": resource.plural,
            "responseKind": kind,
            "scope": "Namespaced" if resource.is_namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": list(resource.verbs),
        }
        if sides:
            document["subresources"] = [
                {"subresource": name, "responseKind": kind | own, "verbs": verbs} for name, verbs, own in sides
            ]
        found.append(document | _lists(resource))
    return found
