"""What was asked of the lab, in order: API requests, SSH commands, downloads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pvelab.guest.kube_requests import Served
from pvelab.sshd import SshRequest
from pvelab.state import ApiRequest
from pvelab.writes import is_api_write, is_program_write

NEVER_TOLD = 255
"""The exit status of a command whose client was gone before it ended."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in and how it ended.

    `via` is api, ssh, http or kubernetes; `node` the machine that received it; `what` one readable line;
    `argv` the first program that a command line ran, `programs` all of them, those that others started included.
    `status` is the HTTP status or the exit status.
    """

    via: str
    node: str
    what: str
    method: str = ""
    path: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    argv: tuple[str, ...] = ()
    programs: tuple[tuple[str, ...], ...] = ()
    is_write: bool = False
    status: int = 0


@dataclass(slots=True)
class RequestLog:
    """The log of one lab; emptied when the lab is reset."""

    entries: list[Request] = field(default_factory=list)

    def add(self, request: Request) -> None:
        """Append one finished request."""
        self.entries.append(request)

    def add_api(self, request: ApiRequest) -> None:
        """Append a request to a node's API."""
        self.add(
            Request(
                via="api",
                node=request.node,
                what=f"{request.method} {request.path}",
                method=request.method,
                path=request.path,
                params=dict(request.params),
                is_write=is_api_write(request.method, request.path),
                status=request.status,
            )
        )

    def add_kubernetes(self, served: Served) -> None:
        """Append a request to a k3s server's Kubernetes API."""
        self.add(
            Request(
                via="kubernetes",
                node=served.node,
                what=f"{served.method} {served.path}",
                method=served.method,
                path=served.path,
                is_write=served.method not in ("GET", "HEAD"),
                status=served.status,
            )
        )

    def add_ssh(self, request: SshRequest) -> None:
        """Append a command line given to a node, a guest or the server outside."""
        first = request.executed[0].argv if request.executed else ()
        self.add(
            Request(
                via="ssh",
                node=request.machine.hostname,
                what=request.command_line,
                argv=first,
                programs=tuple(one.argv for one in request.executed),
                is_write=any(is_program_write(one.argv, one.writes) for one in request.executed),
                status=NEVER_TOLD if request.exit_code is None else request.exit_code,
            )
        )

    @property
    def writes(self) -> list[Request]:
        """Those that changed something."""
        return [request for request in self.entries if request.is_write]

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
