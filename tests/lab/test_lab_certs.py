"""The lab's certificates stand up to a strict client, its keys to OpenSSH's formats."""

from __future__ import annotations

import hashlib
import socket
import ssl
import stat
import threading
from pathlib import Path

import asyncssh
import pytest

from pvelab import certs


def handshake(issued: certs.Issued, folder: Path, trusted: bytes, name: str) -> bytes:
    """One TLS handshake with a strict client; returns the certificate that it saw, DER."""
    server_side, client_side = socket.socketpair()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*issued.write(folder, "node"))
    client = ssl.create_default_context(cadata=trusted.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT

    def serve() -> None:
        try:
            server.wrap_socket(server_side, server_side=True).close()
        except ssl.SSLError:
            server_side.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(client_side, server_hostname=name) as connection:
            seen = connection.getpeercert(binary_form=True)
    finally:
        client_side.close()
        thread.join(timeout=5)
    assert seen
    return seen


@pytest.mark.parametrize("name", ["pve1", "pve1.maas", "127.10.1.1", "127.0.0.1", "::1", "localhost"])
def test_a_strict_client_with_the_cluster_ca_accepts_each_name_of_the_node(tmp_path: Path, name: str) -> None:
    authority = certs.cluster_authority()
    issued = certs.node_certificate(authority, "pve1", "maas", "127.10.1.1")
    seen = handshake(issued, tmp_path, authority.certificate_pem, name)
    assert hashlib.sha256(seen).hexdigest().upper() == issued.fingerprint.replace(":", "")


def test_a_certificate_of_another_authority_of_the_same_name_is_refused(tmp_path: Path) -> None:
    issued = certs.node_certificate(certs.cluster_authority(), "pve1", "maas", "127.10.1.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(issued, tmp_path, certs.cluster_authority().certificate_pem, "pve1")


def test_private_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    _, key = certs.cluster_authority().issue(certs.cluster_authority().subject, ["pve1"]).write(tmp_path, "node")
    certs.ssh_key_pair("me@lab").write(tmp_path / "id_ed25519")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (key, tmp_path / "id_ed25519")}
    assert modes == {"node.key": 0o600, "id_ed25519": 0o600}


def test_the_key_pair_is_read_by_another_implementation(tmp_path: Path) -> None:
    public_path = certs.ssh_key_pair("me@lab").write(tmp_path / "id_ed25519")
    private = asyncssh.read_private_key(tmp_path / "id_ed25519")
    assert public_path.read_text().split()[:2] == private.export_public_key().decode().split()[:2]
    assert public_path.read_text().endswith(" me@lab\n")


def test_a_known_hosts_line_names_a_port_other_than_22_in_brackets() -> None:
    line = "ssh-ed25519 AAAA root@pve1"
    assert certs.known_hosts_line("127.10.1.1", 2222, line) == "[127.10.1.1]:2222 ssh-ed25519 AAAA"
    assert certs.known_hosts_line("pve1", 22, line) == "pve1 ssh-ed25519 AAAA"
