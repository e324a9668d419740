"""The journal's entries about one VM: what the planner goes by, and what a run that was cut off leaves to the next."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from homelab.memory import notes
from homelab.memory.journal import Entry, Journal
from homelab.models import CarriedOver, Creation, Past, VmConfig

REPLACING, REPLACED, GIVEN_UP, STRUCK, REBOOTED = "replacing", "replaced", "given-up", "struck", "rebooted"
CREATING = "creating"


def past_of(journal: Journal, vm: str, config: VmConfig | None = None) -> Past:
    """What earlier runs noted about the VM of this name, here and in the VM's own notes.

    `config` is that of the VM there is now: what happened to another machine of its name, which a person has made anew
    since, is not its past. Entries of an earlier version tell no machine and count for whichever has the name.
    """

    def when(event: str) -> float | None:
        return _when(journal.latest((event,), lambda entry: _is_about(entry, config), vm=vm))

    begun = journal.latest((REPLACING, REPLACED, GIVEN_UP), vm=vm)
    told = config.values.get("description", "") if config else ""
    replaced = (when(REPLACED), notes.replaced_at(told))
    replacing = _carried(begun) if begun and begun["event"] == REPLACING else None
    return Past(
        replaced_at=max((at for at in replaced if at is not None), default=None),
        struck_at=when(STRUCK),
        rebooted_at=when(REBOOTED),
        replacing=replacing,
        image=notes.image_in(told),
        is_old_gone=begun is not None and replacing is not None and _is_deleted(journal, begun, replacing),
        claimed_by=_others_claim(journal, told),
        role=_role_before(journal, vm, config) if config else "",
        now=journal.now,
    )


def _role_before(journal: Journal, vm: str, config: VmConfig) -> str:
    begun = journal.latest((REPLACING,), vm=vm)
    ended = journal.latest((REPLACED, GIVEN_UP), lambda entry: config.uuid in (entry.get("uuids") or ()), vm=vm)
    carried = _carried(begun) if begun and ended else None
    return carried.role if carried else ""


def _others_claim(journal: Journal, told: str) -> str:
    """Empty: nobody's, this machine's, or out of date."""
    claim = notes.claim_in(told)
    return str(claim) if claim and claim.owner != journal.owner and journal.now < claim.until else ""


def _is_about(entry: Entry, config: VmConfig | None) -> bool:
    uuids = entry.get("uuids")
    return config is None or not isinstance(uuids, list) or config.uuid in uuids


def _is_deleted(journal: Journal, begun: Entry, old: CarriedOver) -> bool:
    return journal.is_done(f"DELETE /nodes/{begun.get('node')}/qemu/{old.vmid}", begun["at"])


def note_replacing(journal: Journal, vm: str, node: str, carried: CarriedOver) -> None:
    """Before the old VM is touched: what the new one takes over, for the run that may have to finish this."""
    journal.note(REPLACING, vm=vm, node=node, carried={**asdict(carried), "tags": sorted(carried.tags)})


def note(journal: Journal, event: str, vm: str, *uuids: str) -> None:
    """One of REPLACED, GIVEN_UP (what was begun is over, and was no replacement), STRUCK, REBOOTED.

    `uuids` are the machines that it happened to: of a replacement the new one and the old, which a person may restore.
    """
    journal.note(event, vm=vm, uuids=uuids)


def note_creating(journal: Journal, creation: Creation) -> None:
    """Before a VM is made: where, and which volumes with its VMID are not of this creation."""
    journal.note(CREATING, **asdict(creation))


def creation_of(journal: Journal, node: str, vmid: int) -> Creation | None:
    """The newest creation with this VMID on this node."""
    entry: Any = journal.latest((CREATING,), node=node, vmid=vmid)
    try:
        return Creation(node, vmid, str(entry["storage"]), tuple(map(str, entry["found"]))) if entry else None
    except (KeyError, TypeError):
        return None


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
            volumes=tuple(map(str, fields["volumes"])),
            is_unfinished=bool(fields["is_unfinished"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
