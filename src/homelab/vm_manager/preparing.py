"""What the VM to be made on a node will be, and whether it can be made there. Read-only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from homelab import cloud_init, memory, sizing
from homelab.errors import HomelabError, NodeFailed
from homelab.models import (
    MEMBER_TAGS,
    TAG,
    TAG_UNFINISHED,
    CarriedOver,
    NodePlan,
    Size,
    StorageState,
    Verdict,
    VmFacts,
    VmSpec,
)
from homelab.preflight import hosts, rights
from homelab.preflight.gathering import check_keys
from homelab.preflight.privileges import Wanted
from homelab.preflight.rights import Judgement
from homelab.preflight.storages import Room, check_space, check_storage, reclaimed_bytes
from homelab.proxmox.client import Proxmox
from homelab.settings import Config

KEPT_KEYS = ("description", "startup")


def specify(pve: Proxmox, config: Config, node: NodePlan, now: float, image_bytes: int = 0) -> VmSpec:
    """The VM to be made on this node, sized by what the host has now. `vmid` is 0 where one has yet to be found.

    `now` is the Unix time that a replacement gets in its notes, `image_bytes` the size of the disk in the image, once
    that is known. Raises NodeFailed (SSH key, storage, cores, memory, permissions) or what the reads raise.
    """
    check_keys(node.name, config.guest)
    wanted, old = node.config, node.facts.vm
    there = pve.storages(node.name)
    storage = check_storage(wanted, there)
    check_space(wanted, storage, Room(reclaimed_bytes(pve, storage, old) if old else 0, image_bytes))
    host = pve.host(node.name)
    size = Size(sizing.cores(wanted, host), hosts.memory_mib(pve, config.policy, node, host), wanted.disk_bytes)
    spec = _spec(pve, config, node, size)
    _require_privileges(pve, config, node, there)
    carried = spec.carried
    return replace(spec, notes=_notes(carried, now)) if carried and is_replacement(node) else spec


def judge(pve: Proxmox, config: Config, node: NodePlan, there: Sequence[StorageState]) -> Judgement:
    """What the API token lacks for the VM of a plan, on a node with these storages.

    Raises what the reads raise: then that is not known.
    """
    wanted, carried = node.config, carried_over(node)
    return rights.judge(
        pve,
        config.api.token,
        Wanted(
            node=node.name,
            vm_name=wanted.vm_name,
            vmid=_vmid(pve, node, carried),
            disk_storage=wanted.disk_storage,
            image_storage=rights.image_storage(wanted, there),
            bridges=wanted.bridges,
            tags=carried.tags if carried else frozenset(),
            has_start_order=carried is not None and "startup" in carried.kept,
            is_join_wanted=config.k3s.is_join_wanted,
            cpu_type=config.guest.cpu_type,
        ),
    )


def _require_privileges(pve: Proxmox, config: Config, node: NodePlan, there: Sequence[StorageState]) -> None:
    """Raise NodeFailed, with all that the token lacks.

    Privileges that cannot be read speak against replacing a VM (the read's error is raised), not against a first one.
    """
    try:
        problem = judge(pve, config, node, there).problem
    except HomelabError:
        if carried_over(node):
            raise
        return
    if problem:
        raise NodeFailed(problem.what, problem.why, problem.cure)


def _vmid(pve: Proxmox, node: NodePlan, carried: CarriedOver | None) -> int:
    old = node.facts.vm
    return old.vmid if old else node.config.vmid or _free_vmid(pve, carried)


def _spec(pve: Proxmox, config: Config, node: NodePlan, size: Size) -> VmSpec:
    wanted, carried = node.config, carried_over(node)
    return VmSpec(
        name=wanted.vm_name,
        node=node.name,
        vmid=_vmid(pve, node, carried),
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
