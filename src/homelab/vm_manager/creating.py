"""Makes a VM from the cloud image and starts it for the first time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from homelab import cloud_init, memory
from homelab.errors import HomelabError, NodeFailed, NotThere, Problem, Refused, TaskFailed
from homelab.memory import Journal
from homelab.models import MAKING, TAG_UNFINISHED, CarriedOver, Creation, ImageOnNode, VmRow, VmSpec
from homelab.preflight.storages import volumes_of
from homelab.proxmox.client import Proxmox
from homelab.proxmox.refusals import is_stale
from homelab.settings import GuestConfig
from homelab.vm_manager.first_boot import FirstBoots
from homelab.vm_manager.vmids import VMID_TRIES

logger = logging.getLogger(__name__)

FOR_GOOD = (Refused, TaskFailed, NodeFailed)
"""After these nothing goes on by itself, so what was begun can be taken away."""


@dataclass(frozen=True, slots=True)
class Made:
    """A VM that was made and started. `losses` says what it had to do without, `lost_pool` which pool is gone."""

    vmid: int
    losses: tuple[Problem, ...] = ()
    lost_pool: str = ""


@dataclass(frozen=True, slots=True)
class Making:
    """What making VMs takes beside what each is to be."""

    pve: Proxmox
    guest: GuestConfig
    journal: Journal
    first_boots: FirstBoots


def create_vm(making: Making, spec: VmSpec, image: ImageOnNode, *, new_vmid: Callable[[], int]) -> Made:
    """Create, grow and start; its first boot is still to end. Returns once Proxmox reports the VM running.

    Raises what the client raises. Where it has failed for good, the VM that was begun is gone with its disks; where
    that is not certain, or somebody is changing it, it stays, with the tag homelab-unfinished: the next run goes on.
    """
    spec, lost_pool = _create_in_pool(making, spec, image, new_vmid)
    try:
        losses = equip(making, spec.node, spec.vmid, spec.name, spec.disk_bytes)
        making.pve.start_vm(spec.node, spec.vmid, timeout_s=making.guest.start_timeout_s)
    except FOR_GOOD as error:
        if not is_stale(error):
            _discard(making, spec)
        raise
    return Made(spec.vmid, losses, lost_pool)


def equip(making: Making, node: str, vmid: int, name: str, disk_bytes: int) -> tuple[Problem, ...]:
    """What a new VM gets before its first start, whether or not it has some of it already; what it has to miss."""
    making.pve.resize_disk(node, vmid, "scsi0", disk_bytes)
    if making.guest.password:
        making.pve.set_password(node, vmid, making.guest.password)
    return making.first_boots.prepare(node, vmid, name)


def _create_in_pool(
    making: Making, spec: VmSpec, image: ImageOnNode, new_vmid: Callable[[], int]
) -> tuple[VmSpec, str]:
    """The VM as _create makes it, in the pool of the VM before it; without one, which is named, where that is gone."""
    carried = spec.carried
    try:
        return _create(making, spec, image, new_vmid), ""
    except (Refused, TaskFailed) as error:
        if carried is None or f"pool '{carried.pool}' does not exist" not in error.why:
            raise
    without = replace(spec, carried=replace(carried, pool=""))
    return _create(making, without, image, new_vmid), carried.pool


def _create(making: Making, spec: VmSpec, image: ImageOnNode, new_vmid: Callable[[], int]) -> VmSpec:
    """The VM as it came to be, with its VMID. Looks before every attempt whether somebody else has made it by now."""
    for _ in range(VMID_TRIES):
        numbered = spec if spec.vmid else replace(spec, vmid=new_vmid())
        refuse_if_made(making.pve, spec)
        try:
            _create_numbered(making, numbered, image)
        except Refused as error:
            if spec.vmid or f"VM {numbered.vmid} already exists" not in error.why:
                raise
        else:
            return numbered
    raise NodeFailed(
        f"{spec.node}: no VMID could be taken", f"{VMID_TRIES} were taken by others meanwhile", "run again"
    )


def _create_numbered(making: Making, spec: VmSpec, image: ImageOnNode) -> None:
    """Make it, with word of what was there before; a creation that failed leaves no volume."""
    pve = making.pve
    found = tuple(row.volume for row in volumes_of(pve, spec.node, spec.disk_storage, spec.vmid))
    creation = Creation(spec.node, spec.vmid, spec.disk_storage, found)
    memory.note_creating(making.journal, creation)
    path = image.source if image.needs_root else None
    try:
        pve.create_vm(spec.node, _parameters(making, spec, image), import_path=path)
    except TaskFailed:
        free_volumes(pve, creation)
        raise


def _parameters(making: Making, spec: VmSpec, image: ImageOnNode) -> dict[str, str]:
    """With word in the notes of who makes it: not every token may make the pool that tells other machines of a run."""
    parameters = cloud_init.vm_parameters(spec, making.guest, image)
    claim = memory.Claim(making.journal.owner, making.journal.now + memory.CLAIMED_S)
    return {**parameters, "description": memory.with_claim(parameters["description"], claim)}


def refuse_if_made(pve: Proxmox, spec: VmSpec) -> None:
    """Raise NodeFailed if there is a VM of that name beside the one to be replaced, or any is being made on the node.

    Until it is made, a VM has no name.
    """
    rows = (row for row in (*pve.vms(spec.node), *pve.cluster_vms()) if row.vmid != spec.vmid and not row.is_container)
    found = next((row for row in rows if _name_of(pve, row).lower() == spec.name), None)
    making = next((task for task in pve.tasks(spec.node, is_active=True) if task.kind in MAKING), None)
    if found or making:
        raise NodeFailed(
            f"{spec.node}: VM {spec.name} is not made a second time",
            f"VM {found.vmid} has that name by now" if found else "another VM is just being made there",
            "another run, or a person, was faster; run again when that has ended",
        )


def _name_of(pve: Proxmox, row: VmRow) -> str:
    """The cluster's list shows a new VM without its name at first; one that has gone by now has none."""
    try:
        return row.name or pve.vm_config(row.node, row.vmid).name
    except NotThere:
        return ""


