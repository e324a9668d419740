"""The certificate authorities of a k3s cluster: one signs what servers show, another what clients show."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

from pvelab.certs import Authority, Issued

LOCAL_SERVER = "https://127.0.0.1:6443"
ALWAYS_NAMED = ("127.0.0.1", "10.43.0.1", "kubernetes", "localhost")


@dataclass(frozen=True, slots=True)
class Authorities:
    """Both, and the certificate of the cluster's administrator."""

    server: Authority
    client: Authority
    admin: Issued

    def serving(self, names: Sequence[str]) -> Issued:
        """What a server with these addresses and names shows."""
        return self.server.issue(_subject("k3s", "k3s"), names)

    def kubeconfig(self, server: str) -> bytes:
        """The administrator's configuration, as k3s writes it."""
        authority, certificate, key = (
            base64.b64encode(pem).decode()
            for pem in (
                self.server.certificate_pem,
                self.admin.certificate_pem + self.client.certificate_pem,
                self.admin.key_pem,
            )
        )
        return (
            "apiVersion: v1\nclusters:\n- cluster:\n"
            f"    certificate-authority-data: {authority}\n    server: {server}\n  name: default\n"
            "contexts:\n- context:\n    cluster: default\n    user: default\n  name: default\n"
            "current-context: default\nkind: Config\npreferences: {}\nusers:\n- name: default\n  user:\n"
            f"    client-certificate-data: {certificate}\n    client-key-data: {key}\n"
        ).encode()


def new_authorities(now: int) -> Authorities:
    """The authorities of a cluster that is founded now (Unix time)."""
    server, client = (
        Authority(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"k3s-{kind}-ca@{now}")]))
        for kind in ("server", "client")
    )
    return Authorities(server, client, client.issue_client(_subject("system:masters", "system:admin")))


def _subject(organization: str, name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
