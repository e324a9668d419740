"""Runs a command line on a machine: what sshd does for a client, and the guest agent for a node."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pvelab.machine import Input, Machine
from pvelab.shell.builtins import BUILTINS
from pvelab.shell.environment import Executed, login
from pvelab.shell.interpreter import Shell
from pvelab.shell.redirect import Streams
from pvelab.shell.streams import Collected, Given, Output


@dataclass(frozen=True, slots=True)
class Result:
    """What a command line left: its exit code, its output, and the programs that ran."""

    exit_code: int
    out: bytes
    err: bytes
    executed: tuple[Executed, ...]


def shell_for(machine: Machine, user: str, streams: tuple[Input, Output, Output]) -> Shell:
    """A shell as sshd starts it for a user."""
    return Shell(login(machine, user), Streams(*streams), BUILTINS)


async def run(machine: Machine, user: str, text: str, stdin: bytes = b"") -> Result:
    """Run shell text on a machine and wait for its end."""
    out, err = Collected(), Collected()
    shell = shell_for(machine, user, (Given(stdin), out, err))
    code = await shell.run_text(text)
    return Result(code, bytes(out.data), bytes(err.data), tuple(shell.environment.executed))


async def run_argv(machine: Machine, user: str, argv: Sequence[str], stdin: bytes = b"") -> Result:
    """Run one program with its arguments as they are."""
    return await run(machine, user, shlex.join(argv), stdin)
