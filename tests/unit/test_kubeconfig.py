"""What a kubeconfig gives, as kubectl would merge its files, and what is refused with a sentence."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from homelab.errors import HomelabError
from homelab.kubernetes import Access, read_access

CA, CERTIFICATE, KEY = "the CA\n", "a certificate\n", "a key canary\n"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


USER = {"client-certificate-data": encoded(CERTIFICATE), "client-key-data": encoded(KEY)}


def document(
    name: str = "default", server: str = "192.0.2.10", ca: str = CA, user: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A kubeconfig of one context, as k3s writes it."""
    cluster = {"server": f"https://{server}:6443", "certificate-authority-data": encoded(ca)}
    return {
        "clusters": [{"name": name, "cluster": cluster}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
        "users": [{"name": name, "user": USER if user is None else user}],
    }


def written(folder: Path, content: object, name: str = "kubeconfig") -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return file


def access(*files: Path, hosts: tuple[str, ...] = ()) -> Access:
    found = read_access(files, hosts)
    assert found is not None
    return found


def refusal(file: Path) -> HomelabError:
    with pytest.raises(HomelabError) as refused:
        read_access([file], [])
    assert refused.value.what == f"the kubeconfig {file} is not used"
    assert "KUBECONFIG" in refused.value.cure
    return refused.value


def test_the_one_that_k3s_writes_is_read_and_its_key_is_not_shown(tmp_path: Path) -> None:
    file = written(tmp_path, document())

    found = access(file)

    assert (found.source, found.authority_pem, found.certificate_pem) == (file, CA, CERTIFICATE)
    assert found.key_pem and found.key_pem.reveal() == KEY
    assert "canary" not in repr(found)


def test_a_token_does_as_well_as_a_certificate(tmp_path: Path) -> None:
    found = access(written(tmp_path, document(user={"token": "canary"})))

    assert found.token and found.token.reveal() == "canary"
    assert (found.certificate_pem, found.key_pem) == ("", None)
    assert "canary" not in repr(found)


def test_certificates_may_be_in_files_beside_it(tmp_path: Path) -> None:
    content = document(user={"client-certificate": "me.crt", "client-key": str(tmp_path / "me.key")})
    content["clusters"][0]["cluster"] = {"server": "https://a", "certificate-authority": "ca.crt"}
    for name, text in (("ca.crt", CA), ("me.crt", CERTIFICATE), ("me.key", KEY)):
        (tmp_path / name).write_text(text)

    found = access(written(tmp_path, content))

    assert (found.authority_pem, found.certificate_pem) == (CA, CERTIFICATE)


def test_no_file_is_no_kubeconfig(tmp_path: Path) -> None:
    assert read_access([tmp_path / "nothing"], []) is None


def test_of_several_files_the_first_that_has_a_name_or_a_current_context_counts(tmp_path: Path) -> None:
    without_current = {**document("a", ca="first\n"), "current-context": ""}
    files = [
        tmp_path / "nothing",
        written(tmp_path, without_current, "one"),
        written(tmp_path, {**document("a", ca="second\n")}, "two"),
    ]

    assert access(*files).authority_pem == "first\n"


def test_the_context_of_the_cluster_that_is_meant_is_taken_before_the_current_one(tmp_path: Path) -> None:
    files = [
        written(tmp_path, document("work", server="10.0.0.1", ca="work\n"), "one"),
        written(tmp_path, document("home", server="192.0.2.10", ca="home\n"), "two"),
    ]

    assert access(*files, hosts=("192.0.2.10",)).authority_pem == "home\n"
    assert access(*files, hosts=("192.0.2.99",)).authority_pem == "work\n"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"users": [{"name": "default", "user": {"exec": {"command": "aws"}}}]},
            "its user logs in by a program (exec)",
        ),
        ({"users": [{"name": "default", "user": {"auth-provider": {"name": "gcp"}}}]}, "a program (auth-provider)"),
        ({"users": [{"name": "default", "user": {}}]}, "neither a client certificate nor a token"),
        ({"users": [{"name": "default", "user": {"client-key-data": "%"}}]}, "its client-key is not understood"),
        ({"users": [{"name": "default", "user": {"client-key": "gone"}}]}, "client-key cannot be read: No such file"),
        ({"users": []}, "names a cluster or user that is not there"),
        ({"contexts": []}, "it has no current context"),
        ({"contexts": [{"name": "default", "context": {"cluster": "x"}}]}, "names a cluster or user that is not there"),
        ({"clusters": [{"name": "default", "cluster": {"server": "https://a"}}]}, "it has no CA for the cluster"),
        ({"clusters": ["default"]}, "its clusters are not understood"),
        ({"clusters": [{"name": "default"}]}, "its clusters are not understood"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    assert why in refusal(written(tmp_path, {**document(), **changes})).why


def test_a_cluster_that_is_not_to_be_verified_is_not_believed(tmp_path: Path) -> None:
    content = document()
    content["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True

    assert "it has no CA for the cluster" in refusal(written(tmp_path, content)).why


@pytest.mark.parametrize(("text", "why"), [("a: [", "it is not YAML"), ("words", "it holds no keys")])
def test_a_file_that_is_something_else_is_said_to_be(tmp_path: Path, text: str, why: str) -> None:
    assert refusal(written(tmp_path, text)).why == why


def test_a_file_that_cannot_be_read_is_said_to_be(tmp_path: Path) -> None:
    assert refusal(tmp_path).why == "it cannot be read: Is a directory"
