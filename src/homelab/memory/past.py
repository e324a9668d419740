"""The journal's entries about one VM, as the planner reads them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from homelab.memory.journal import Entry, Journal
from homelab.models import CarriedOver, Past

REPLACING, REPLACED, STRUCK, REBOOTED = "replacing", "replaced", "struck", "rebooted"


def past_of(journal: Journal, vm: str) -> Past:
    """What earlier runs noted about the VM of this name."""
    begun = journal.latest((REPLACING, REPLACED), vm=vm)
    return Past(
        replaced_at=_when(journal.latest((REPLACED,), vm=vm)),
        struck_at=_when(journal.latest((STRUCK,), vm=vm)),
        rebooted_at=_when(journal.latest((REBOOTED,), vm=vm)),
        replacing=_carried(begun) if begun and begun["event"] == REPLACING else None,
        now=journal.now,
    )


def note_replacing(journal: Journal, vm: str, node: str, carried: CarriedOver) -> None:
    """Before the old VM is touched: what the new one takes over, for the run that may have to finish this."""
    fields = {**asdict(carried), "tags": sorted(carried.tags)}
    journal.note(REPLACING, vm=vm, node=node, carried=fields)


def note(journal: Journal, event: str, vm: str) -> None:
    """One of REPLACED, STRUCK, REBOOTED."""
    journal.note(event, vm=vm)


def _when(entry: Entry | None) -> float | None:
    return float(entry["at"]) if entry else None


def _carried(entry: Entry) -> CarriedOver | None:
    """None for an entry that this version does not understand."""
    fields: Any = entry.get("carried")
    try:
        return CarriedOver(
            vmid=int(fields["vmid"]),
            uuid=str(fields["uuid"]),
            macs={str(key): str(mac) for key, mac in fields["macs"].items()},
            kept={str(key): str(value) for key, value in fields["kept"].items()},
            tags=frozenset(map(str, fields["tags"])),
            pool=str(fields["pool"]),
            role=str(fields["role"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
