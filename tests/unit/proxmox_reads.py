"""A hand-written stand-in for the part of Proxmox that the health check reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from homelab.errors import HomelabError, NotThere, Unreachable
from homelab.models import HostStatus, Resources, TaskRow, VmConfig, VmFacts, VmRow, VmStatus
from unit.builders import DAY_S, HOST

NOW = 1_760_000_000


def start_task(start_time: int, **changes: Any) -> TaskRow:
    ended = TaskRow("UPID:...", "qmstart", "107", "root@pam", start_time, start_time + 5, "OK")
    return replace(ended, **changes)


YESTERDAY = start_task(NOW - DAY_S)


@dataclass
class ProxmoxReads:
    """A Proxmox cluster as far as the health check reads it.

    `offline` holds the VMs of members that do not answer, `vanished` the VMIDs that are listed but gone, `until_start`
    what every VM has until it is started again, `failing` the error of a read by its name; `asked` lists every read
    with what it was about.
    """

    vms: Sequence[VmFacts] = ()
    containers: Sequence[VmRow] = ()
    nameless: frozenset[int] = frozenset()
    offline: Mapping[str, Sequence[VmRow]] = field(default_factory=dict)
    vanished: frozenset[int] = frozenset()
    until_start: Mapping[str, str] = field(default_factory=dict)
    task_rows: Sequence[TaskRow] = (YESTERDAY,)
    active: Sequence[TaskRow] = ()
    uptime_s: int = 30 * DAY_S
    is_seeing_all: bool = True
    links: Mapping[str, object] = field(default_factory=lambda: {"pve1": object(), "pve2": object()})
    failing: Mapping[str, HomelabError] = field(default_factory=dict)
    pools: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)

    def _ask(self, what: str, *about: object) -> None:
        self.asked.append(" ".join(map(str, (what, *about))))
        if what in self.failing:
            raise self.failing[what]

    def _vm(self, node: str, vmid: int) -> VmFacts:
        if vmid in self.vanished:
            raise NotThere(f"VM {vmid}", "Configuration file does not exist", status=500)
        return next(found for found in self.vms if (found.node, found.vmid) == (node, vmid))

    def resources(self) -> Resources:
        self._ask("resources")
        listed = [
            VmRow(found.vmid, found.node, "" if found.vmid in self.nameless else found.config.name)
            for found in self.vms
        ]
        unreachable = [replace(row, name="") for rows in self.offline.values() for row in rows]
        return Resources((*listed, *unreachable, *self.containers), self.pools)

    def offline_vms(self, node: str) -> tuple[VmRow, ...]:
        self._ask("offline_vms", node)
        return tuple(row for row in self.offline[node] if row.vmid not in self.vanished)

    def vm_status(self, node: str, vmid: int) -> VmStatus:
        self._ask("vm_status", node, vmid)
        return self._vm(node, vmid).status

    def vm_config(self, node: str, vmid: int, *, is_current: bool = False) -> VmConfig:
        self._ask("present_config" if is_current else "vm_config", node, vmid)
        if node in self.offline:
            raise Unreachable(f"node {node}", "no answer")
        return VmConfig({**self._vm(node, vmid).config.values, **(self.until_start if is_current else {})}, "d1")

    def sees_all_vms(self) -> bool:
        self._ask("sees_all_vms")
        return self.is_seeing_all

    def host(self, node: str) -> HostStatus:
        self._ask("host", node)
        return replace(HOST, uptime_s=self.uptime_s)

    def host_time(self, node: str) -> int:
        self._ask("host_time", node)
        return NOW

    def tasks(
        self, node: str, *, vmid: int | None = None, limit: int = 50, is_active: bool = False
    ) -> tuple[TaskRow, ...]:
        self._ask("active_tasks" if is_active else "tasks", node, vmid)
        return tuple(self.active if is_active else self.task_rows)[:limit]

    def has_snapshots(self, node: str, vmid: int) -> bool:
        self._ask("has_snapshots", node, vmid)
        return False

    def own_firewall(self, node: str, vmid: int) -> tuple[str, ...]:
        self._ask("own_firewall", node, vmid)
        return ()

    def vm_acl_paths(self, vmid: int) -> tuple[str, ...]:
        self._ask("vm_acl_paths", vmid)
        return ()

    def replication_jobs(self, node: str, vmid: int) -> tuple[str, ...]:
        self._ask("replication_jobs", node, vmid)
        return ()
