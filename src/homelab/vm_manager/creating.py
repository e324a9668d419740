"""Makes a VM from the cloud image and starts it for the first time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from homelab import cloud_init
from homelab.errors import HomelabError, NodeFailed, Problem, Refused
from homelab.models import MAKING, TAG_UNFINISHED, ImageOnNode, VmFacts, VmSpec
from homelab.proxmox.client import Proxmox
from homelab.settings import GuestConfig

VMID_TRIES = 20


@dataclass(frozen=True, slots=True)
class VmidPool:
    """Gives out VMIDs one at a time; Proxmox' own nextid reserves nothing."""

    _given: set[int] = field(default_factory=set)
    _reserved: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reserve(self, pve: Proxmox, node: str, disk_storage: str) -> None:
        """Choose a node's VMID before the nodes go their own ways, so that VMIDs follow the order of n."""
        self._reserved[node] = self._lowest_free(pve, node, disk_storage)

    def next_free(self, pve: Proxmox, node: str, disk_storage: str) -> int:
        """The node's reserved VMID, once; else the lowest that is free now."""
        return self._reserved.pop(node, 0) or self._lowest_free(pve, node, disk_storage)

    def _lowest_free(self, pve: Proxmox, node: str, disk_storage: str) -> int:
        """The lowest id that no VM has, that was not given out in this run, and that has no leftover volumes."""
        with self._lock:
            vmid = pve.next_vmid()
            taken = {row.vmid for row in pve.cluster_vms()} | self._given
            for candidate in range(vmid, vmid + len(taken) + VMID_TRIES):
                if candidate not in taken and not _has_leftovers(pve, node, disk_storage, candidate):
                    self._given.add(candidate)
                    return candidate
        raise NodeFailed(
            f"{node}: no VMID is free of leftovers",
            f"volumes of deleted VMs are left on {disk_storage}, from {vmid} on",
            f"pvesm list {disk_storage} shows them, pvesm free VOLUME removes one",
        )


def _has_leftovers(pve: Proxmox, node: str, storage: str, vmid: int) -> bool:
    """Proxmox' own filter by VMID also lets files through that belong to no VM."""
    return any(row.vmid == vmid for row in pve.storage_content(node, storage, vmid=vmid))


@dataclass(frozen=True, slots=True)
class Made:
    """A VM that was made and started. `losses` says what it had to do without."""

    vmid: int
    losses: tuple[Problem, ...] = ()


def create_vm(
    pve: Proxmox, guest: GuestConfig, spec: VmSpec, image: ImageOnNode, *, new_vmid: Callable[[], int]
) -> Made:
    """Create, grow and start; finish_vm is still to come. Returns once Proxmox reports the VM running.

    Raises what the client raises; a VM that was begun carries the tag homelab-unfinished, and the next run goes on.
    """
    spec = _create(pve, guest, spec, image, new_vmid)
    pve.resize_disk(spec.node, spec.vmid, "scsi0", spec.disk_bytes)
    if guest.password:
        pve.set_password(spec.node, spec.vmid, guest.password)
    losses = _attach_vendor_data(pve, spec.node, spec.vmid, spec.name)
    pve.start_vm(spec.node, spec.vmid, timeout_s=guest.start_timeout_s)
    return Made(spec.vmid, losses)


def _create(pve: Proxmox, guest: GuestConfig, spec: VmSpec, image: ImageOnNode, new_vmid: Callable[[], int]) -> VmSpec:
    """The VM as it came to be, with its VMID. Looks before every attempt whether somebody else has made it by now."""
    path = image.source if image.needs_root else None
    for _ in range(VMID_TRIES):
        numbered = spec if spec.vmid else replace(spec, vmid=new_vmid())
        _refuse_if_made(pve, spec)
        try:
            pve.create_vm(spec.node, cloud_init.vm_parameters(numbered, guest, image), import_path=path)
        except Refused as error:
            if spec.vmid or f"VM {numbered.vmid} already exists" not in error.why:
                raise
        else:
            return numbered
    raise NodeFailed(
        f"{spec.node}: no VMID could be taken", f"{VMID_TRIES} were taken by others meanwhile", "run again"
    )


def _refuse_if_made(pve: Proxmox, spec: VmSpec) -> None:
    """Raise NodeFailed if the node has a VM of that name by now, or makes one: until it is made, it has no name."""
    found = next((row for row in pve.vms(spec.node) if row.name.lower() == spec.name), None)
    making = next((task for task in pve.tasks(spec.node, is_active=True) if task.kind in MAKING), None)
    if found or making:
        raise NodeFailed(
            f"{spec.node}: VM {spec.name} is not made a second time",
            f"VM {found.vmid} has that name by now" if found else "another VM is just being made there",
            "another run, or a person, was faster; run again when that has ended",
        )


def _attach_vendor_data(pve: Proxmox, node: str, vmid: int, name: str) -> tuple[Problem, ...]:
    """Bring the snippet that installs the guest agent; without it the VM runs all the same, and the loss is named."""
    try:
        storage = next(
            (storage for storage in pve.storages(node) if "snippets" in storage.content and storage.is_active),
            None,
        )
        if storage is None:
            raise NodeFailed(
                f"{node}: no storage takes snippets",
                "so the guest agent is not installed",
                "pvesm set local --content iso,vztmpl,backup,snippets,import",
            )
        text = cloud_init.vendor_data()
        volume = pve.put_snippet(node, storage.name, cloud_init.snippet_name(text), text)
        pve.set_vm(node, vmid, {"cicustom": f"vendor={volume}"})
    except HomelabError as error:
        why = f"the snippet that installs it cannot be brought to the node: {error}"
        return (Problem(f"VM {name} is made without the guest agent", why, error.cure),)
    return ()


def renew_vendor_data(pve: Proxmox, vm: VmFacts) -> None:
    """Before a start: bring the snippet of a first boot that is not over again, since a missing one would stop it."""
    if not cloud_init.is_vendor_data(vm.config.values.get("cicustom", "")):
        return
    if _attach_vendor_data(pve, vm.node, vm.vmid, vm.config.name):
        pve.set_vm(vm.node, vm.vmid, {}, delete=("cicustom",))


def finish_vm(pve: Proxmox, node: str, vmid: int, *, keeps_vendor_data: bool) -> VmFacts:
    """Take the mark of an unfinished VM away; the snippet of the first boot too, unless the join sees to that."""
    config = pve.vm_config(node, vmid)
    tags = ";".join(sorted(config.tags - {TAG_UNFINISHED}))
    custom = config.values.get("cicustom", "")
    unwanted = ("cicustom",) if custom and not (keeps_vendor_data and cloud_init.is_vendor_data(custom)) else ()
    config = pve.set_vm(node, vmid, {"tags": tags}, delete=unwanted, digest=config.digest)
    return VmFacts(node, vmid, pve.vm_status(node, vmid), config)
