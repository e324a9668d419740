"""Tests do not depend on somebody's name server: no name resolves, and that at once."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


def without_name_server(patch: pytest.MonkeyPatch) -> None:
    """Let only addresses and localhost through to the real lookup."""
    patch.setattr("socket.getaddrinfo", numbers_only(socket.getaddrinfo))


def numbers_only(look_up: Callable[..., Any]) -> Callable[..., Any]:
    """A lookup that knows only addresses and localhost."""

    def found(host: str | bytes | None, *rest: object, **more: object) -> object:
        name = host.decode() if isinstance(host, bytes) else host or ""
        if name and name != "localhost" and not name[0].isdigit() and ":" not in name:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *rest, **more)

    return found
