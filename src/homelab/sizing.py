"""Ratios of a host become cores and MiB; pure."""

from __future__ import annotations

from homelab.errors import NodeFailed
from homelab.models import MIB, HostStatus
from homelab.settings import NodeConfig

LEAST_MEMORY_MIB = 2048


def cores(node: NodeConfig, host: HostStatus) -> int:
    """CPU_RATIO_n of the host's threads, rounded down, at least 1; VM_CORES_n wins.

    Raises NodeFailed when VM_CORES_n is more than the host has (Proxmox would refuse to start the VM).
    """
    wanted = node.cores or max(1, int(round(host.threads * node.cpu_ratio, 6)))
    if wanted > host.threads:
        raise NodeFailed(
            f"{node.name}: {wanted} cores are too many",
            f"the host has {host.threads} threads",
            f"set {node.key('VM_CORES')} to {host.threads} or less",
        )
    return wanted


def memory_mib(
    node: NodeConfig, host: HostStatus, *, reserve_mib: int, reclaimed_bytes: int = 0, promised_bytes: int = 0
) -> int:
    """MEMORY_RATIO_n of the host's total memory in MiB, but never more than is free less the reserve.

    `reclaimed_bytes` is what a VM about to be replaced holds now, `promised_bytes` what the host's other guests may
    come to use: that is not given away either. VM_MEMORY_n is taken as it is, or refused.
    Raises NodeFailed with the numbers when it does not fit.
    """
    free_mib = (host.memory_free_bytes + reclaimed_bytes) // MIB
    unpromised_mib = (host.memory_total_bytes - promised_bytes) // MIB
    spare_mib = min(free_mib, unpromised_mib) - reserve_mib
    wanted_mib = node.memory_mib or int(host.memory_total_bytes / MIB * node.memory_ratio)
    granted_mib = wanted_mib if node.memory_mib else min(wanted_mib, spare_mib)
    if granted_mib > spare_mib or (granted_mib < LEAST_MEMORY_MIB and not node.memory_mib):
        least_mib = node.memory_mib or LEAST_MEMORY_MIB
        key = node.key("VM_MEMORY" if node.memory_mib else "MEMORY_RATIO")
        asked = f"{node.memory_mib} MiB" if node.memory_mib else f"{node.memory_ratio:g}"
        raise NodeFailed(
            f"{node.name}: not enough memory for the VM",
            f"{least_mib} MiB are needed, {max(spare_mib, 0)} MiB can be given "
            f"({_least(free_mib, unpromised_mib)} less {reserve_mib} MiB for the host; "
            f"{key} asks for {asked} of {host.memory_total_bytes // MIB} MiB)",
            f"set {node.key('VM_MEMORY')} (MiB) to what may be used, stop or shrink other guests on {node.name}, "
            f"or set {node.key('NODE_ENABLED')}=0",
        )
    return granted_mib


def _least(free_mib: int, unpromised_mib: int) -> str:
    if free_mib <= unpromised_mib:
        return f"{free_mib} MiB free"
    return f"{unpromised_mib} MiB not promised to guests that run or start with the host,"
