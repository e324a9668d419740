"""Who asks, what comes back, and how a request is refused."""

from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returns: data, and what stands beside it in the envelope."""

    data: Any = None
    beside: Mapping[str, Any] = field(default_factory=dict)


class ApiError(Exception):
    """A refusal: HTTP status, the reason without a newline at the end, and errors by parameter for 400."""

    def __init__(self, status: int, reason: str, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.errors = dict(errors or {})


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file of a multipart request, already on the lab's disk; the lab moves it from there."""

    path: Path
    filename: str
