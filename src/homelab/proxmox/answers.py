"""From JSON to types: the only place where the shape of Proxmox' answers is known."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homelab.errors import Misunderstood
from homelab.models import (
    BridgeState,
    ClusterStatus,
    HostStatus,
    Member,
    StorageState,
    TaskRow,
    VmConfig,
    VmRow,
    VmStatus,
    VolumeRow,
)

Row = Mapping[str, Any]

LARGEST = 2**63 - 1
VMIDS = range(100, 1_000_000_000)
FLAGS = {"1": True, "True": True, "0": False, "False": False, "": False}
GUESTS = ("qemu", "lxc")
RESOURCES = (*GUESTS, "node", "storage", "pool", "sdn", "network")
LONGEST_SHOWN = 80
DNS_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
"""All that Proxmox takes for a name."""


@dataclass(frozen=True, slots=True)
class AgentInterface:
    """A network interface as the guest agent sees it; `mac` in upper case, addresses without prefix length."""

    name: str
    mac: str
    addresses: tuple[str, ...]


def misunderstood(what: str, why: str) -> Misunderstood:
    return Misunderstood(what, why, "is something other than Proxmox VE 8.2 to 9.2 answering at this address?")


def table(data: Any, what: str) -> Row:
    if not isinstance(data, Mapping):
        raise misunderstood(what, f"expected fields, got {type(data).__name__}")
    return data


def rows(data: Any, what: str) -> Sequence[Row]:
    if not isinstance(data, list):
        raise misunderstood(what, f"expected a list, got {type(data).__name__}")
    return [table(row, what) for row in data]


def text(row: Row, key: str, default: str = "") -> str:
    """A field as text: Proxmox gives the same field now as a number, now as a string."""
    value = row.get(key)
    if isinstance(value, list | Mapping):
        raise misunderstood(f"the field {key!r}", f"{_shown(value)} is no text")
    return default if value is None else str(value)


def number(row: Row, key: str, default: int | None = None) -> int:
    """A whole number, given as number or digits; without default it must be there."""
    value: Any = row.get(key, default)
    try:
        found = int(value)
    except (TypeError, ValueError) as error:
        raise misunderstood(f"the field {key!r}", f"{_shown(value)} is not a number") from error
    if abs(found) > LARGEST:
        raise misunderstood(f"the field {key!r}", f"{_shown(value)} is too large a number")
    return found


def vmid(row: Row, key: str = "vmid") -> int:
    """A number that a VM can have."""
    found = number(row, key)
    if found not in VMIDS:
        raise misunderstood(f"the field {key!r}", f"{found} is no VMID")
    return found


def flag(row: Row, key: str) -> bool:
    """Yes or no; a field that is missing or empty says no."""
    value = text(row, key)
    if value not in FLAGS:
        raise misunderstood(f"the field {key!r}", f"{_shown(value)} is neither 0 nor 1")
    return FLAGS[value]


def address(row: Row, key: str) -> str:
    """An IP address as it is written there; empty where there is none."""
    found = text(row, key)
    try:
        if found:
            ipaddress.ip_address(found)
    except ValueError as error:
        raise misunderstood(f"the field {key!r}", f"{_shown(found)} is no address") from error
    return found


def _kind(row: Row, *known: str) -> str:
    found = text(row, "type")
    if found not in known:
        raise misunderstood("the field 'type'", f"{_shown(found)} is none of {', '.join(known)}")
    return found


def _name(row: Row) -> str:
    """The name of a VM; empty for what can be none, as where the list does not know it yet."""
    name = text(row, "name")
    return name if DNS_NAME.fullmatch(name) else ""


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."


def whole(data: Any, what: str) -> str:
    """An answer that is one text, such as a UPID."""
    if not isinstance(data, str):
        raise misunderstood(what, f"expected text, got {type(data).__name__}")
    return data


def cluster_status(data: Any) -> ClusterStatus:
    entries = rows(data, "GET /cluster/status")
    nodes = [row for row in entries if _kind(row, "node", "cluster") == "node"]
    members = tuple(
        Member(text(row, "name"), address(row, "ip"), flag(row, "online"), flag(row, "local")) for row in nodes
    )
    clusters = [row for row in entries if row not in nodes]
    if not members:
        raise misunderstood("GET /cluster/status", "it names no node")
    return ClusterStatus(members, all(flag(row, "quorate") for row in clusters))


def cluster_vms(data: Any) -> tuple[VmRow, ...]:
    found = [row for row in rows(data, "GET /cluster/resources") if _kind(row, *RESOURCES) in GUESTS]
    return tuple(
        VmRow(
            vmid(row),
            text(row, "node"),
            _name(row),
            is_container=row["type"] == "lxc",
            pool=text(row, "pool"),
            memory_bytes=number(row, "maxmem", 0),
            is_running=text(row, "status") == "running",
        )
        for row in found
    )


def pools(data: Any) -> frozenset[str]:
    found = [row for row in rows(data, "GET /cluster/resources") if row.get("type") == "pool"]
    return frozenset(text(row, "pool") for row in found)


def node_vms(data: Any, node: str) -> tuple[VmRow, ...]:
    found = rows(data, f"GET /nodes/{node}/qemu")
    return tuple(VmRow(vmid(row), node, _name(row)) for row in found)


def host_status(data: Any) -> HostStatus:
    row = table(data, "node status")
    memory = table(row.get("memory"), "node status, memory")
    processors = table(row.get("cpuinfo"), "node status, cpuinfo")
    root = table(row.get("rootfs", {}), "node status, rootfs")
    return HostStatus(
        uptime_s=number(row, "uptime"),
        threads=number(processors, "cpus"),
        memory_total_bytes=number(memory, "total"),
        memory_free_bytes=number(memory, "available" if "available" in memory else "free"),
        version=_pve_version(text(row, "pveversion")),
        root_free_bytes=number(root, "avail") if "avail" in root else None,
    )


def _pve_version(manager: str) -> str:
    """The number in `pve-manager/9.2.11/14a22df3`."""
    return manager.split("/")[1] if manager.count("/") else manager


def vm_status(data: Any) -> VmStatus:
    row = table(data, "VM status")
    status = text(row, "status")
    if not status:
        raise misunderstood("VM status", "it has no field 'status'")
    return VmStatus(
        name=text(row, "name"),
        status=status,
        qmpstatus=text(row, "qmpstatus", status),
        lock=text(row, "lock"),
        uptime_s=number(row, "uptime", 0),
        is_ha_managed=flag(table(row.get("ha", {}), "VM status, ha"), "managed"),
        memory_bytes=number(row, "mem", 0),
    )


def vm_config(data: Any) -> VmConfig:
    row = table(data, "VM config")
    return VmConfig({key: text(row, key) for key in row if key != "digest"}, text(row, "digest"))


def storages(data: Any, node: str) -> tuple[StorageState, ...]:
    return tuple(
        StorageState(
            name=text(row, "storage"),
            kind=text(row, "type"),
            content=frozenset(text(row, "content").split(",")) - {""},
            is_active=flag(row, "active"),
            is_enabled=flag(row, "enabled"),
            is_shared=flag(row, "shared"),
            free_bytes=number(row, "avail", 0),
        )
        for row in rows(data, f"GET /nodes/{node}/storage")
    )


def volumes(data: Any, storage: str) -> tuple[VolumeRow, ...]:
    return tuple(
        VolumeRow(
            volume=text(row, "volid"),
            content=text(row, "content"),
            size_bytes=number(row, "size", 0),
            vmid=vmid(row) if row.get("vmid") is not None else None,
            used_bytes=number(row, "used", 0),
        )
        for row in rows(data, f"content of storage {storage}")
    )


def bridges(data: Any, node: str) -> tuple[BridgeState, ...]:
    found = rows(data, f"GET /nodes/{node}/network")
    return tuple(BridgeState(text(row, "iface"), flag(row, "active"), text(row, "type") == "vnet") for row in found)


def tasks(data: Any, node: str) -> tuple[TaskRow, ...]:
    """Newest first."""
    found = (
        TaskRow(
            upid=text(row, "upid"),
            kind=text(row, "type"),
            vmid=text(row, "id"),
            user=text(row, "user"),
            start_time=number(row, "starttime"),
            end_time=number(row, "endtime") if row.get("endtime") is not None else None,
            exit_status=text(row, "status") if row.get("endtime") is not None else "",
            token_id=text(row, "tokenid"),
        )
        for row in rows(data, f"GET /nodes/{node}/tasks")
    )
    return tuple(sorted(found, key=lambda task: task.start_time, reverse=True))


def agent_interfaces(data: Any) -> tuple[AgentInterface, ...]:
    found = rows(table(data, "guest agent").get("result"), "guest agent, interfaces")
    return tuple(
        AgentInterface(
            name=text(row, "name"),
            mac=text(row, "hardware-address").upper(),
            addresses=tuple(
                address(one, "ip-address") for one in rows(row.get("ip-addresses", []), "guest agent, addresses")
            ),
        )
        for row in found
    )
