"""The QEMU guest agent: what it answers to Proxmox."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pvelab.guest.ubuntu import AGENT_UNIT
from pvelab.machine import AgentError
from pvelab.shell.contents import Memory
from pvelab.shell.run import Result, run_argv, shell_for
from pvelab.shell.streams import Collected, Given

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine, Nic

_FIRST_PID = 1400
_STATISTICS = ("rx-bytes", "rx-dropped", "rx-errs", "rx-packets", "tx-bytes", "tx-dropped", "tx-errs", "tx-packets")
_TRUNCATED_BYTES = 16 << 20
_NANOSECONDS = 1_000_000_000


@dataclass(slots=True, eq=False)
class Agent:
    """The agent of one boot; commands that it started are asked after by their process id."""

    guest: GuestMachine
    _running: dict[int, asyncio.Task[Result]] = field(default_factory=dict)
    _pids: itertools.count[int] = field(default_factory=lambda: itertools.count(_FIRST_PID))

    @property
    def answers(self) -> bool:
        """Installed, started, and not stopped with its machine."""
        unit = self.guest.systemd.units.get(AGENT_UNIT)
        return unit is not None and unit.active == "active" and not self.guest.is_paused

    def ask(self, command: str, params: Mapping[str, Any]) -> Any:
        """Carry out one command. Raises AgentError."""
        answer = _ANSWERS.get(command)
        if answer is None:
            raise AgentError(f"The command guest-{command} has not been found")
        return answer(self, params)

    def interfaces(self, _params: Mapping[str, Any]) -> Any:
        """guest-network-get-interfaces."""
        loopback = {
            "name": "lo",
            "hardware-address": "00:00:00:00:00:00",
            "ip-addresses": [_address("127.0.0.1", 8), _address("::1", 128)],
            "statistics": dict.fromkeys(_STATISTICS, 0),
        }
        return [loopback, *(_interface(nic) for nic in self.guest.hardware.nics)]

    def execute(self, params: Mapping[str, Any]) -> Any:
        """guest-exec: start a program; its output is kept until it is asked for."""
        given = params["command"]
        argv = [given] if isinstance(given, str) else [str(word) for word in given]
        shell = shell_for(self.guest, "root", (Given(b""), Collected(), Collected()))
        if not shell.where(argv[0]):
            raise AgentError(f"Failed to execute child process “{argv[0]}” (No such file or directory)")
        stdin = str(params.get("input-data", "")).encode()
        pid = next(self._pids)
        self._running[pid] = self.guest.background(run_argv(self.guest, "root", argv, stdin))
        return {"pid": pid}

    def status(self, params: Mapping[str, Any]) -> Any:
        """guest-exec-status; a finished program is forgotten once it was reported."""
        pid = int(params["pid"])
        if pid not in self._running:
            raise AgentError("PID ld does not exist")
        task = self._running[pid]
        if not task.done():
            return {"exited": 0}
        del self._running[pid]
        result = task.result()
        found: dict[str, Any] = {"exited": 1, "exitcode": result.exit_code}
        for name, data in (("out", result.out), ("err", result.err)):
            if data:
                found[f"{name}-data"] = data[:_TRUNCATED_BYTES].decode(errors="replace")
                found[f"{name}-truncated"] = int(len(data) > _TRUNCATED_BYTES)
        return found

    def read(self, params: Mapping[str, Any]) -> Any:
        """guest-file-open, -read and -close at once, as Proxmox calls them."""
        path = str(params["file"])
        try:
            content = self.guest.files.read(path)
        except OSError as failed:
            raise AgentError(f"failed to open file '{path}' (mode: 'r'): {failed.strerror}") from failed
        found: dict[str, Any] = {"content": content[:_TRUNCATED_BYTES].decode(errors="replace")}
        return found | ({"truncated": 1} if len(content) > _TRUNCATED_BYTES else {})

    def write(self, params: Mapping[str, Any]) -> Any:
        """guest-file-open, -write and -close; content is text unless `encode` is 0."""
        content = str(params["content"])
        data = base64.b64decode(content) if str(params.get("encode", "1")) == "0" else content.encode()
        try:
            self.guest.files.write(str(params["file"]), Memory(data))
        except OSError as failed:
            raise AgentError(f"failed to open file '{params['file']}' (mode: 'w'): {failed.strerror}") from failed
        return None


def _interface(nic: Nic) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": nic.name,
        "hardware-address": nic.mac,
        "statistics": dict.fromkeys(_STATISTICS, 0),
    }
    if nic.address:
        link_local = "fe80::" + nic.mac.replace(":", "")[:4] + ":ff:fe00:1"
        shown["ip-addresses"] = [_address(nic.address, nic.prefix), _address(link_local, 64)]
    return shown


def _address(address: str, prefix: int) -> dict[str, Any]:
    kind = "ipv6" if ":" in address else "ipv4"
    return {"ip-address": address, "ip-address-type": kind, "prefix": prefix}


def _os_info(_agent: Agent, _params: Mapping[str, Any]) -> Any:
    return {
        "id": "ubuntu",
        "kernel-release": "6.8.0-86-generic",
        "kernel-version": "#87-Ubuntu SMP PREEMPT_DYNAMIC",
        "machine": "x86_64",
        "name": "Ubuntu",
        "pretty-name": "Ubuntu 24.04.3 LTS",
        "version": "24.04.3 LTS (Noble Numbat)",
        "version-id": "24.04",
    }


_ANSWERS: dict[str, Callable[[Agent, Mapping[str, Any]], Any]] = {
    "ping": lambda _agent, _params: {},
    "network-get-interfaces": Agent.interfaces,
    "get-host-name": lambda agent, _params: {"host-name": agent.guest.hostname},
    "get-osinfo": _os_info,
    "get-time": lambda agent, _params: int(agent.guest.clock.now() * _NANOSECONDS),
    "get-timezone": lambda _agent, _params: {"offset": 0, "zone": "UTC"},
    "get-users": lambda _agent, _params: [],
    "exec": Agent.execute,
    "exec-status": Agent.status,
    "file-read": Agent.read,
    "file-write": Agent.write,
}
