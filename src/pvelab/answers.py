"""Who asks, what comes back, and how a request is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks: a user, or one of their tokens."""

    user: str
    token: str = ""

    @property
    def is_root(self) -> bool:
        """root@pam in person; a token of root is not."""
        return self.user == "root@pam" and not self.token

    @property
    def authid(self) -> str:
        """As it stands in a UPID."""
        return f"{self.user}!{self.token}" if self.token else self.user


ROOT_SSH = Who("root@pam")


class WarningLine(str):
    """A line of output that a command line writes to standard error."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returns: data, what stands beside it in the envelope, and what it printed while it ran.

    A command line shows `log`; over HTTP nobody sees it.
    """

    data: Any = None
    log: Sequence[str] = ()
    beside: Mapping[str, Any] = field(default_factory=dict)


class ApiError(Exception):
    """A refusal: HTTP status, the reason without a newline at the end, and errors by parameter for 400.

    `log` is what was printed before it. `has_body` is False where Proxmox answers with a status line only.
    """

    def __init__(
        self, status: int, reason: str, errors: Mapping[str, str] | None = None, has_body: bool = True
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.errors = dict(errors or {})
        self.has_body = has_body
        self.log: Sequence[str] = ()


def refused(text: str) -> ApiError:
    """The usual failure: 500 with its text."""
    return ApiError(500, text)


def bad_parameter(name: str, text: str) -> ApiError:
    """400 with the text under the parameter's name."""
    return ApiError(400, "Parameter verification failed.", {name: text})


def without_config() -> ApiError:
    """What a node answers whose cluster file system is not mounted."""
    text = "RPCEnvironment init request failed: Unable to load access control list: Connection refused"
    return ApiError(500, text, has_body=False)


def forbidden(detail: str = "") -> ApiError:
    """403, with the path and privilege that were missing."""
    return ApiError(403, f"Permission check failed ({detail})" if detail else "Permission check failed")


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file of a multipart request, already on the lab's disk; the lab moves it from there."""

    path: Path
    filename: str
