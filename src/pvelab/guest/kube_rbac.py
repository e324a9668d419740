"""Who may do what: users from certificates and service accounts, roles and bindings as the cluster holds them.

Source: Kubernetes, plugin/pkg/auth/authorizer/rbac; the default roles are those of its bootstrap policy.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pvelab.guest.kube_objects import Document, ObjectStore
from pvelab.guest.kube_resources import RBAC as GROUP

if TYPE_CHECKING:
    from pvelab.guest.kube_requests import User

ADMINS, AUTHENTICATED, ACCOUNTS = "system:masters", "system:authenticated", "system:serviceaccounts"
READ = ["get", "list", "watch"]
_VIEWED = ["configmaps", "events", "namespaces", "persistentvolumeclaims", "pods", "pods/log", "pods/status"]
_VIEWED += ["serviceaccounts", "services", "services/status"]
_DISCOVERED = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
]
_BOOTSTRAP: dict[str, list[Document]] = {
    "cluster-admin": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ],
    "view": [
        {"apiGroups": [""], "resources": _VIEWED, "verbs": READ},
        {"apiGroups": ["apps", "batch", "networking.k8s.io", "policy"], "resources": ["*"], "verbs": READ},
    ],
    "system:basic-user": [
        {
            "apiGroups": ["authorization.k8s.io", "authentication.k8s.io"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectreviews"],
            "verbs": ["create"],
        }
    ],
    "system:discovery": [{"nonResourceURLs": _DISCOVERED, "verbs": ["get", "head"]}],
}
_BINDINGS = {"cluster-admin": ADMINS, "system:basic-user": AUTHENTICATED, "system:discovery": AUTHENTICATED}


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to do: a verb on a resource (or RESOURCE/SUBRESOURCE), or on a path that is none."""

    verb: str
    group: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """What the bearer of a token is, until it ends (Unix time)."""

    namespace: str
    name: str
    expires_at: float

    @property
    def user(self) -> str:
        """The name of the service account among users."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def groups(self) -> frozenset[str]:
        """The groups that every service account is in."""
        return frozenset({ACCOUNTS, f"{ACCOUNTS}:{self.namespace}", AUTHENTICATED})


@dataclass(slots=True)
class ServiceTokens:
    """The tokens that a cluster has given out."""

    held: dict[str, ServiceToken] = field(default_factory=dict)

    def issue(self, namespace: str, name: str, expires_at: float) -> str:
        """A new token, in the form of a signed JSON web token."""
        claims = {"exp": int(expires_at), "sub": f"system:serviceaccount:{namespace}:{name}"}
        parts = (json.dumps({"alg": "RS256"}).encode(), json.dumps(claims).encode(), secrets.token_bytes(64))
        text = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
        self.held[text] = ServiceToken(namespace, name, expires_at)
        return text

    def find(self, text: str, store: ObjectStore, now: float) -> ServiceToken | None:
        """Whom a token speaks for; None once it has ended or its service account is gone."""
        found = self.held.get(text)
        if found is None or found.expires_at <= now:
            return None
        return found if store.find("serviceaccounts", found.name, found.namespace) else None


def bootstrap(store: ObjectStore) -> None:
    """Make the roles and bindings that every cluster has."""
    for name, rules in _BOOTSTRAP.items():
        store.create(
            "clusterroles", {"apiVersion": f"{GROUP}/v1", "kind": "ClusterRole"} | _named(name, {"rules": rules})
        )
    for name, group in _BINDINGS.items():
        subject = {"apiGroup": GROUP, "kind": "Group", "name": group}
        role = {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}
        kind = {"apiVersion": f"{GROUP}/v1", "kind": "ClusterRoleBinding"}
        store.create("clusterrolebindings", kind | _named(name, {"roleRef": role, "subjects": [subject]}))


def may(store: ObjectStore, user: User, wish: Wish) -> bool:
    """Does any role that is bound to the user allow it?"""
    return ADMINS in user.groups or any(_fits(rule, wish) for rule in _rules(store, user, wish.namespace))


def _rules(store: ObjectStore, user: User, namespace: str) -> Iterator[Document]:
    for binding in store.list("clusterrolebindings"):
        if _binds(binding, user):
            yield from _role(store, binding["roleRef"], "")
    for binding in store.list("rolebindings", namespace) if namespace else []:
        if _binds(binding, user):
            yield from _role(store, binding["roleRef"], namespace)


def _role(store: ObjectStore, reference: Document, namespace: str) -> list[Document]:
    plural = "roles" if reference["kind"] == "Role" else "clusterroles"
    found = store.find(plural, reference["name"], namespace if plural == "roles" else "")
    rules: list[Document] = (found or {}).get("rules") or []
    return rules


def _binds(binding: Document, user: User) -> bool:
    for subject in binding.get("subjects") or []:
        kind, name = subject.get("kind"), subject.get("name", "")
        account = f"system:serviceaccount:{subject.get('namespace', '')}:{name}"
        if (kind, name) == ("User", user.name) or (kind == "Group" and name in user.groups):
            return True
        if kind == "ServiceAccount" and account == user.name:
            return True
    return False


def _fits(rule: Document, wish: Wish) -> bool:
    if not _has(rule, "verbs", wish.verb):
        return False
    if wish.path:
        given = rule.get("nonResourceURLs") or []
        return any(one in ("*", wish.path) or (one[-1:] == "*" and wish.path.startswith(one[:-1])) for one in given)
    names = rule.get("resourceNames") or []
    subresource = wish.resource.partition("/")[2]
    kinds = {wish.resource, "*"} | ({f"*/{subresource}"} if subresource else set())
    is_named = not names or wish.name in names
    return _has(rule, "apiGroups", wish.group) and bool(kinds & set(rule.get("resources") or [])) and is_named


def _has(rule: Document, field_name: str, value: str) -> bool:
    return bool({value, "*"} & set(rule.get(field_name) or []))


def _named(name: str, rest: Document) -> Document:
    return {"metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}} | rest
