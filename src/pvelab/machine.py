"""What SSH needs to know of a machine, and what a Proxmox node needs to know of the guest in a VM."""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pvelab.clock import LabClock
    from pvelab.shell.files import FileSystem
    from pvelab.state import Vm


@dataclass(slots=True)
class Account:
    """A user of a machine: who may log in, and whether `sudo -n` works for them."""

    name: str
    uid: int
    home: str
    authorized_keys: list[str] = field(default_factory=list)
    sudo: bool = False


class Input:
    """What a command reads; this one is at its end."""

    async def chunk(self) -> bytes:
        """The next piece, waiting for it; empty at the end."""
        return b""


async def _stay() -> None:
    """Leave output where it is until the command has ended."""


@dataclass(slots=True)
class Process:
    """One command in execution: its words, its input, and what it writes.

    `out` and `err` are one buffer after `2>&1`. `flush` sends what is in them on its way; who started the command
    calls it at the end, and a command calls it itself when it writes much or when somebody watches.
    """

    machine: Machine
    argv: list[str]
    stdin: Input = field(default_factory=Input)
    env: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    cwd: str = "/root"
    umask: int = 0o022
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)
    flush: Callable[[], Awaitable[None]] = _stay

    async def read(self) -> bytes:
        """All input up to its end."""
        data = bytearray()
        while chunk := await self.stdin.chunk():
            data += chunk
        return bytes(data)

    def path(self, name: str) -> str:
        """The absolute path of a file name given to the command."""
        return posixpath.join(self.cwd, name)

    def print(self, text: str) -> None:
        """Write a line to standard output."""
        self.out += text.encode() + b"\n"

    def complain(self, text: str) -> None:
        """Write a line to standard error."""
        self.err += text.encode() + b"\n"


Command = Callable[[Process], Awaitable[int]]


class Machine(Protocol):
    """A thing one can log in to: a Proxmox node, a guest, the existing k3s server."""

    hostname: str
    address: str
    clock: LabClock
    files: FileSystem
    accounts: dict[str, Account]

    @property
    def commands(self) -> Mapping[str, Command]:
        """By the word typed; anything else is exit 127 `sh: 1: NAME: not found`."""
        ...


class AgentSilent(Exception):
    """Nothing answers on the guest agent's socket."""


class AgentError(Exception):
    """The guest agent answered with an error; the text is its own, without Proxmox's `Agent error: `."""

    def __init__(self, text: str, kind: str = "GenericError") -> None:
        super().__init__(text)
        self.kind = kind


class GuestSide(Protocol):
    """The machines inside the VMs, as seen by the node that powers them."""

    def power_on(self, vm: Vm) -> None:
        """QEMU has started; the guest begins to boot from vm's disk and cloud-init drive."""

    def power_off(self, vm: Vm) -> None:
        """The power is cut (stop, end of a shutdown, host going down)."""

    def pause(self, vm: Vm) -> None: ...

    def resume(self, vm: Vm) -> None: ...

    def remove(self, vm: Vm) -> None:
        """The VM and its disks were destroyed."""

    def obeys_acpi(self, vm: Vm) -> bool:
        """Does the guest shut down when asked (booted far enough)?"""
        ...

    def agent(self, vm: Vm, command: str, params: Mapping[str, Any]) -> Any:
        """The agent's own answer (`ping`, `network-get-interfaces`, `exec`, `file-read`...).

        Data is decoded text as the API shows it, params are named as in the API. Raises AgentSilent, AgentError.
        """
        ...
