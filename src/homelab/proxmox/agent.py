"""The QEMU guest agent: what a guest says of itself, without network."""

from __future__ import annotations

from homelab.proxmox import answers
from homelab.proxmox.answers import AgentInterface, table, text
from homelab.proxmox.reads import Reads


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
