"""From JSON to types: the only place where the shape of Proxmox' answers is known."""

from __future__ import annotations

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
    return default if value is None else str(value)


def number(row: Row, key: str, default: int | None = None) -> int:
    """A whole number, given as number or digits; without default it must be there."""
    value: Any = row.get(key, default)
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise misunderstood(f"the field {key!r}", f"{value!r} is not a number") from error


def flag(row: Row, key: str) -> bool:
    return text(row, key, "0") not in ("0", "", "False")


def whole(data: Any, what: str) -> str:
    """An answer that is one text, such as a UPID."""
    if not isinstance(data, str):
        raise misunderstood(what, f"expected text, got {type(data).__name__}")
    return data


def cluster_status(data: Any) -> ClusterStatus:
    entries = rows(data, "GET /cluster/status")
    members = tuple(
        Member(text(row, "name"), text(row, "ip"), flag(row, "online"), flag(row, "local"))
        for row in entries
        if row.get("type") == "node"
    )
    clusters = [row for row in entries if row.get("type") == "cluster"]
    if not members:
        raise misunderstood("GET /cluster/status", "it names no node")
    return ClusterStatus(members, all(flag(row, "quorate") for row in clusters))


def cluster_vms(data: Any) -> tuple[VmRow, ...]:
    return tuple(
        VmRow(number(row, "vmid"), text(row, "node"), text(row, "name"), row.get("type") == "lxc", text(row, "pool"))
        for row in rows(data, "GET /cluster/resources")
        if row.get("type") in ("qemu", "lxc")
    )


def node_vms(data: Any, node: str) -> tuple[VmRow, ...]:
    found = rows(data, f"GET /nodes/{node}/qemu")
    return tuple(VmRow(number(row, "vmid"), node, text(row, "name")) for row in found)


def host_status(data: Any) -> HostStatus:
    row = table(data, "node status")
    memory = table(row.get("memory"), "node status, memory")
    processors = table(row.get("cpuinfo"), "node status, cpuinfo")
    return HostStatus(
        uptime_s=number(row, "uptime"),
        threads=number(processors, "cpus"),
        memory_total_bytes=number(memory, "total"),
        memory_free_bytes=number(memory, "available" if "available" in memory else "free"),
        version=_pve_version(text(row, "pveversion")),
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
            vmid=number(row, "vmid") if row.get("vmid") is not None else None,
            used_bytes=number(row, "used", 0),
        )
        for row in rows(data, f"content of storage {storage}")
    )


def bridges(data: Any, node: str) -> tuple[BridgeState, ...]:
    found = rows(data, f"GET /nodes/{node}/network")
    return tuple(BridgeState(text(row, "iface"), flag(row, "active")) for row in found)


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
                text(address, "ip-address") for address in rows(row.get("ip-addresses", []), "guest agent, addresses")
            ),
        )
        for row in found
    )
