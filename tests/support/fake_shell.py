"""A machine without SSH: commands are answered by a function. For tests of what is said, not of how it travels."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from homelab.shell import Machine, Readable, Result, Shell
from homelab.shell.client_config import HostOptions

Respond = Callable[[str, bytes], Result]


def done(stdout: str = "", stderr: str = "", exit_code: int = 0) -> Result:
    return Result(exit_code, stdout, stderr, stdout.encode())


def _no_options() -> HostOptions:
    raise AssertionError("a fake machine is not connected to")


class FakeShell(Shell):
    """Remembers its commands; `hostname` is answered with the name it was given."""

    def __init__(self, respond: Respond, name: str = "pve1") -> None:
        super().__init__(_no_options, Machine(name, user="root"))
        self.commands: list[str] = []
        self.inputs: list[bytes] = []
        self.limits_s: list[float] = []
        self._respond = respond
        self._name = name

    def connect(self) -> None:
        """It is always there."""

    def run(
        self, command: Sequence[str] | str, *, stdin: bytes | Readable | None = None, timeout_s: float = 30
    ) -> Result:
        line = command if isinstance(command, str) else shlex.join(command)
        if line == "hostname":
            return done(f"{self._name}\n")
        typed = stdin if isinstance(stdin, bytes | None) else _everything(stdin)
        self.commands.append(line)
        self.limits_s.append(timeout_s)
        self.inputs.append(typed or b"")
        return self._respond(line, typed or b"")


def _everything(source: Readable) -> bytes:
    data = b""
    while chunk := source.read(1 << 16):
        data += chunk
    return data
