"""Tests do not depend on somebody's name server: no name resolves, and that at once."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

NOTHING: Mapping[str, str] = MappingProxyType({})


def without_name_server(patch: pytest.MonkeyPatch, known: Mapping[str, str] = NOTHING) -> None:
    """Let only addresses and localhost through to the real lookup, and `known`, as a hosts file has it."""
    patch.setattr("socket.getaddrinfo", numbers_only(socket.getaddrinfo, known))


def numbers_only(look_up: Callable[..., Any], known: Mapping[str, str] = NOTHING) -> Callable[..., Any]:
    """A lookup that knows only addresses, localhost and these names."""

    def found(host: str | bytes | None, *rest: object, **more: object) -> object:
        name = host.decode() if isinstance(host, bytes) else host or ""
        if name in known:
            return look_up(known[name], *rest, **more)
        if name and name != "localhost" and not name[0].isdigit() and ":" not in name:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *rest, **more)

    return found
