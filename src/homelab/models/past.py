"""What earlier runs noted about a node's VM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CarriedOver:
    """What a replacement takes over from the VM that it replaces.

    `uuid` is the old machine's system UUID, `kept` are settings as Proxmox stores them, `role` is its homelab-server or
    homelab-agent tag, or empty.
    """

    vmid: int
    uuid: str = ""
    macs: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    pool: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """Times are Unix seconds of this machine; None: it has not happened, as far as is known.

    `struck_at`: found down and started unattended. `replacing`: a replacement was begun and has not been finished.
    """

    replaced_at: float | None = None
    struck_at: float | None = None
    rebooted_at: float | None = None
    replacing: CarriedOver | None = None
