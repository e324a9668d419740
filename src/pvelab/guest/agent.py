"""The QEMU guest agent: what it answers to Proxmox."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pvelab.guest import agent_facts
from pvelab.guest.ubuntu import AGENT_UNIT
from pvelab.machine import AgentError
from pvelab.shell.contents import Memory
from pvelab.shell.run import Result, run_argv, shell_for
from pvelab.shell.streams import Collected, Given

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine

_FIRST_PID = 1400
_TRUNCATED_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_AS_PERL_SHOWS = "latin-1"
"""Proxmox takes the bytes for characters, each by itself."""
NOT_FOUND = "CommandNotFound"
ALLOWED_WHILE_FROZEN = ("fsfreeze-status", "fsfreeze-thaw", "info", "ping")
WITHOUT_RESPONSE = ("shutdown", "suspend-disk", "suspend-hybrid", "suspend-ram")


@dataclass(slots=True, eq=False)
class Agent:
    """The agent of one boot; commands that it started are asked after by their process id."""

    guest: GuestMachine
    is_frozen: bool = False
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
            raise AgentError(f"The command guest-{command} has not been found", NOT_FOUND)
        if self.is_frozen and command not in ALLOWED_WHILE_FROZEN:
            raise AgentError(f"Command guest-{command} has been disabled: the agent is in frozen state", NOT_FOUND)
        return answer(self, params)

    def freeze(self, _params: Mapping[str, Any]) -> int:
        """guest-fsfreeze-freeze: how many file systems stand still now."""
        self.is_frozen = True
        return len(self.guest.files.mounted)

    def thaw(self, _params: Mapping[str, Any]) -> int:
        """guest-fsfreeze-thaw: how many go on."""
        thawed = len(self.guest.files.mounted) if self.is_frozen else 0
        self.is_frozen = False
        return thawed

    def set_password(self, params: Mapping[str, Any]) -> Any:
        """guest-set-user-password."""
        if params["username"] not in self.guest.accounts:
            raise AgentError("child process has failed to set user password")
        return {}

    def info(self, _params: Mapping[str, Any]) -> Any:
        """guest-info: the version, and which commands may be used now."""
        commands = [
            {
                "enabled": not self.is_frozen or name in ALLOWED_WHILE_FROZEN,
                "name": f"guest-{name}",
                "success-response": name not in WITHOUT_RESPONSE,
            }
            for name in sorted(_ANSWERS)
        ]
        return {"supported_commands": commands, "version": agent_facts.AGENT_VERSION}

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
        """guest-exec-status; a finished program is forgotten once it was reported.

        Source: QEMU 8.2, qga/commands.c: of output above 16 MiB the rest is missing, and the field that is to say so is
        there then, but false.
        """
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
                found[f"{name}-data"] = data[:_TRUNCATED_BYTES].decode(_AS_PERL_SHOWS)
            if len(data) > _TRUNCATED_BYTES:
                found[f"{name}-truncated"] = 0
        return found

    def read(self, params: Mapping[str, Any]) -> Any:
        """guest-file-open, -seek, -read and -close at once, as Proxmox calls them.

        Source: qemu-server, PVE/API2/Qemu/Agent.pm: pieces of 1 MiB, each encoded by itself; what ends exactly where
        reading ends counts as truncated, since the end was not met.
        """
        path = str(params["file"])
        try:
            content = self.guest.files.read(path)
        except OSError as failed:
            raise AgentError(f"failed to open file '{path}' (mode: 'r'): {failed.strerror}") from failed
        rest, count = content[int(params.get("offset", 0)) :], int(params.get("count", _TRUNCATED_BYTES))
        taken = rest[:count]
        chunks = (_base64(taken[begin : begin + _CHUNK_BYTES]) for begin in range(0, len(taken), _CHUNK_BYTES))
        text = taken.decode(_AS_PERL_SHOWS) if str(params.get("decode", "1")) == "1" else "".join(chunks)
        found: dict[str, Any] = {"bytes-read": len(taken), "content": text}
        return found | ({"truncated": 1} if len(rest) >= count else {})

    def write(self, params: Mapping[str, Any]) -> Any:
        """guest-file-open, -write and -close; content is text unless `encode` is 0."""
        content = str(params["content"])
        data = base64.b64decode(content) if str(params.get("encode", "1")) == "0" else content.encode()
        try:
            self.guest.files.write(str(params["file"]), Memory(data))
        except OSError as failed:
            raise AgentError(f"failed to open file '{params['file']}' (mode: 'wb'): {failed.strerror}") from failed
        return None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _cannot_suspend(_agent: Agent, _params: Mapping[str, Any]) -> Any:
    raise AgentError("the requested suspend mode is not supported by the guest")


def _fact(tell: Callable[[GuestMachine], Any]) -> Answer:
    return lambda agent, _params: tell(agent.guest)


Answer = Callable[[Agent, Mapping[str, Any]], Any]
_ANSWERS: dict[str, Answer] = {
    "ping": lambda _agent, _params: {},
    "network-get-interfaces": _fact(agent_facts.interfaces),
    "get-fsinfo": _fact(agent_facts.file_systems),
    "get-host-name": lambda agent, _params: {"host-name": agent.guest.hostname},
    "get-memory-block-info": lambda _agent, _params: {"size": agent_facts.MEMORY_BLOCK_BYTES},
    "get-memory-blocks": _fact(agent_facts.memory_blocks),
    "get-osinfo": lambda _agent, _params: agent_facts.operating_system(),
    "get-time": _fact(agent_facts.time_ns),
    "get-timezone": lambda _agent, _params: {"offset": 0, "zone": "UTC"},
    "get-users": lambda _agent, _params: [],
    "get-vcpus": _fact(agent_facts.processors),
    "info": Agent.info,
    "fsfreeze-freeze": Agent.freeze,
    "fsfreeze-status": lambda agent, _params: "frozen" if agent.is_frozen else "thawed",
    "fsfreeze-thaw": Agent.thaw,
    "fstrim": _fact(agent_facts.trimmed),
    "set-user-password": Agent.set_password,
    "shutdown": lambda _agent, _params: None,
    "suspend-disk": _cannot_suspend,
    "suspend-hybrid": _cannot_suspend,
    "suspend-ram": _cannot_suspend,
    "exec": Agent.execute,
    "exec-status": Agent.status,
    "file-read": Agent.read,
    "file-write": Agent.write,
}
