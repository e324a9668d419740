"""What was asked of the lab, in order: API requests, SSH commands, downloads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in and how it ended.

    `via` is api, ssh or http; `node` the machine that received it; `what` one readable line.
    `status` is the HTTP status or the exit status.
    """

    via: str
    node: str
    what: str
    method: str = ""
    path: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    argv: tuple[str, ...] = ()
    is_write: bool = False
    status: int = 0


@dataclass(slots=True)
class RequestLog:
    """The log of one lab; emptied when the lab is reset."""

    entries: list[Request] = field(default_factory=list)

    def add(self, request: Request) -> None:
        """Append one finished request."""
        self.entries.append(request)

    @property
    def writes(self) -> list[Request]:
        """Those that changed something."""
        return [request for request in self.entries if request.is_write]

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
