"""`ethtool -k` and `-K`, for the one feature of which k3s's network on VMs is known to break."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine
    from pvelab.machine import Process

OFFLOAD = "tx-checksum-ip-generic"
OVERLAY = "flannel.1"
_NO_DEVICE = 75


async def ethtool(guest: GuestMachine, process: Process) -> int:
    """`ethtool -k DEVICE` shows the offload of checksums, `ethtool -K DEVICE tx-checksum-ip-generic off` ends it."""
    match process.argv[1:]:
        case ["-k" | "--show-features", device] if device in _devices(guest):
            state = "off" if device in guest.without_offload else "on"
            process.print(f"Features for {device}:\ntx-checksumming: {state}\n\t{OFFLOAD}: {state}")
            return 0
        case ["-K" | "--features", device, name, "on" | "off" as state] if device in _devices(guest):
            if name != OFFLOAD:
                process.complain(f"ethtool: bad command line argument(s)\nunknown to the lab: {name}")
                return 1
            (guest.without_offload.add if state == "off" else guest.without_offload.discard)(device)
            return 0
        case ["-k" | "-K" | "--show-features" | "--features", *_]:
            process.complain("Cannot get device feature names: No such device")
            return _NO_DEVICE
    process.complain("ethtool: bad command line argument(s)\nFor more information run ethtool -h")
    return 1


def _devices(guest: GuestMachine) -> list[str]:
    """The cards, and the overlay network's where k3s runs."""
    has_overlay = any(
        unit.active == "active"
        for name, unit in guest.systemd.units.items()
        if name in ("k3s.service", "k3s-agent.service")
    )
    return [*(nic.name for nic in guest.hardware.nics), *([OVERLAY] if has_overlay else [])]
