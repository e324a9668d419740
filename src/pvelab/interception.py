"""Which requests a fault hits: any numbered one, or all of a kind, to the API or over SSH."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from pvelab.machine import Machine
from pvelab.state import Action
from pvelab.writes import is_api_write, is_command_write

ALL = "all"
_BEFORE_COMMAND = re.compile(r"(?:sudo(?: -\S+)* |env (?:\w+=\S* )*|\w+=\S* |exec )*")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it comes in: to the API with method and path (without /api2/json), or a command line over SSH."""

    machine: str
    method: str = ""
    path: str = ""
    command_line: str = ""

    @property
    def wire(self) -> str:
        """api or ssh."""
        return "api" if self.method else "ssh"

    @property
    def is_write(self) -> bool:
        """Does it change anything?"""
        return is_api_write(self.method, self.path) if self.method else is_command_write(self.command_line)


@dataclass(frozen=True, slots=True)
class Aim:
    """Requests by where they go and what they are.

    `method` and `path` aim at the API, where * stands for one part of a path and ** for any number; `command` aims at
    SSH: the first words of a command line, sudo and the like left out, * standing for anything.
    `number` counts the requests that fit, from 1; 0 means all of them, or with `times` so many.
    """

    machine: str = ALL
    wire: str = ALL
    method: str = ""
    path: str = ""
    command: str = ""
    only_writes: bool = False
    number: int = 0
    times: int = 0

    def fits(self, arrival: Arrival) -> bool:
        """Is the request one of these?"""
        return (
            self.machine in (ALL, arrival.machine)
            and self.wire in (ALL, arrival.wire)
            and (self._fits_api(arrival) if arrival.method else self._fits_ssh(arrival))
            and (arrival.is_write or not self.only_writes)
        )

    def _fits_api(self, arrival: Arrival) -> bool:
        if self.command and not (self.method or self.path):
            return False
        return self.method.upper() in ("", arrival.method) and (
            not self.path or path_pattern(self.path).fullmatch(arrival.path) is not None
        )

    def _fits_ssh(self, arrival: Arrival) -> bool:
        if not self.command:
            return not (self.method or self.path)
        line = _BEFORE_COMMAND.sub("", arrival.command_line, count=1)
        return fnmatchcase(line, self.command) or fnmatchcase(line, f"{self.command} *")


@dataclass(slots=True, eq=False)
class Trap:
    """A fault that waits for its requests; `spring` says what happens to one."""

    aim: Aim
    spring: Callable[[Arrival], Action]
    fitting: int = 0
    sprung: int = 0

    def take(self, arrival: Arrival) -> Action | None:
        """What happens to a request, if it is one to be hit."""
        if not self.aim.fits(arrival):
            return None
        self.fitting += 1
        is_due = self.fitting == self.aim.number if self.aim.number else True
        if not is_due or (self.aim.times and self.sprung >= self.aim.times):
            return None
        self.sprung += 1
        return self.spring(arrival)


class Waiting(Protocol):
    """Something that waits for its requests."""

    def take(self, arrival: Arrival) -> Action | None:
        """What happens to a request, None if it is not one to be hit."""
        ...


@dataclass(slots=True)
class Traps:
    """All that wait; the first to hit a request decides, the others count it all the same."""

    waiting: list[Waiting] = field(default_factory=list)

    def on_api(self, node: str, method: str, path: str, params: Mapping[str, str]) -> Action | None:
        """For a request to a node's API."""
        del params
        return self._sprung_by(Arrival(node, method, path))

    def on_ssh(self, machine: Machine, user: str, command_line: str) -> Action | None:
        """For a command line on any machine."""
        del user
        return self._sprung_by(Arrival(machine.hostname, command_line=command_line))

    def _sprung_by(self, arrival: Arrival) -> Action | None:
        taken = [trap.take(arrival) for trap in self.waiting]
        return next((action for action in taken if action), None)


def path_pattern(glob: str) -> re.Pattern[str]:
    """A path with * for one part and ** for any number of them."""
    parts = re.split(r"(\*\*|\*)", glob)
    meanings = {"**": ".*", "*": "[^/]+"}
    return re.compile("".join(meanings.get(part, re.escape(part)) for part in parts))
