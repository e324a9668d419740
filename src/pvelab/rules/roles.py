"""Privileges and the roles that Proxmox VE makes of them, by release."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Area:
    """The privileges of one area: those of administrators by `root` only, of admins, of users, and to look."""

    name: str
    root: str = ""
    admin: str = ""
    user: str = ""
    audit: str = ""


_VM_ADMIN = (
    "VM.Config.Disk VM.Config.CPU VM.Config.Memory VM.Config.Network VM.Config.HWType VM.Config.Options VM.Allocate"
    " VM.Clone VM.Migrate VM.Snapshot VM.Snapshot.Rollback"
)
_VM_USER = "VM.Config.CDROM VM.Config.Cloudinit VM.Console VM.Backup VM.PowerMgmt"
_FILES_IN_GUEST = "VM.GuestAgent.FileRead VM.GuestAgent.FileSystemMgmt VM.GuestAgent.FileWrite"
_VM_BEFORE_9 = _Area("VM", admin=f"{_VM_ADMIN} VM.Monitor", user=_VM_USER, audit="VM.Audit")
_VM_SINCE_9 = _Area(
    "VM",
    admin=f"{_VM_ADMIN} VM.GuestAgent.Unrestricted VM.Replicate",
    user=f"{_VM_USER} {_FILES_IN_GUEST}",
    audit="VM.Audit VM.GuestAgent.Audit",
)
_OTHER_AREAS = (
    _Area("Sys", "Sys.PowerMgmt Sys.Modify Sys.Incoming Sys.AccessNetwork", "Sys.Console Sys.Syslog", "", "Sys.Audit"),
    _Area(
        "Datastore",
        admin="Datastore.Allocate Datastore.AllocateTemplate",
        user="Datastore.AllocateSpace",
        audit="Datastore.Audit",
    ),
    _Area("SDN", admin="SDN.Allocate SDN.Audit", user="SDN.Use", audit="SDN.Audit"),
    _Area("User", "Realm.Allocate", "User.Modify Group.Allocate Realm.AllocateUser"),
    _Area("Pool", admin="Pool.Allocate", user="Pool.Audit", audit="Pool.Audit"),
    _Area("Mapping", admin="Mapping.Modify", user="Mapping.Use", audit="Mapping.Audit"),
)
_IN_NO_AREA = "Permissions.Modify"
_NOT_FOR_PVEADMIN = frozenset({"Mapping.Modify"})


def privileges(release: str) -> frozenset[str]:
    """Every privilege of a release."""
    return _all(has_9(release))


def roles(release: str) -> Mapping[str, frozenset[str]]:
    """The roles that a release brings along, with their privileges."""
    return _built_in(has_9(release))


def has_9(release: str) -> bool:
    """Are the privileges those of 9.x?"""
    return not release.startswith("8.")


def _areas(has_9: bool) -> tuple[_Area, ...]:
    return (_VM_SINCE_9 if has_9 else _VM_BEFORE_9, *_OTHER_AREAS)


@functools.cache
def _all(has_9: bool) -> frozenset[str]:
    texts = [f"{area.root} {area.admin} {area.user} {area.audit}" for area in _areas(has_9)]
    return frozenset(f"{_IN_NO_AREA} {' '.join(texts)}".split())


@functools.cache
def _built_in(has_9: bool) -> Mapping[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {"Administrator": _all(has_9), "NoAccess": frozenset()}
    everybody, auditor = frozenset[str](), frozenset[str]()
    for area in _areas(has_9):
        admin = frozenset(f"{area.admin} {area.user} {area.audit}".split())
        found[f"PVE{area.name}Admin"] = admin
        everybody |= admin
        auditor |= frozenset(area.audit.split())
        if area.user:
            found[f"PVE{area.name}User"] = frozenset(f"{area.user} {area.audit}".split())
    found["PVEAdmin"] = everybody - _NOT_FOR_PVEADMIN
    found["PVEAuditor"] = auditor
    found["PVETemplateUser"] = frozenset({"VM.Clone", "VM.Audit"})
    return found
