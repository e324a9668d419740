"""The first boot of a VM: the vendor-data snippet that it needs, and what the VM bears until it is over."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field

from homelab import cloud_init, memory
from homelab.errors import (
    HomelabError,
    Misunderstood,
    NodeFailed,
    Problem,
    Refused,
    TaskFailed,
    TimedOut,
    Undecided,
    Unfinished,
    Unreachable,
)
from homelab.models import TAG_UNFINISHED, VmConfig, VmFacts
from homelab.preflight.storages import snippet_storage
from homelab.proxmox.client import Proxmox

PASSING = (Unreachable, Undecided, Refused, Misunderstood, TaskFailed, TimedOut)
"""What may go better the next time."""


@dataclass(frozen=True, slots=True)
class FirstBoots:
    """`is_awaited`: a join follows, which needs the guest agent and sees to the end of the first boot.

    Nothing is remembered here: a VM names its snippet until its first boot is over, and bears homelab-unfinished until
    nothing is left to be done with it.
    """

    pve: Proxmox
    is_awaited: bool
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self, node: str, vmid: int, name: str) -> tuple[Problem, ...]:
        """Before the first start: bring the snippet that installs the guest agent; returns what the VM has to miss.

        Where the node takes none at all the VM runs without. Raises Unfinished where it only failed now and a join
        needs the agent: the VM is not started then, and the next run goes on.
        """
        try:
            self.pve.root(node)
            self._attach(node, vmid, name)
        except (Unreachable, NodeFailed) as error:
            return (_loss(name, error),)
        except Unfinished as error:
            if self.is_awaited:
                raise
            return (_loss(name, error),)
        return ()

    def _attach(self, node: str, vmid: int, name: str) -> None:
        """Once more where that failed; it does no harm to have it done twice."""
        with suppress(*PASSING):
            return self._attach_once(node, vmid)
        try:
            self._attach_once(node, vmid)
        except PASSING as error:
            cure = f"{error.cure or 'see to SSH to the node'}; then run again"
            raise Unfinished(f"VM {name} is not started yet", _why(error), cure) from error

    def _attach_once(self, node: str, vmid: int) -> None:
        """Raises NodeFailed where a person has given the VM snippets: nothing is put in their place."""
        text = cloud_init.vendor_data()
        storage = snippet_storage(node, self.pve.storages(node))
        config = self.pve.vm_config(node, vmid)
        theirs = config.values.get("cicustom", "")
        if theirs and not is_ours(config):
            cure = f"have them install qemu-guest-agent, or: qm set {vmid} --delete cicustom"
            raise NodeFailed(f"VM {vmid} on {node} has snippets of its own", theirs, cure)
        volume = self.pve.put_snippet(node, storage.name, cloud_init.snippet_name(text), text)
        self.pve.set_vm(node, vmid, {"cicustom": f"vendor={volume}"}, digest=config.digest)

    def renew(self, vm: VmFacts) -> None:
        """Before a later start: bring the snippet of a first boot that is not over again; a missing one would stop it.

        Raises as prepare.
        """
        if is_ours(vm.config) and self.prepare(vm.node, vm.vmid, vm.config.name):
            digest = self.pve.vm_config(vm.node, vm.vmid).digest
            self.pve.set_vm(vm.node, vm.vmid, {}, delete=("cicustom",), digest=digest)

    def end(self, node: str, vmid: int) -> VmConfig:
        """The first boot is over, or nobody waits for it: take away what there is for it. The config afterwards.

        First the snippet, unless another VM needs it, then what the VM says of it: whoever comes after a crash sees
        that. Where no join follows, the VM is finished with this. Raises Unfinished where the snippet stays.
        """
        with self._one_at_a_time:
            config = self.pve.vm_config(node, vmid)
            self.remove_snippet(node, vmid, config)
            is_finished = not self.is_awaited and TAG_UNFINISHED in config.tags
            values: dict[str, str] = {}
            if is_finished:
                values = {"tags": ";".join(sorted(config.tags - {TAG_UNFINISHED})), **memory.claim_taken_off(config)}
            delete = ("cicustom",) if is_ours(config) else ()
            if not values and not delete:
                return config
            return self.pve.set_vm(node, vmid, values, delete=delete, digest=config.digest)

    def remove_snippet(self, node: str, vmid: int, config: VmConfig) -> None:
        """Of a VM that needs it no more, if it is one of ours and no other VM does.

        Raises Unfinished where that cannot be done now.
        """
        if not is_ours(config):
            return
        volume = config.values["cicustom"].removeprefix("vendor=")
        try:
            if not self.pve.is_named_by_vms(node, volume, beside=vmid):
                self.pve.free_as_root(node, volume)
        except HomelabError as error:
            raise Unfinished(volume, str(error), error.cure or "run again") from error


def is_ours(config: VmConfig) -> bool:
    """Does the VM name the snippet of a first boot that homelab has begun, and nothing of a person's?"""
    return cloud_init.is_vendor_data(config.values.get("cicustom", ""))


def _loss(name: str, error: HomelabError) -> Problem:
    why = error.why if isinstance(error, Unfinished) else _why(error)
    lost = "so Proxmox cannot tell its address and SSH host key; they are looked for on the network"
    return Problem(f"VM {name} is made without the guest agent", f"{why}; {lost}", error.cure)


def _why(error: HomelabError) -> str:
    return f"the snippet that installs it cannot be brought to the node: {error}"
