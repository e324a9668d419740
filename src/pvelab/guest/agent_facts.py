"""What the guest agent tells of its machine: cards, processors, memory, file systems, the system itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine, Nic

AGENT_VERSION = "8.2.2"
MEMORY_BLOCK_BYTES = 128 << 20
_MIB = 1 << 20
_NANOSECONDS = 1_000_000_000
_STATISTICS = ("rx-bytes", "rx-dropped", "rx-errs", "rx-packets", "tx-bytes", "tx-dropped", "tx-errs", "tx-packets")


def interfaces(guest: GuestMachine) -> list[dict[str, Any]]:
    """guest-network-get-interfaces."""
    loopback = {
        "name": "lo",
        "hardware-address": "00:00:00:00:00:00",
        "ip-addresses": [_address("127.0.0.1", 8), _address("::1", 128)],
        "statistics": dict.fromkeys(_STATISTICS, 0),
    }
    return [loopback, *(_interface(nic) for nic in guest.hardware.nics)]


def file_systems(guest: GuestMachine) -> list[dict[str, Any]]:
    """guest-get-fsinfo; the system's disk is the first of the SCSI controller."""
    found = []
    for mounted in guest.files.mounted:
        usage = guest.files.usage(mounted.point)
        disk = {
            "bus": 0,
            "bus-type": "scsi",
            "dev": mounted.device,
            "pci-controller": {"bus": 9, "domain": 0, "function": 0, "slot": 1},
            "target": 0,
            "unit": 0,
        }
        found.append(
            {
                "disk": [disk],
                "mountpoint": mounted.point,
                "name": mounted.device.removeprefix("/dev/"),
                "total-bytes": usage.total_bytes,
                "type": mounted.kind,
                "used-bytes": usage.used_bytes,
            }
        )
    return found


def trimmed(guest: GuestMachine) -> dict[str, Any]:
    """guest-fstrim."""
    return {"paths": [{"minimum": 0, "path": mounted.point, "trimmed": 0} for mounted in guest.files.mounted]}


def processors(guest: GuestMachine) -> list[dict[str, Any]]:
    """guest-get-vcpus; the first cannot be taken off line."""
    return [{"can-offline": number > 0, "logical-id": number, "online": True} for number in range(guest.hardware.cpus)]


def memory_blocks(guest: GuestMachine) -> list[dict[str, Any]]:
    """guest-get-memory-blocks."""
    blocks = guest.hardware.memory_mib * _MIB // MEMORY_BLOCK_BYTES
    return [{"can-offline": True, "online": True, "phys-index": number} for number in range(blocks)]


def time_ns(guest: GuestMachine) -> int:
    """guest-get-time: nanoseconds since 1970."""
    return int(guest.clock.now() * _NANOSECONDS)


def operating_system() -> dict[str, str]:
    """guest-get-osinfo."""
    return {
        "id": "ubuntu",
        "kernel-release": "6.8.0-86-generic",
        "kernel-version": "#87-Ubuntu SMP PREEMPT_DYNAMIC",
        "machine": "x86_64",
        "name": "Ubuntu",
        "pretty-name": "Ubuntu 24.04.3 LTS",
        "version": "24.04.3 LTS (Noble Numbat)",
        "version-id": "24.04",
    }


def _interface(nic: Nic) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": nic.name,
        "hardware-address": nic.mac,
        "statistics": dict.fromkeys(_STATISTICS, 0),
    }
    if nic.address:
        link_local = "fe80::" + nic.mac.replace(":", "")[:4] + ":ff:fe00:1"
        shown["ip-addresses"] = [_address(nic.address, nic.prefix), _address(link_local, 64)]
    return shown


def _address(address: str, prefix: int) -> dict[str, Any]:
    kind = "ipv6" if ":" in address else "ipv4"
    return {"ip-address": address, "ip-address-type": kind, "prefix": prefix}
