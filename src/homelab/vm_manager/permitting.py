"""What an API token has to be allowed before a VM is made with it. Read-only."""

from __future__ import annotations

from collections.abc import Mapping

from homelab.errors import HomelabError, NodeFailed
from homelab.models import VmSpec, Wire
from homelab.proxmox.client import Proxmox
from homelab.proxmox.refusals import path_to_grant_on

CONFIG_AREAS = ("CPU", "Cloudinit", "Disk", "HWType", "Memory", "Network", "Options")
VM_PRIVILEGES = frozenset({"VM.Allocate", "VM.PowerMgmt", *(f"VM.Config.{area}" for area in CONFIG_AREAS)})
ROLES = {"vms": "PVEVMAdmin", "storage": "PVEDatastoreUser", "sdn": "PVESDNUser"}
"""The built-in role that has what is needed, by the first part of a path."""


def check_permissions(pve: Proxmox, spec: VmSpec) -> None:
    """Raise NodeFailed, with every privilege that the token lacks for this VM; over SSH root lacks none.

    Privileges that cannot be read speak against replacing a VM (the read's error is raised), not against a first one.
    """
    if pve.wire(spec.node) is Wire.SSH:
        return
    try:
        missing = {path: names - pve.permissions(path) for path, names in _needed(spec).items()}
    except HomelabError:
        if spec.carried:
            raise
        return
    lacking = {path: ", ".join(sorted(names)) for path, names in missing.items() if names}
    if lacking:
        raise NodeFailed(
            f"{spec.node}: the API token may not make VM {spec.name}",
            "it lacks " + "; ".join(f"{names} on {path}" for path, names in lacking.items()),
            "; ".join(
                f"pveum acl modify {path} --tokens 'USER@REALM!ID' --roles {ROLES[path.split('/')[1]]}"
                for path in map(path_to_grant_on, lacking)
            ),
        )


def _needed(spec: VmSpec) -> Mapping[str, frozenset[str]]:
    """Privileges by path."""
    return {
        f"/vms/{spec.vmid}" if spec.vmid else "/vms": VM_PRIVILEGES,
        f"/storage/{spec.disk_storage}": frozenset({"Datastore.AllocateSpace"}),
        **{f"/sdn/zones/localnetwork/{bridge}": frozenset({"SDN.Use"}) for bridge in spec.bridges},
    }
