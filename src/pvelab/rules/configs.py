"""VM configurations: finding them, their file in /etc/pve, locks and digests."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from errno import EACCES
from typing import Any
from urllib.parse import quote, unquote

from pvelab import schema
from pvelab.answers import ApiError, refused
from pvelab.rules import drives
from pvelab.state import Node, Vm, World

CLOUDINIT_OPTIONS = frozenset(
    {"cicustom", "cipassword", "citype", "ciuser", "ciupgrade", "nameserver", "searchdomain", "sshkeys"}
)


def find(world: World, vmid: str | int, node: Node) -> Vm:
    """The VM if it is on that node. Raises ApiError."""
    vm = world.vms.get(int(vmid))
    if vm is None or vm.node != node.hostname:
        raise refused(f"Configuration file 'nodes/{node.hostname}/qemu-server/{vmid}.conf' does not exist")
    return vm


def find_for_power(world: World, vmid: str | int, node: Node) -> Vm:
    """The VM if it is on that node, refused in the words of the power commands. Raises ApiError."""
    vm = world.vms.get(int(vmid))
    if vm is None or vm.node != node.hostname:
        raise refused(f"unable to find configuration file for VM {vmid} on node '{node.hostname}'")
    return vm


def file_path(vm: Vm) -> str:
    """Its file, below /etc/pve."""
    return f"/nodes/{vm.node}/qemu-server/{vm.vmid}.conf"


def add(world: World, vm: Vm) -> None:
    """Put a VM into the cluster."""
    world.vms[vm.vmid] = vm
    save(world, vm)


def save(world: World, vm: Vm) -> None:
    """Write the VM's file. Raises ApiError without a majority."""
    require_writable(world, vm)
    world.pve.provide(file_path(vm), text(vm).encode(), mode=0o640)


def remove(world: World, vm: Vm) -> None:
    """Take a VM out of the cluster; its disks are not touched."""
    world.vms.pop(vm.vmid, None)
    if world.pve.is_file(file_path(vm)):
        world.pve.remove(file_path(vm))
    for pool in world.pools.values():
        pool.vmids.discard(vm.vmid)


def require_quorum(world: World) -> None:
    """Refuse what Proxmox asks a majority of the members for before it begins."""
    if not world.is_quorate:
        raise refused("cluster not ready - no quorum?")


def require_writable(world: World, vm: Vm) -> None:
    """Refuse to write a VM's file without a majority of the members: /etc/pve is read-only then."""
    if not world.is_quorate:
        temporary = f"/etc/pve{file_path(vm)}.tmp.{world.random.randrange(1000, 100_000)}"
        raise refused(f"unable to open file '{temporary}' - {os.strerror(EACCES)}")


def require_lock(world: World, file: str, doing: str = "") -> None:
    """Refuse to change one of the cluster's own files without a majority: its lock cannot be had."""
    if not world.is_quorate:
        raise refused(f"{doing}cfs-lock 'file-{file.replace('.', '_')}' error: no quorum!")


def text(vm: Vm) -> str:
    """The VM's file as Proxmox writes it."""
    parts = [_section(vm.config)]
    waiting = dict(vm.pending)
    if vm.unplug:
        waiting["delete"] = ",".join(("!" if forced else "") + name for name, forced in sorted(vm.unplug.items()))
    if waiting:
        parts.append("[PENDING]\n" + _section(waiting))
    for snapshot in vm.snapshots.values():
        parts.append(f"[{snapshot.name}]\n" + _section(snapshot.config))
    return "\n".join(parts)


def digest(vm: Vm) -> str:
    """The checksum that a change may name."""
    return hashlib.sha1(text(vm).encode()).hexdigest()


def check_digest(vm: Vm, given: str) -> None:
    """Refuse a change that was decided on another state of the file."""
    if given and given != digest(vm):
        raise refused("checksum mismatch (file change by other user?)")


def check_lock(vm: Vm) -> None:
    """Refuse while the VM is locked."""
    lock = vm.config.get("lock")
    if lock:
        raise refused(f"VM is locked ({lock})")


def typed(world: World, option: str, value: str) -> Any:
    """A value as the API shows it: numbers for options that are integers or flags."""
    properties = schema.load(world.profile.release).properties(drives.CREATE, "POST")
    kind = properties.get(option, {}).get("type")
    return int(value) if kind in ("integer", "boolean") and re.fullmatch(r"-?\d+", value) else value


def shown(world: World, vm: Vm, *, current: bool) -> dict[str, Any]:
    """The configuration as GET config answers: with what waits for the next start, unless `current`."""
    values = dict(vm.config)
    if not current:
        values = {name: value for name, value in {**values, **vm.pending}.items() if name not in vm.unplug}
    return {**{name: typed(world, name, value) for name, value in values.items()}, "digest": digest(vm)}


def pending(world: World, vm: Vm) -> list[dict[str, Any]]:
    """Every option with its present value, and what it will be after the next start."""
    found: list[dict[str, Any]] = []
    for name in {**vm.config, **vm.pending}:
        item: dict[str, Any] = {"key": name}
        if name in vm.config:
            item["value"] = typed(world, name, vm.config[name])
        if name in vm.pending:
            item["pending"] = typed(world, name, vm.pending[name])
        if name in vm.unplug:
            item["delete"] = 2 if vm.unplug[name] else 1
        found.append(item)
    return [*found, {"key": "digest", "value": digest(vm)}]


def new_uuid(world: World) -> str:
    """A random UUID, repeatable with the world."""
    return str(uuid.UUID(int=world.random.getrandbits(128), version=4))


def sort_tags(tags: str) -> str:
    """Tags as Proxmox keeps them: lower case, each once, by name."""
    return ";".join(sorted({tag.lower() for tag in re.split(r"[,;\s]+", tags) if tag}))


def check_sshkeys(encoded: str) -> None:
    """Refuse what is no list of public keys."""
    pattern = (
        r"(?:[^#\s]+\s+)?(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp\d+|sk-\S+)\s+[A-Za-z0-9+/]{40,}={0,3}(?:\s.*)?"
    )
    for line in unquote(encoded).splitlines():
        if line.strip() and not re.fullmatch(pattern, line.strip()):
            raise ApiError(500, "SSH public key validation error")


def _section(values: dict[str, str]) -> str:
    description = values.get("description", "")
    notes = "".join(f"#{quote(line, safe=_PLAIN)}\n" for line in description.split("\n")) if description else ""
    return notes + "".join(f"{name}: {values[name]}\n" for name in sorted(values) if name != "description")


_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != ":")
