"""What the resolver says of a name, and that nobody waits for one that says nothing."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from homelab.shell import addresses_of, names


def entries(*addresses: str) -> list[tuple[Any, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


def test_ipv4_goes_first_and_each_address_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = entries("2001:db8::1", "192.0.2.1", "2001:db8::1", "192.0.2.2")
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    assert addresses_of("k3s-vm-pve1") == ("192.0.2.1", "192.0.2.2", "2001:db8::1")


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_unknown_name_has_no_address(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("socket.getaddrinfo", fail)
    assert addresses_of("k3s-vm-pve1") == ()


def test_resolver_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(*_: object, **__: object) -> list[tuple[Any, ...]]:
        over.wait(10)
        return []

    monkeypatch.setattr("socket.getaddrinfo", hang)
    monkeypatch.setattr(names, "LONGEST_LOOK_S", 0.01)
    assert addresses_of("k3s-vm-pve1") == ()
    over.set()
