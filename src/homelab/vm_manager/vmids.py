"""Gives out VMIDs, one at a time; Proxmox' own nextid reserves nothing."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from homelab.errors import NodeFailed
from homelab.preflight.storages import takes_disks, volumes_of
from homelab.proxmox.client import Proxmox

VMID_TRIES = 20


@dataclass(frozen=True, slots=True)
class VmidPool:
    """The VMIDs of one run."""

    _given: set[int] = field(default_factory=set)
    _reserved: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reserve(self, pve: Proxmox, node: str) -> None:
        """Choose a node's VMID before the nodes go their own ways, so that VMIDs follow the order of n."""
        self._reserved[node] = self._lowest_free(pve, node)

    def next_free(self, pve: Proxmox, node: str) -> int:
        """The node's reserved VMID, once; else the lowest that is free now."""
        return self._reserved.pop(node, 0) or self._lowest_free(pve, node)

    def _lowest_free(self, pve: Proxmox, node: str) -> int:
        """The lowest id that no VM has, that was not given out in this run, and that no volume on the node bears."""
        with self._lock:
            vmid = pve.next_vmid()
            taken = {row.vmid for row in pve.cluster_vms()} | self._given
            storages = [one.name for one in pve.storages(node) if takes_disks(one)]
            left: set[str] = set()
            for candidate in range(vmid, vmid + len(taken) + VMID_TRIES):
                if candidate in taken:
                    continue
                bearing = {name for name in storages if volumes_of(pve, node, name, candidate)}
                if not bearing:
                    self._given.add(candidate)
                    return candidate
                left |= bearing
        where = ", ".join(sorted(left))
        raise NodeFailed(
            f"{node}: no VMID is free of leftovers",
            f"volumes of deleted VMs are left on {where}, from {vmid} on",
            f"pvesm list {min(left, default='STORAGE')} shows them, pvesm free VOLUME removes one",
        )
