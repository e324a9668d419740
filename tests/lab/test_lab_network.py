"""Labs side by side take different loopback networks."""

from __future__ import annotations

import pytest

from pvelab import network


def test_two_labs_get_different_networks() -> None:
    first, second = network.claim_network(), network.claim_network()
    try:
        assert first.octet != second.octet
        assert {first.node(1).split(".")[1], first.guest(1).split(".")[1]} == {str(first.octet)}
    finally:
        first.release()
        second.release()


def test_a_released_network_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    held = network.claim_network()
    monkeypatch.setattr(network, "_FIRST_OCTET", held.octet)
    monkeypatch.setattr(network, "_LAST_OCTET", held.octet)
    with pytest.raises(network.NoNetworkFree, match="stop a lab"):
        network.claim_network()
    held.release()
    again = network.claim_network()
    again.release()
    assert again.octet == held.octet
