"""Disk sizes as Proxmox writes them: `32G`, `3584M`, or plain bytes."""

from __future__ import annotations

import re
from decimal import Decimal

from homelab.proxmox.answers import misunderstood

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse(text: str) -> int:
    """Bytes; raises Misunderstood."""
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)([KMGT]?)", text)
    if found is None:
        raise misunderstood("a disk size", f"{text[:80]!r} is none")
    return int(Decimal(found[1]) * UNITS[found[2]])


def show(size_bytes: int) -> str:
    """In the largest unit that is exact."""
    unit = next(unit for unit in reversed(UNITS) if size_bytes % UNITS[unit] == 0)
    return f"{size_bytes // UNITS[unit]}{unit}"
