"""The vendor-data snippet of a VM's first boot: brought to the node, and taken away again when nobody needs it."""

from __future__ import annotations

import logging

from homelab import cloud_init, memory
from homelab.errors import HomelabError, NodeFailed, Problem
from homelab.memory import Journal
from homelab.models import StorageState, VmFacts
from homelab.proxmox.client import Proxmox

is_ours = cloud_init.is_vendor_data
logger = logging.getLogger(__name__)


def attach_vendor_data(pve: Proxmox, journal: Journal, node: str, vmid: int, name: str) -> tuple[Problem, ...]:
    """Bring the snippet that installs the guest agent; without it the VM runs all the same, and the loss is named."""
    try:
        storage = _storage(pve, node)
        text = cloud_init.vendor_data()
        snippet = cloud_init.snippet_name(text)
        pve.root(node)
        memory.note_snippet(journal, node, f"{storage.name}:snippets/{snippet}")
        volume = pve.put_snippet(node, storage.name, snippet, text)
        digest = pve.vm_config(node, vmid).digest
        pve.set_vm(node, vmid, {"cicustom": f"vendor={volume}"}, digest=digest)
    except HomelabError as error:
        why = f"the snippet that installs it cannot be brought to the node: {error}"
        return (Problem(f"VM {name} is made without the guest agent", why, error.cure),)
    return ()


def _storage(pve: Proxmox, node: str) -> StorageState:
    """The first that takes snippets, one of the node's own before one that others share."""
    usable = [one for one in pve.storages(node) if "snippets" in one.content and one.is_active]
    if not usable:
        raise NodeFailed(
            f"{node}: no storage takes snippets",
            "so the guest agent is not installed",
            "pvesm set local --content iso,vztmpl,backup,snippets,import",
        )
    return min(usable, key=lambda one: one.is_shared)


def renew_vendor_data(pve: Proxmox, journal: Journal, vm: VmFacts) -> None:
    """Before a start: bring the snippet of a first boot that is not over again, since a missing one would stop it."""
    if not is_ours(vm.config.values.get("cicustom", "")):
        return
    if attach_vendor_data(pve, journal, vm.node, vm.vmid, vm.config.name):
        digest = pve.vm_config(vm.node, vm.vmid).digest
        pve.set_vm(vm.node, vm.vmid, {}, delete=("cicustom",), digest=digest)


def adopt_snippet(journal: Journal, vm: VmFacts) -> None:
    """One that a VM names and a run from another machine has brought is removed like our own."""
    custom = vm.config.values.get("cicustom", "")
    volume = custom.removeprefix("vendor=")
    if is_ours(custom) and memory.snippet_on(journal, vm.node) != volume:
        memory.note_snippet(journal, vm.node, volume)


def remove_unused(pve: Proxmox, journal: Journal, node: str) -> None:
    """Take away the snippet that was brought to a node, once no VM of the cluster names it; else it is looked at again.

    Where that cannot be told now, the next run sees to it.
    """
    volume = memory.snippet_on(journal, node)
    if not volume:
        return
    try:
        if not pve.is_named_by_vms(node, volume):
            pve.free_as_root(node, volume)
            memory.note_snippet_gone(journal, node)
    except HomelabError as error:
        logger.info("%s: %s stays for now: %s", node, volume, error)
