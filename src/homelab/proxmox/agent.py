"""The QEMU guest agent: what a guest says of itself, and commands in it without network."""

from __future__ import annotations

from collections.abc import Sequence

from homelab.proxmox import answers
from homelab.proxmox.answers import AgentInterface, AgentResult, flag, number, table, text
from homelab.proxmox.reads import Reads
from homelab.runtime import wait_for

KILLED_BY_SIGNAL = 128


class Agent(Reads):
    """Raises Refused with Proxmox' words while no agent answers (`QEMU guest agent is not running`)."""

    def agent_interfaces(self, node: str, vmid: int) -> tuple[AgentInterface, ...]:
        """All of the guest's interfaces, `lo` among them."""
        path = f"/nodes/{node}/qemu/{vmid}/agent/network-get-interfaces"
        return answers.agent_interfaces(self._read(node, path))

    def agent_exec(
        self, node: str, vmid: int, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30
    ) -> AgentResult:
        """Run a command as root in the guest; its input goes beside the words, never among them.

        Raises TimedOut when it still runs after timeout_s (it goes on there), Undecided when it may have been started.
        """
        path = f"/nodes/{node}/qemu/{vmid}/agent"
        params: dict[str, str | Sequence[str]] = {"command": list(argv)}
        if stdin:
            params["input-data"] = stdin.decode()
        started = table(self.link(node).call("POST", f"{path}/exec", params), "guest agent, exec")
        ended = wait_for(
            lambda: table(
                self._read(node, f"{path}/exec-status", {"pid": number(started, "pid")}), "guest agent, exec-status"
            ),
            lambda seen: flag(seen, "exited"),
            clock=self._clock,
            timeout_s=timeout_s,
            what=f"{argv[0]} in VM {vmid} on {node}, by the guest agent",
            cure="it goes on in the guest; look there, or run again",
        )
        signal = number(ended, "signal", 0)
        code = KILLED_BY_SIGNAL + signal if signal else number(ended, "exitcode", 0)
        return AgentResult(code, text(ended, "out-data"), text(ended, "err-data"))

    def agent_file_read(self, node: str, vmid: int, path: str) -> str:
        """A text file of the guest, at most 16 MiB of it."""
        data = self._read(node, f"/nodes/{node}/qemu/{vmid}/agent/file-read", {"file": path})
        return text(table(data, "guest agent, file-read"), "content")
