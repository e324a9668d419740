"""Before the first write to a node: what its VM will be, and whether there is room for it. Read-only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from homelab import cloud_init, memory, sizing
from homelab.errors import HomelabError, NodeFailed
from homelab.memory import Journal
from homelab.models import (
    MEMBER_TAGS,
    TAG,
    TAG_UNFINISHED,
    CarriedOver,
    NodePlan,
    Plan,
    Size,
    Verdict,
    VmFacts,
    VmSpec,
)
from homelab.proxmox.client import Proxmox
from homelab.settings import Config
from homelab.vm_manager.permitting import check_permissions
from homelab.vm_manager.resuming import refuse_beside_half_made
from homelab.vm_manager.space import Room, check_space, check_storage, reclaimed_bytes

KEPT_KEYS = ("description", "startup")


def check_room(pve: Proxmox, config: Config, plan: Plan, journal: Journal) -> Plan:
    """The plan with the size of each VM to be made; a node without room, or with a half made one, is dropped."""

    warnings: dict[str, str] = {}

    def check(node: NodePlan) -> NodePlan:
        if not node.makes_vm:
            return node
        try:
            refuse_beside_half_made(pve, journal, node.name)
            spec = specify(pve, config, node, journal.now)
        except HomelabError as error:
            return node.dropped(error.problem)
        warnings[node.name] = spec.warning
        return replace(node, size=Size(spec.cores, spec.memory_mib, spec.disk_bytes))

    with ThreadPoolExecutor(max_workers=max(1, len(plan.nodes))) as pool:
        nodes = tuple(pool.map(check, plan.nodes))
    told = tuple(warning for node in nodes if (warning := warnings.get(node.name, "")))
    return replace(plan, nodes=nodes, warnings=(*plan.warnings, *told))


def specify(pve: Proxmox, config: Config, node: NodePlan, now: float, image_bytes: int = 0) -> VmSpec:
    """The VM to be made on this node, sized by what the host has now. `vmid` is 0 where one has yet to be found.

    `now` is the Unix time that a replacement gets in its notes, `image_bytes` the size of the disk in the image, once
    that is known. Raises NodeFailed (SSH key, storage, cores, memory, permissions) or what the reads raise.
    """
    wanted = node.config
    if not config.guest.public_keys:
        raise NodeFailed(
            f"{node.name}: no SSH public key for the VM",
            "none was found in ~/.ssh, and a VM without one could not be logged in to",
            "make one with ssh-keygen -t ed25519, or set SSH_PUBKEY_PATH",
        )
    old, carried = node.facts.vm, carried_over(node)
    storage = check_storage(wanted, pve.storages(node.name))
    room = Room(reclaimed_bytes(pve, storage, old) if old else 0, image_bytes)
    warning = check_space(wanted, storage, room)
    host = pve.host(node.name)
    spec = VmSpec(
        name=wanted.vm_name,
        node=node.name,
        vmid=old.vmid if old else wanted.vmid or _free_vmid(pve, carried),
        cores=sizing.cores(wanted, host),
        memory_mib=sizing.memory_mib(
            wanted,
            host,
            reserve_mib=config.policy.host_reserve_mib,
            reclaimed_bytes=old.status.memory_bytes if old and old.status.status == "running" else 0,
        ),
        cpu_type=config.guest.cpu_type,
        bridges=wanted.bridges,
        disk_storage=wanted.disk_storage,
        disk_bytes=wanted.disk_bytes,
        ip_config=wanted.ip_config,
        notes=_notes(carried, now) if carried and is_replacement(node) else "",
        carried=carried,
        warning=warning,
    )
    check_permissions(pve, spec)
    return spec


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