def _discard(making: Making, spec: VmSpec) -> None:
    """Take away a VM that was begun and never ran; where that cannot be done, the next run goes on with it."""
    pve = making.pve
    try:
        config, status = pve.vm_config(spec.node, spec.vmid), pve.vm_status(spec.node, spec.vmid)
        if config.name == spec.name and TAG_UNFINISHED in config.tags and status.status == "stopped":
            making.first_boots.remove_snippet(spec.node, spec.vmid, config)
            pve.delete_vm(spec.node, spec.vmid)
    except HomelabError as error:
        logger.warning("VM %s (vmid=%s) is left unfinished for the next run: %s", spec.name, spec.vmid, error)


def free_volumes(pve: Proxmox, creation: Creation) -> None:
    """Remove the volumes that a creation left, now that there is no such VM; what cannot be removed is said."""
    try:
        if any(row.vmid == creation.vmid for row in pve.cluster_vms()):
            return
        for row in volumes_of(pve, creation.node, creation.storage, creation.vmid):
            if row.volume not in creation.found:
                pve.free_volume(creation.node, row.volume)
    except HomelabError as error:
        logger.warning(
            "%s: volumes of VMID %s may be left on %s: %s; pvesm list %s --vmid %s shows them, pvesm free VOLUME "
            "removes one", creation.node, creation.vmid, creation.storage, error, creation.storage, creation.vmid
        )  # fmt: skip


def left_of(pve: Proxmox, node: str, old: CarriedOver) -> tuple[str, ...]:
    """Which of a deleted VM's volumes are still there, and nobody's; a storage that cannot be read counts as empty."""
    volumes = old.volumes
    if any(row.vmid == old.vmid for row in pve.cluster_vms()):
        return ()
    found: set[str] = set()
    for storage in {volume.partition(":")[0] for volume in volumes}:
        try:
            found |= {row.volume for row in pve.storage_content(node, storage)}
        except HomelabError:
            continue
    return tuple(volume for volume in volumes if volume in found)
