"""The QEMU guest agent: what a guest says of itself, without network."""

from __future__ import annotations

from collections.abc import Sequence

from homelab.errors import Misunderstood
from homelab.proxmox import answers
from homelab.proxmox.answers import AgentInterface, flag, number, table, text
from homelab.proxmox.reads import Reads
from homelab.runtime import Wait, wait_for
from homelab.shell import Result


class Agent(Reads):
    """Raises Refused with Proxmox' words while no agent answers (`QEMU guest agent is not running`)."""

    def agent_interfaces(self, node: str, vmid: int) -> tuple[AgentInterface, ...]:
        """All of the guest's interfaces, `lo` among them."""
        path = f"/nodes/{node}/qemu/{vmid}/agent/network-get-interfaces"
        return answers.agent_interfaces(self._read(node, path))

    def agent_file_read(self, node: str, vmid: int, path: str) -> str:
        """A text file of the guest, at most 16 MiB of it."""
        data = self._read(node, f"/nodes/{node}/qemu/{vmid}/agent/file-read", {"file": path})
        return text(table(data, "guest agent, file-read"), "content")

    def agent_exec(self, node: str, vmid: int, command: Sequence[str], *, timeout_s: float = 30) -> Result:
        """Run a program in the guest as root and wait for its end; any exit code is a Result.

        Nothing is put on record: whoever changes something by it has to look afterwards. Raises TimedOut when it still
        runs, Misunderstood when the agent has cut its output off.
        """
        what = f"the guest agent of VM {vmid} on {node}, running {command[0]}"
        path = f"/nodes/{node}/qemu/{vmid}/agent/exec"
        pid = number(table(self.link(node).call("POST", path, {"command": list(command)}), what), "pid")
        ended = wait_for(
            lambda: table(self._read(node, f"{path}-status", {"pid": pid}), what),
            lambda seen: flag(seen, "exited"),
            Wait(what, timeout_s, self._clock, f"on {node}: qm guest exec-status {vmid} {pid}"),
            describe=lambda _: "it still runs",
        )
        if flag(ended, "out-truncated"):
            raise Misunderstood(what, "its output is longer than the guest agent keeps")
        output = text(ended, "out-data")
        return Result(number(ended, "exitcode", -1), output, text(ended, "err-data"), output.encode())
