"""Looks at a node as a whole before anything is written to it: all that stands against making its VM, at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from homelab import network_validator, sizing
from homelab.errors import ChangedIdentity, HomelabError, NodeFailed
from homelab.image_manager import ImageManager
from homelab.models import Finding, HostStatus, NodePlan, Plan, Severity, Size, StorageState
from homelab.preflight import hosts, storages, ways
from homelab.preflight.notes import Notes
from homelab.preflight.rights import Judgement, image_storage
from homelab.proxmox.client import Proxmox
from homelab.proxmox.node_entries import of_this_node
from homelab.runtime import Clock
from homelab.settings import Config, GuestConfig, NodeConfig


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen of one node: how large its VM would be, if that is known, and what is amiss."""

    size: Size | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What Proxmox said, as far as it did. `has_place`: the image is good, and there is a storage for it."""

    size: Size | None
    host: HostStatus | None
    storages: tuple[StorageState, ...] | None
    has_place: bool


@dataclass(frozen=True, slots=True)
class Preflight:
    """What the checks need. `privileges` are judged for the VM of a plan; `half_made` raises NodeFailed of a node."""

    pve: Proxmox
    config: Config
    images: ImageManager
    clock: Clock
    privileges: Callable[[NodePlan, Sequence[StorageState]], Judgement]
    half_made: Callable[[str], None]

    def check(self, plan: Plan) -> Plan:
        """The plan with the size of each VM to be made; a node on which it cannot be made is dropped, with all reasons.

        Nodes that get no VM are not asked.
        """
        with ThreadPoolExecutor(max_workers=max(1, len(plan.nodes))) as pool:
            checked = list(pool.map(self._checked, plan.nodes))
        told = tuple(warning for _, warnings in checked for warning in warnings)
        return replace(plan, nodes=tuple(node for node, _ in checked), warnings=(*plan.warnings, *told))

    def _checked(self, node: NodePlan) -> tuple[NodePlan, tuple[str, ...]]:
        if node.makes_vm:
            looked = self.look_at(node)
            against = [finding.problem for finding in looked.findings if finding.severity is not Severity.WARNING]
            if against:
                return node.dropped(*against), ()
            return replace(node, size=looked.size), tuple(str(finding.problem) for finding in looked.findings)
        if node.is_write:
            try:
                ways.refuse_another_machine(self.pve, node.name)
            except ChangedIdentity as changed:
                return node.dropped(changed.problem), ()
        if node.may_replace and not self._has_bridges(node):
            return replace(node, may_replace=False), ()
        return node, ()

    def _has_bridges(self, node: NodePlan) -> bool:
        try:
            return not network_validator.check(self.pve, node.config)
        except HomelabError:
            return False

    def examine(self, node: NodePlan) -> tuple[Finding, ...]:
        """As look_at, and beyond it what a run gets along without, in one way or another."""
        notes = Notes(node.name)
        ways.look_at_api(self.pve, notes)
        seen = self._look(notes, node)
        ways.look_at_ssh(self.pve, notes)
        if seen.storages is not None:
            ways.look_at_snippets(notes, seen.storages)
        if seen.has_place:
            ways.look_at_image(self.pve, notes, self.images)
        if seen.has_place and seen.host:
            ways.look_at_upload(self.pve, notes, self.images, seen.host)
        return tuple(_of_this_node(node.config, finding) for finding in notes.found)

    def look_at(self, node: NodePlan) -> Looked:
        """All that a VM of this plan needs of its node. Where a privilege is missing, what it hides is not told too."""
        notes = Notes(node.name)
        seen = self._look(notes, node)
        return Looked(seen.size, tuple(notes.found))

    def _look(self, notes: Notes, node: NodePlan) -> _Seen:
        if ways.is_another_machine(self.pve, notes):
            return _Seen(None, None, None, has_place=False)
        notes.check(lambda: self.half_made(node.name))
        notes.check(lambda: check_keys(node.name, self.config.guest))
        there = notes.read("its storages", lambda: self.pve.storages(node.name))
        notes.check_privileges(lambda: self.privileges(node, there or ()))
        host = notes.read("its status", lambda: self.pve.host(node.name))
        if host:
            notes.warn(notes.check(lambda: hosts.check_release(node.name, host)))
            notes.warn(notes.check(lambda: hosts.check_clock(self.pve, node.name, self.clock)))
        if there is not None:
            self._look_at_disk(notes, node, there)
        self._look_at_bridges(notes, node.config)
        has_source = notes.demand(self.images.check_source)
        has_place = there is not None and self._has_place(notes, node.config, there)
        size = self._size(notes, node, host) if host else None
        return _Seen(size, host, there, bool(has_source and has_place))

    def _has_place(self, notes: Notes, wanted: NodeConfig, there: tuple[StorageState, ...]) -> bool:
        """Is there a storage for the image, as far as Proxmox shows them?"""
        name = image_storage(wanted, there)
        if notes.is_hidden(f"/storage/{name}") and all(one.name != name for one in there):
            return False
        return notes.check(lambda: self.images.check_place(wanted, there)) is not None

    def _look_at_disk(self, notes: Notes, node: NodePlan, there: tuple[StorageState, ...]) -> None:
        wanted, old = node.config, node.facts.vm
        is_shown = any(one.name == wanted.disk_storage for one in there)
        is_hidden = not is_shown and notes.is_hidden(f"/storage/{wanted.disk_storage}")
        storage = None if is_hidden else notes.check(lambda: storages.check_storage(wanted, there))
        if storage is not None:
            notes.warn(
                notes.check(
                    lambda: storages.check_space(
                        wanted,
                        storage,
                        storages.Room(storages.reclaimed_bytes(self.pve, storage, old) if old else 0),
                    )
                )
            )
        vmid = wanted.vmid
        if vmid is not None and old is None and node.facts.past.replacing is None:
            notes.warn(notes.check(lambda: storages.check_vmid(self.pve, wanted, vmid, there)))

    def _look_at_bridges(self, notes: Notes, wanted: NodeConfig) -> None:
        """Proxmox shows a token only the bridges that it may use."""
        shown = tuple(name for name in wanted.bridges if not notes.is_hidden(f"/sdn/zones/localnetwork/{name}"))
        looked = replace(wanted, bridges=shown)
        notes.errors(notes.read("its bridges", lambda: network_validator.check(self.pve, looked)) or ())

    def _size(self, notes: Notes, node: NodePlan, host: HostStatus) -> Size | None:
        wanted = node.config
        cores = notes.check(lambda: sizing.cores(wanted, host))
        memory_mib = notes.check(lambda: hosts.memory_mib(self.pve, self.config.policy, node, host))
        return Size(cores, memory_mib, wanted.disk_bytes) if cores and memory_mib else None


def _of_this_node(node: NodeConfig, finding: Finding) -> Finding:
    return replace(finding, problem=replace(finding.problem, cure=of_this_node(node, finding.problem.cure)))


def check_keys(node: str, guest: GuestConfig) -> None:
    """Raise NodeFailed where nobody could log in to a new VM."""
    if not guest.public_keys:
        raise NodeFailed(
            f"{node}: no SSH public key for the VM",
            "none was found in ~/.ssh, and a VM without one could not be logged in to",
            "make one with ssh-keygen -t ed25519, or set SSH_PUBKEY_PATH",
        )
