"""Which CAs are believed: those of the bundle as it is now."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from homelab.proxmox.tls import authorities
from pvelab.certs import cluster_authority


def test_a_bundle_is_loaded_once_for_all_nodes(tmp_path: Path) -> None:
    bundle = tmp_path / "pve-root-ca.pem"
    bundle.write_bytes(cluster_authority().certificate_pem)

    assert authorities(bundle) is authorities(bundle)


def test_a_bundle_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    bundle = tmp_path / "pve-root-ca.pem"
    bundle.write_bytes(cluster_authority().certificate_pem)
    before = authorities(bundle).get_ca_certs(binary_form=True)
    bundle.write_bytes(cluster_authority().certificate_pem)

    after = authorities(bundle).get_ca_certs(binary_form=True)

    assert len(after) == 1
    assert after != before


def test_bundle_is_not_held_to_what_newer_pythons_want(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ssl.create_default_context

    def strict(**given: str) -> ssl.SSLContext:
        context = plain(**given)  # type: ignore[arg-type]
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    bundle = tmp_path / "pve-root-ca.pem"
    bundle.write_bytes(cluster_authority().certificate_pem)

    assert not authorities(bundle).verify_flags & ssl.VERIFY_X509_STRICT


def test_without_a_bundle_the_usual_authorities_are_believed() -> None:
    assert authorities(None) is authorities(None)
    assert len(authorities(None).get_ca_certs()) > 10
