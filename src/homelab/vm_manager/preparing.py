"""What the VM to be made on a node will be, and whether it can be made there. Read-only."""

from __future__ import annotations

from dataclasses import replace

from homelab import cloud_init, memory, sizing
from homelab.models import (
    MEMBER_TAGS,
    TAG,
    TAG_UNFINISHED,
    CarriedOver,
    NodePlan,
    Size,
    Verdict,
    VmFacts,
    VmSpec,
)
from homelab.preflight import hosts
from homelab.preflight.gathering import check_keys
from homelab.preflight.storages import Room, check_space, check_storage, reclaimed_bytes
from homelab.proxmox.client import Proxmox
from homelab.settings import Config
from homelab.vm_manager.permitting import check_permissions

KEPT_KEYS = ("description", "startup")


def specify(pve: Proxmox, config: Config, node: NodePlan, now: float, image_bytes: int = 0) -> VmSpec:
    """The VM to be made on this node, sized by what the host has now. `vmid` is 0 where one has yet to be found.

    `now` is the Unix time that a replacement gets in its notes, `image_bytes` the size of the disk in the image, once
    that is known. Raises NodeFailed (SSH key, storage, cores, memory, permissions) or what the reads raise.
    """
    check_keys(node.name, config.guest)
    wanted, old = node.config, node.facts.vm
    storage = check_storage(wanted, pve.storages(node.name))
    check_space(wanted, storage, Room(reclaimed_bytes(pve, storage, old) if old else 0, image_bytes))
    host = pve.host(node.name)
    size = Size(sizing.cores(wanted, host), hosts.memory_mib(pve, config.policy, node, host), wanted.disk_bytes)
    spec = _spec(pve, config, node, size)
    check_permissions(pve, spec)
    carried = spec.carried
    return replace(spec, notes=_notes(carried, now)) if carried and is_replacement(node) else spec


def permit(pve: Proxmox, config: Config, node: NodePlan) -> None:
    """Raise NodeFailed where the API token may not make the VM of a plan, however large."""
    check_permissions(pve, _spec(pve, config, node, Size(1, 0, node.config.disk_bytes)))


def _spec(pve: Proxmox, config: Config, node: NodePlan, size: Size) -> VmSpec:
    wanted, old, carried = node.config, node.facts.vm, carried_over(node)
    return VmSpec(
        name=wanted.vm_name,
        node=node.name,
        vmid=old.vmid if old else wanted.vmid or _free_vmid(pve, carried),
        cores=size.cores,
        memory_mib=size.memory_mib,
        cpu_type=config.guest.cpu_type,
        bridges=wanted.bridges,
        disk_storage=wanted.disk_storage,
        disk_bytes=size.disk_bytes,
        ip_config=wanted.ip_config,
        carried=carried,
    )


def is_replacement(node: NodePlan) -> bool:
    """Does the VM to be made take the place of one that ran? One that was never finished is only made again."""
    begun = node.facts.past.replacing
    if begun:
        return not begun.is_unfinished
    return node.facts.vm is not None and node.facts.verdict is not Verdict.UNFINISHED


def carried_over(node: NodePlan) -> CarriedOver | None:
    """What the VM to be made takes over: as noted by a run that began to replace it, else from the VM that is there."""
    begun, old = node.facts.past.replacing, node.facts.vm
    if begun and (old is None or node.facts.verdict is Verdict.UNFINISHED):
        return begun
    return _taken_from(old) if old else None


def _taken_from(old: VmFacts) -> CarriedOver:
    config = old.config
    return CarriedOver(
        vmid=old.vmid,
        uuid=config.uuid,
        macs=config.macs,
        kept={key: memory.without_claim(text) for key, text in config.values.items() if key in KEPT_KEYS},
        tags=config.tags - {TAG, TAG_UNFINISHED} - MEMBER_TAGS,
        pool=old.pool,
        role=min(MEMBER_TAGS & config.tags, default=""),
        volumes=tuple(drive.volume for drive in config.drives if f"vm-{old.vmid}-" in drive.volume),
    )


def _free_vmid(pve: Proxmox, carried: CarriedOver | None) -> int:
    """The VMID of the VM that went away, unless somebody has taken it since; then 0."""
    if carried is None or any(row.vmid == carried.vmid for row in pve.cluster_vms()):
        return 0
    return carried.vmid


def _notes(carried: CarriedOver, now: float) -> str:
    return memory.with_line(carried.kept.get("description", cloud_init.DESCRIPTION), now)
