"""Is a host fit for a VM: its release, its clock, and the memory that its guests may come to use? Read-only."""

from __future__ import annotations

import re

from homelab import sizing
from homelab.errors import HomelabError, NodeFailed, NotThere, Problem
from homelab.models import HostStatus, NodePlan, VmRow
from homelab.proxmox.client import Proxmox
from homelab.runtime import Clock
from homelab.settings import Policy

OLDEST, NEWEST = (8, 2), (9, 2)
MOST_SKEW_S = 60
"""From here on logs mislead, tokens expire at the wrong time, and certificates are not valid yet."""


def check_release(node: str, host: HostStatus) -> Problem | None:
    """What is to be said of a release that is newer than those known here; raises NodeFailed on one that is older."""
    release = re.match(r"(\d+)\.(\d+)", host.version)
    found = (int(release[1]), int(release[2])) if release else None
    supported = f"{_dotted(OLDEST)} to {_dotted(NEWEST)}"
    if found is None:
        return Problem(
            f"{node}: its release of Proxmox VE is not understood",
            f"it calls itself {host.version!r}",
            "pveversion on the node tells it",
        )
    if found < OLDEST:
        raise NodeFailed(
            f"{node}: Proxmox VE {host.version} is too old",
            f"{supported} are supported",
            "upgrade it (https://pve.proxmox.com/wiki/Category:Upgrade), or leave it out of .env",
        )
    if found > NEWEST:
        return Problem(
            f"{node}: Proxmox VE {host.version} is newer than homelab knows",
            f"{supported} are known to work",
            "look for a newer homelab; until there is one it goes on as with the newest that it knows",
        )
    return None


def _dotted(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))


def check_clock(pve: Proxmox, node: str, clock: Clock) -> Problem | None:
    """What is to be said where the host's clock differs much from this machine's. Raises what the read raises."""
    before = clock.now()
    theirs = pve.host_time(node)
    ahead_s = max(theirs - clock.now(), 0.0) + min(theirs + 1 - before, 0.0)
    if abs(ahead_s) < MOST_SKEW_S:
        return None
    return Problem(
        f"{node}: its clock is {abs(ahead_s):.0f} s {'fast' if ahead_s > 0 else 'slow'}",
        "by that of this machine; certificates, tokens and a new VM go by the host's time",
        f"on {node}: chronyc tracking; systemctl restart chrony; it has to reach a time server (NTP, UDP port 123)",
    )


def memory_mib(pve: Proxmox, policy: Policy, node: NodePlan, host: HostStatus) -> int:
    """How much the VM of a plan gets; raises NodeFailed where that is not enough, and what the reads raise."""
    old = node.facts.vm
    return sizing.memory_mib(
        node.config,
        host,
        reserve_mib=policy.host_reserve_mib,
        reclaimed_bytes=old.status.memory_bytes if old and old.status.status == "running" else 0,
        promised_bytes=promised_bytes(pve, node.name, old.vmid if old else 0),
    )


def promised_bytes(pve: Proxmox, node: str, besides: int) -> int:
    """The memory that a node's guests have or will have: those that run, and those that start when the host does.

    The VM `besides` does not count. A guest that is off, and does not say whether it starts, counts.
    """
    guests = (row for row in pve.cluster_vms() if row.node == node and row.vmid != besides)
    return sum(row.memory_bytes if row.is_running else _promised_to(pve, row) for row in guests)


def _promised_to(pve: Proxmox, row: VmRow) -> int:
    """To a guest that is off, or of which the cluster's list does not know more yet, as of one that was just made."""
    try:
        return pve.memory_from_boot(row)
    except NotThere:
        return 0
    except HomelabError:
        return row.memory_bytes
