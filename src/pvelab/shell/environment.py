"""What a shell knows: its user, folder, variables, options, functions."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pvelab.machine import Machine
    from pvelab.shell.syntax import Command

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Executed:
    """A program that ran: its words, on whose behalf, and the files its output went to."""

    argv: tuple[str, ...]
    user: str
    writes: tuple[str, ...] = ()


@dataclass(slots=True)
class Environment:
    """The state of one shell; a subshell works on a copy and shares only the list of what was executed."""

    machine: Machine
    user: str = "root"
    cwd: str = "/"
    umask: int = 0o022
    variables: dict[str, str] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    options: set[str] = field(default_factory=set)
    functions: dict[str, Command] = field(default_factory=dict)
    positional: list[str] = field(default_factory=list)
    name: str = "sh"
    last: int = 0
    line: int = 1
    at_exit: str = ""
    outer_values: list[dict[str, str | None]] = field(default_factory=list)
    executed: list[Executed] = field(default_factory=list)

    def copy(self) -> Environment:
        """The environment of a subshell."""
        return replace(
            self,
            variables=dict(self.variables),
            exported=set(self.exported),
            options=set(self.options),
            functions=dict(self.functions),
            positional=list(self.positional),
            outer_values=[],
            at_exit="",
        )

    def value(self, name: str) -> str | None:
        """The value of a parameter, None if unset."""
        special = {
            "?": str(self.last),
            "#": str(len(self.positional)),
            "$": "4711",
            "!": "4712",
            "-": "".join(sorted(self.options - {"pipefail"})),
            "@": " ".join(self.positional),
            "*": " ".join(self.positional),
            "0": self.name,
        }
        if name in special:
            return special[name]
        if name.isdigit():
            index = int(name)
            return self.positional[index - 1] if index <= len(self.positional) else None
        return self.variables.get(name)

    def home(self, user: str = "") -> str:
        """The home directory of a user, by default of the one the shell runs as; empty if unknown."""
        if not user and "HOME" in self.variables:
            return self.variables["HOME"]
        account = self.machine.accounts.get(user or self.user)
        return account.home if account else ""

    def exports(self) -> dict[str, str]:
        """The variables that commands see."""
        return {name: self.variables[name] for name in sorted(self.exported) if name in self.variables}

    def path(self, name: str) -> str:
        """The absolute path of a file name."""
        return posixpath.join(self.cwd, name)


def login(machine: Machine, user: str) -> Environment:
    """The environment that sshd gives to a command."""
    account = machine.accounts.get(user)
    home = account.home if account else "/root"
    variables = {"HOME": home, "LOGNAME": user, "USER": user, "SHELL": "/bin/sh", "PATH": PATH, "PWD": home}
    cwd = home if machine.files.is_folder(home) else "/"
    return Environment(machine, user, cwd, variables=variables, exported=set(variables))
