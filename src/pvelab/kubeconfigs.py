"""Kubeconfigs that people have: of the administrator, of a service account, and those that lead nowhere any more."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from pvelab.catalogue import UnknownChoice
from pvelab.guest.k3s_authorities import new_authorities
from pvelab.guest.kube_resources import RBAC
from pvelab.network import K3S_PORT

if TYPE_CHECKING:
    from pvelab.guest.k3s_authorities import Authorities
    from pvelab.guest.k3s_cluster import Cluster
    from pvelab.site import Site

NAMESPACE = "kube-system"
_YEAR_S = 365 * 86_400.0
_ADMIN_RULE = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
_READER_RULE = {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["get", "list", "watch"]}


def write(site: Site, kind: str) -> Path:
    """Write a kubeconfig of a kind into the lab's folder, for its first k3s server; its path. Raises UnknownChoice."""
    if kind not in _KINDS:
        raise UnknownChoice(f"kubeconfig {kind!r}: give {', '.join(_KINDS)}")
    cluster = site.first_cluster()
    authorities = site.guests.clusters.authorities[cluster.tokens.ca_hash]
    path = site.setting.folder / f"kubeconfig-{kind}"
    path.touch(mode=0o600)
    address = f"https://{site.k3s_addresses[0]}:{K3S_PORT}"
    path.write_text(yaml.safe_dump(_KINDS[kind](cluster, authorities, address)))
    return path


def _admin(_cluster: Cluster, authorities: Authorities, address: str) -> dict[str, Any]:
    return _document(authorities, address, _certificate(authorities, days=365))


def _expired(_cluster: Cluster, authorities: Authorities, address: str) -> dict[str, Any]:
    return _document(authorities, address, _certificate(authorities, days=-0.5))


def _foreign(cluster: Cluster, _authorities: Authorities, address: str) -> dict[str, Any]:
    former = new_authorities(int(cluster.founded_at) - 1)
    return _document(former, address, _certificate(former, days=365))


def _token(cluster: Cluster, authorities: Authorities, address: str) -> dict[str, Any]:
    return _document(authorities, address, _account(cluster, "homelab", _ADMIN_RULE, _YEAR_S))


def _reader(cluster: Cluster, authorities: Authorities, address: str) -> dict[str, Any]:
    return _document(authorities, address, _account(cluster, "homelab-reader", _READER_RULE, _YEAR_S))


def _ended(cluster: Cluster, authorities: Authorities, address: str) -> dict[str, Any]:
    return _document(authorities, address, _account(cluster, "homelab", _ADMIN_RULE, -1.0))


_KINDS: Mapping[str, Callable[[Cluster, Authorities, str], dict[str, Any]]] = {
    "admin": _admin,
    "expired": _expired,
    "foreign": _foreign,
    "token": _token,
    "reader": _reader,
    "expired-token": _ended,
}


def _document(authorities: Authorities, address: str, user: dict[str, str]) -> dict[str, Any]:
    authority = base64.b64encode(authorities.server.certificate_pem).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default", "cluster": {"server": address, "certificate-authority-data": authority}}],
        "users": [{"name": "default", "user": user}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "current-context": "default",
    }


def _certificate(authorities: Authorities, days: float) -> dict[str, str]:
    names = ((NameOID.ORGANIZATION_NAME, "system:masters"), (NameOID.COMMON_NAME, "system:admin"))
    subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in names])
    issued = authorities.client.issue_client(subject, days)
    pairs = (("client-certificate-data", issued.certificate_pem), ("client-key-data", issued.key_pem))
    return {name: base64.b64encode(pem).decode() for name, pem in pairs}


def _account(cluster: Cluster, name: str, rule: dict[str, Any], lasts_s: float) -> dict[str, str]:
    """A service account with one role, made if need be, and a new token of it."""
    store, kind = cluster.store, {"apiVersion": f"{RBAC}/v1"}
    if not store.find("serviceaccounts", name, NAMESPACE):
        subject = {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}
        role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
        metadata: dict[str, Any] = {"metadata": {"name": name}}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}
        store.create("serviceaccounts", account)
        store.create("clusterroles", kind | {"kind": "ClusterRole", "rules": [rule]} | metadata)
        binding = kind | {"kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]} | metadata
        store.create("clusterrolebindings", binding)
    return {"token": cluster.service_tokens.issue(NAMESPACE, name, cluster.timer.now() + lasts_s)}
