"""Which tags somebody may give to a VM. Source: PVE/GuestHelpers.pm of pve-guest-common."""

from __future__ import annotations

from dataclasses import dataclass

from pvelab.answers import Who, forbidden
from pvelab.formats import split_list, split_property_string
from pvelab.rules import permissions
from pvelab.schema_beyond import TAG_ACCESS
from pvelab.state import World


@dataclass(frozen=True, slots=True)
class Allowed:
    """`reserved` are for those with Sys.Modify on /; where any other tag will do, `is_free`."""

    tags: frozenset[str]
    reserved: frozenset[str]
    is_free: bool


def access(world: World) -> tuple[str, list[str]]:
    """What the option user-tag-access says: how far the choice goes, and the list of tags."""
    given = split_property_string(TAG_ACCESS, world.options.get("user-tag-access", ""))
    return given.get("user-allow", "free"), split_list(given.get("user-allow-list", ""))


def reserved(world: World) -> frozenset[str]:
    """The option registered-tags."""
    return frozenset(split_list(world.options.get("registered-tags", "")))


def allowed(world: World, who: Who) -> Allowed:
    """What somebody may choose from."""
    choice, listed = access(world)
    may_modify = permissions.has_any(world, who, "/", ["Sys.Modify"])
    found = set(listed) if choice != "none" or may_modify else set()
    if choice in ("free", "existing") or may_modify:
        for vm in world.vms.values():
            if may_modify or permissions.has_any(world, who, f"/vms/{vm.vmid}", ["VM.Audit"]):
                found |= set(split_list(vm.config.get("tags", "")))
    kept = reserved(world)
    return Allowed(frozenset(found | kept if may_modify else found - kept), kept, choice == "free")


def check(world: World, who: Who, before: str, after: str) -> None:
    """Refuse a change of a VM's tags that takes Sys.Modify on / for one of them."""
    if permissions.has_any(world, who, "/", ["Sys.Modify"]):
        return
    seen = allowed(world, who)
    for tag in sorted(set(split_list(before)) ^ set(split_list(after))):
        if tag in seen.reserved or not (seen.is_free or tag in seen.tags):
            raise forbidden(f"/, Sys.Modify for modifying tag '{tag}'")
