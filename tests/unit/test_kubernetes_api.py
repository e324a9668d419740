"""The Kubernetes API over real sockets: who is believed, who is asked nothing, and what an answer means."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from homelab.errors import HomelabError, Refused, Undecided, Unreachable
from homelab.kubernetes import Access, KubernetesApi, NotVouchedFor, api
from homelab.settings import Secret
from pvelab.certs import cluster_authority, node_certificate
from support.https_server import Asked, HttpsServer, Reply, https_server, text_reply

PATH = "/api/v1/nodes"


def ok(_: Asked) -> Reply:
    return text_reply('{"items": []}')


def url(server: HttpsServer) -> str:
    return f"https://127.0.0.1:{server.port}"


def with_token(server: HttpsServer) -> Access:
    return Access(Path("kubeconfig"), server.ca_bundle.read_text(), token=Secret("canary"))


def test_server_of_the_cluster_is_asked_with_the_token(tmp_path: Path) -> None:
    with https_server(tmp_path, ok) as server:
        assert KubernetesApi(with_token(server)).get(url(server), PATH) == '{"items": []}'

    (asked,) = server.asked
    assert (asked.path, asked.headers["authorization"]) == (PATH, "Bearer canary")


def test_server_of_another_cluster_is_asked_nothing(tmp_path: Path) -> None:
    other = Access(Path("kubeconfig"), cluster_authority().certificate_pem.decode(), token=Secret("canary"))

    with https_server(tmp_path, ok) as server, pytest.raises(NotVouchedFor) as refused:
        KubernetesApi(other).get(url(server), PATH)

    assert server.asked == []
    assert refused.value.why == "its certificate is not vouched for by the kubeconfig kubeconfig"


def test_server_whose_certificate_is_from_a_public_authority_is_asked_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Access(Path("kubeconfig"), cluster_authority().certificate_pem.decode(), token=Secret("canary"))

    with https_server(tmp_path, ok) as server, pytest.raises(NotVouchedFor):
        monkeypatch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", str(server.ca_bundle))
        KubernetesApi(other).get(url(server), PATH)

    assert server.asked == []


@pytest.mark.parametrize(
    ("reply", "kind", "why"),
    [
        (text_reply("no", "403 Forbidden"), Refused, "it answered 403 to the user of the kubeconfig kubeconfig"),
        (text_reply("", "302 Found", "Location: https://127.0.0.1:1/\r\n"), Refused, "it answered 302"),
        (Reply(b"", "hang"), Undecided, "connected, but no answer in time"),
        (Reply(b"", "close"), Unreachable, "it does not answer"),
    ],
)
def test_other_answers_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: Reply, kind: type[HomelabError], why: str
) -> None:
    monkeypatch.setattr(api, "READ_TIMEOUT_S", 0.2)

    with https_server(tmp_path, lambda _: reply) as server, pytest.raises(kind) as refused:
        KubernetesApi(with_token(server)).get(url(server), PATH)

    assert why in refused.value.why
    assert "canary" not in str(refused.value)


def test_certificate_and_key_lie_in_no_file_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    issued = node_certificate(cluster_authority(), "me", "example.test", "192.0.2.1")
    certificate, key = (path.read_text() for path in issued.write(tmp_path, "me"))

    with https_server(tmp_path, ok) as server:
        access = Access(Path("kubeconfig"), server.ca_bundle.read_text(), certificate, Secret(key))
        KubernetesApi(access).get(url(server), PATH)

    assert list(place.iterdir()) == []


def locked_key() -> str:
    private = ec.generate_private_key(ec.SECP256R1())
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    ).decode()


def test_what_tls_cannot_read_is_said_and_no_passphrase_is_asked_for(tmp_path: Path) -> None:
    issued = node_certificate(cluster_authority(), "me", "example.test", "192.0.2.1")
    certificate = issued.write(tmp_path, "me")[0].read_text()
    authority = cluster_authority().certificate_pem.decode()

    for access in (
        Access(Path("kubeconfig"), "no certificate", token=Secret("canary")),
        Access(Path("kubeconfig"), authority, "no certificate", Secret("no key")),
        Access(Path("kubeconfig"), authority, certificate, Secret(locked_key())),
    ):
        with pytest.raises(HomelabError) as refused:
            KubernetesApi(access).get("https://127.0.0.1:1", PATH)
        assert str(refused.value) == (
            "the kubeconfig kubeconfig is not used: it holds a certificate or key that TLS cannot read"
        )
