"""Which VMs there are, and which of them is a node's."""

from __future__ import annotations

from dataclasses import dataclass

from homelab.errors import NodeFailed, Problem
from homelab.models import VmRow
from homelab.settings import NodeConfig


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every VM of the cluster by name, or why there is no list; `unread` is why some names in it are empty.

    `pools` are the ids of all resource pools that can be seen.
    """

    rows: tuple[VmRow, ...]
    problem: Problem | None = None
    unread: Problem | None = None
    pools: frozenset[str] = frozenset()

    def named(self, name: str) -> tuple[VmRow, ...]:
        """Case does not count: a Node's name is always lower case, an older VM's may not be."""
        return tuple(row for row in self.rows if row.name.lower() == name and not row.is_container)

    def numbered(self, vmid: int) -> VmRow | None:
        return next((row for row in self.rows if row.vmid == vmid), None)


def ours(node: NodeConfig, inventory: Inventory) -> VmRow | None:
    """The one VM that belongs to this node: by VMID_n (whose name must match), else by name."""
    named = inventory.named(node.vm_name)
    if node.vmid is not None:
        return _numbered(node, node.vmid, inventory, named)
    if len(named) > 1:
        raise NodeFailed(
            f"{node.vm_name} is not one VM",
            f"that name is carried by {_places(named)}",
            f"rename or remove the wrong one, or set {node.key('VMID')} to the right one",
        )
    return named[0] if named else None


def _numbered(node: NodeConfig, vmid: int, inventory: Inventory, named: tuple[VmRow, ...]) -> VmRow | None:
    row = inventory.numbered(vmid)
    if row and not row.name and inventory.unread:
        raise NodeFailed(inventory.unread.what, inventory.unread.why, inventory.unread.cure)
    if row is None and named:
        raise NodeFailed(
            f"{node.key('VMID')}={vmid} is not there",
            f"the name {node.vm_name} is carried by {_places(named)}",
            f"set {node.key('VMID')}={named[0].vmid}, or rename that VM",
        )
    if row and (row.is_container or row.name.lower() != node.vm_name):
        kind = "container" if row.is_container else "VM"
        raise NodeFailed(
            f"{node.key('VMID')}={vmid} is another {kind}",
            f"it is named {row.name or '(none)'} on {row.node}, not {node.vm_name}",
            f"correct {node.key('VMID')}, or set {node.key('VM_NAME')} to the name of the VM that is meant",
        )
    return row


def _places(rows: tuple[VmRow, ...]) -> str:
    return ", ".join(f"{row.vmid} on {row.node}" for row in rows)
