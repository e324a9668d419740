"""A machine of its own for tests of the shell: coreutils, two users, nothing of Proxmox."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pvelab.clock import LabClock
from pvelab.machine import Account, Command
from pvelab.shell.coreutils import COMMANDS
from pvelab.shell.files import FileSystem
from pvelab.shell.run import Result, run


@dataclass(slots=True)
class PlainMachine:
    """root may do all, `ubuntu` has sudo, `guest` has not."""

    clock: LabClock
    files: FileSystem
    hostname: str = "plain"
    address: str = "127.0.0.1"
    commands: Mapping[str, Command] = field(default_factory=lambda: COMMANDS)
    accounts: dict[str, Account] = field(
        default_factory=lambda: {
            "root": Account("root", 0, "/root"),
            "ubuntu": Account("ubuntu", 1000, "/home/ubuntu", sudo=True),
            "guest": Account("guest", 1001, "/home/guest"),
        }
    )


def plain_machine(folder: Path, loop: asyncio.AbstractEventLoop) -> PlainMachine:
    """A machine whose time runs a hundred times as fast; made on the loop's thread."""
    clock = LabClock(loop, pace=0.01)
    machine = PlainMachine(clock, FileSystem(folder, clock.now))
    for path, owner, mode in (("/root", "root", 0o700), ("/tmp", "root", 0o1777), ("/etc", "root", 0o755)):
        machine.files.make_folder(path, parents=True)
        machine.files.change(path, mode=mode, owner=owner)
    for user in ("ubuntu", "guest"):
        machine.files.make_folder(f"/home/{user}", parents=True)
        machine.files.change(f"/home/{user}", owner=user)
    return machine


def run_on_plain_machine(folder: Path, text: str, user: str = "root", stdin: bytes = b"") -> Result:
    """Run shell text on a fresh machine."""

    async def start() -> Result:
        machine = plain_machine(folder, asyncio.get_running_loop())
        return await asyncio.wait_for(run(machine, user, text, stdin), timeout=10)

    return asyncio.run(start())
