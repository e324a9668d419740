"""A machine to run commands on: over SSH, or through the guest agent of a Proxmox VM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from homelab.proxmox.client import Proxmox
from homelab.shell import Result


class Remote(Protocol):
    """Runs commands as somebody who may sudo. A homelab.shell.Shell is one."""

    @property
    def where(self) -> str:
        """How messages name the machine."""
        ...

    @property
    def login(self) -> str:
        """What a person types before a command to have it run there."""
        ...

    def run(self, command: Sequence[str], *, timeout_s: float = 30) -> Result:
        """Any exit code is a Result; raises Unreachable, Undecided or TimedOut."""
        ...


@dataclass(frozen=True, slots=True)
class GuestByAgent:
    """A VM whose guest agent runs the commands, as root."""

    pve: Proxmox
    node: str
    vmid: int

    @property
    def where(self) -> str:
        return f"VM {self.vmid} on {self.node} (by its guest agent)"

    @property
    def login(self) -> str:
        return f"ssh root@{self.node} qm guest exec {self.vmid} --"

    def run(self, command: Sequence[str], *, timeout_s: float = 30) -> Result:
        """The agent's own environment has no home directory, which kubectl looks for."""
        return self.pve.agent_exec(self.node, self.vmid, ["env", "HOME=/root", *command], timeout_s=timeout_s)
