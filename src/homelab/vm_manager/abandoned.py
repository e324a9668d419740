"""What earlier runs began on nodes that `.env` names no more: looked at from the others, told, closed when over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from homelab import memory
from homelab.errors import HomelabError, NotThere
from homelab.memory import Intent, Journal
from homelab.models import TAG_UNFINISHED
from homelab.preflight.storages import volumes_of
from homelab.proxmox.client import Proxmox
from homelab.vm_manager.resuming import CREATION, FILE, is_busy, title


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Read-only in Proxmox. `configured` are the nodes that `.env` names; `warn` tells a person what is open."""

    pve: Proxmox
    journal: Journal
    warn: Callable[[str], None]
    configured: frozenset[str]

    def run(self) -> None:
        for intent in self.journal.unfinished():
            if intent.node not in self.configured:
                self._look_at(intent)

    def _look_at(self, intent: Intent) -> None:
        """A file is told of once: what there is of it beside its place, the API does not show."""
        try:
            is_member = intent.node in self.pve.member_names()
            left = self._left(intent) if is_member else ""
        except HomelabError as error:
            left = f"it cannot be looked at: {error}; if the node is gone for good: pvecm delnode {intent.node}"
        file = FILE.fullmatch(intent.what)
        if left:
            begun = f"{intent.node}: {title(intent)}, begun by an earlier run, is open, and no NODE_n names that node"
            self.warn(f"{begun}: {left}")
        if file or not left:
            self.journal.end(intent, "no node of ours any more")

    def _left(self, intent: Intent) -> str:
        """What is not over, with its cure; empty: nothing."""
        node, vmid = intent.node, intent.vmid
        if file := FILE.fullmatch(intent.what):
            volume = file["volume"]
            return f"a part of the file may be left; on {node}: ls -A $(dirname $(pvesm path {volume}))"
        if is_busy(self.pve, intent):
            return f"a task still works on it; wait for it to end: pvesh get /nodes/{node}/tasks --source active"
        if not vmid:
            return ""
        try:
            config = self.pve.vm_config(node, vmid)
        except NotThere:
            return self._volumes_left(intent)
        if config.values.get("lock") == "create" or TAG_UNFINISHED in config.tags:
            return (
                f"the VM is not finished; set NODE_n={node} and run again, or on {node}: "
                f"qm unlock {vmid}; qm destroy {vmid}"
            )
        return ""

    def _volumes_left(self, intent: Intent) -> str:
        """Of a creation that came to nothing."""
        creation = memory.creation_of(self.journal, intent.node, intent.vmid)
        if creation is None or not CREATION.fullmatch(intent.what):
            return ""
        rows = volumes_of(self.pve, creation.node, creation.storage, creation.vmid)
        left = [row.volume for row in rows if row.volume not in creation.found]
        return f"it left disks; on {intent.node}: " + "; ".join(f"pvesm free {one}" for one in left) if left else ""
