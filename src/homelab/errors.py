"""Errors as what / why / cure, and the exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What the caller (a person, cron) learns from the end of the process."""

    OK = 0
    FAILED = 1
    CONFIGURATION = 2
    PARTLY = 3
    LOCKED = 4
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a person has to know: what is wrong, why, and what to do about it."""

    what: str
    why: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what


class HomelabError(Exception):
    """Base of all errors that a user can cause or cure."""

    exit_code = ExitCode.FAILED
    """How a run ends that cannot go on for this."""

    def __init__(self, what: str, why: str = "", cure: str = "") -> None:
        self.problem = Problem(what, why, cure)
        super().__init__(str(self.problem))

    @property
    def what(self) -> str:
        return self.problem.what

    @property
    def why(self) -> str:
        return self.problem.why

    @property
    def cure(self) -> str:
        return self.problem.cure


class ConfigError(HomelabError):
    """The configuration cannot be used; holds every problem found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("configuration", "; ".join(str(problem) for problem in self.problems))


class Unreachable(HomelabError):
    """No connection came about, so the request certainly did not run (refused, TLS, name lookup, connect time-out)."""


class ChangedIdentity(Unreachable):
    """The machine shows another certificate or host key than the one that it is known by: it may be another one."""


class Undecided(HomelabError):
    """The connection ended before the answer: the request may or may not have run. Look before acting."""


class Refused(HomelabError):
    """The server answered, and the answer is no.

    `status` is the HTTP status, or the exit code on SSH; `errors` are Proxmox' texts per parameter.
    """

    def __init__(
        self, what: str, why: str, cure: str = "", *, status: int, errors: dict[str, str] | None = None
    ) -> None:
        super().__init__(what, why, cure)
        self.status = status
        self.errors = errors or {}


class Misunderstood(HomelabError):
    """The answer cannot be read (not JSON, wrong type, a field missing): it means neither yes nor no."""


class NotThere(Refused):
    """Proxmox' own word that a VM, volume or task does not exist."""


class TaskFailed(HomelabError):
    """A Proxmox task ended with anything but OK or WARNINGS."""


class TimedOut(HomelabError):
    """A deadline passed; `why` holds the last thing seen."""


class NodeFailed(HomelabError):
    """One node cannot go on; the others can."""


class StillMember(NodeFailed):
    """A machine that was to go is as much a member of the cluster as before, and the cluster needs it."""


class Unfinished(HomelabError):
    """A VM stays as it is, with the tag homelab-unfinished; the next run goes on with it."""


class NotResponding(NodeFailed):
    """A VM runs, and neither its guest agent nor SSH answers."""


class Locked(HomelabError):
    """Another run holds the lock."""

    exit_code = ExitCode.LOCKED


class Interrupted(HomelabError):
    """A person, or the system, wants the run to end: nothing new is begun."""

    exit_code = ExitCode.INTERRUPTED
