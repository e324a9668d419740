"""What a run has left, so written that two worlds can be compared that differ in nothing but chance."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pvelab.guest.guests import Guests, NotRunning
from pvelab.lab import Lab
from pvelab.machine import Machine
from pvelab.shell.files import FileSystem
from pvelab.state import World

_MAC = re.compile(r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}")
_VMID = re.compile(r"(?<=vm-)\d+(?=-)|(?<=:)\d+(?=/vm-)")
_TIME = re.compile(r"\b(\d{10}(\.\d+)?|\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z?)\b")
TOP_PARTS = 3
_CHANCE = ("smbios1", "vmgenid", "meta", "digest")
_NODE_FOLDERS = ("/root", "/run", "/tmp", "/var/tmp", "/var/lib/vz", "/etc/cron.d", "/home", "/usr/local")
_GUEST_FOLDERS = ("/root", "/tmp", "/var/tmp", "/home", "/etc/rancher", "/var/lib/homelab")


def macs(lab: Lab) -> dict[str, str]:
    """Every MAC address that a VM has, with the VM's name and its NIC."""
    return {
        mac: f"MAC of {vm['config'].get('name')} {key}"
        for vm in lab.snapshot()["vms"].values()
        for key, value in vm["config"].items()
        for mac in _MAC.findall(str(value))
    }


def left(lab: Lab, known: Mapping[str, str]) -> dict[str, str]:
    """Every fact about the world, by a path. `known` names the MAC addresses of before."""
    snapshot = lab.snapshot()
    names = {str(vmid): str(vm["config"].get("name")) for vmid, vm in snapshot["vms"].items()}
    uuids = {str(vm["config"].get("smbios1")).removeprefix("uuid="): names[str(v)] for v, vm in snapshot["vms"].items()}
    facts = {
        "vms": _by_name(snapshot["vms"], known, names),
        "volumes": {
            place: sorted(_owned(volume, names) for volume in held) for place, held in snapshot["volumes"].items()
        },
        "served": {node: sorted(files) for node, files in snapshot["files"].items()},
        "pools": sorted(snapshot["pools"]),
        "k3s": [_cluster(cluster, uuids) for cluster in snapshot["k3s"]],
        "files": lab.look(files_left),
        "tasks": lab.look(lambda world: sorted(task.type for task in world.tasks.values() if task.is_running)),
    }
    return dict(_flat("", facts))


def differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What is otherwise than it should be; a whole thing that is there, or is not, is one line."""
    missing = _tops(wanted) - _tops(found)
    lines = [f"{top}: nothing of it is there" for top in sorted(missing)]
    lines += [f"{top}: should not be there" for top in sorted(_tops(found) - _tops(wanted))]
    nothing = "(nothing)"
    return lines + [
        f"{path}: {found.get(path, nothing)}, wanted {wanted.get(path, nothing)}"
        for path in sorted({*wanted, *found})
        if wanted.get(path) != found.get(path) and _top(path) in _tops(wanted) & _tops(found)
    ]


def _tops(facts: Mapping[str, str]) -> set[str]:
    return {_top(path) for path in facts}


def _top(path: str) -> str:
    """What a fact is about: the first parts of its path."""
    return "/".join(path.split("/")[:TOP_PARTS])


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, one in value.items():
            yield from _flat(f"{path}/{key}", one)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _flat(f"{path}/{number if isinstance(one, Mapping) else one}", one)
    else:
        yield path, str(value)


def _by_name(vms: Mapping[int, Any], known: Mapping[str, str], names: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for vmid, vm in vms.items():
        name = names[str(vmid)]
        key = name if name not in found else f"{name} once more ({vmid})"
        config = {option: _plain(option, str(text), known, names) for option, text in vm["config"].items()}
        found[key] = {**vm, "config": config}
    return found


def _plain(option: str, text: str, known: Mapping[str, str], names: Mapping[str, str]) -> str:
    if option in _CHANCE:
        return "(any)"
    text = _MAC.sub(lambda mac: known.get(mac[0], "new MAC"), _owned(text, names))
    return _TIME.sub("TIME", text)


def _owned(text: str, names: Mapping[str, str]) -> str:
    """A volume with the name of the VM whose number it bears."""
    return _VMID.sub(lambda vmid: names.get(vmid[0], f"(no VM {vmid[0]})"), text)


def _cluster(cluster: Mapping[str, Any], uuids: Mapping[str, str]) -> dict[str, Any]:
    nodes = {
        name: {**node, "uuid": f"machine {uuids.get(node['uuid'], 'outside Proxmox')}"}
        for name, node in cluster["nodes"].items()
    }
    members = sorted(f"{name.rpartition('-')[0]} {kind}" for name, kind in cluster["members"].items())
    return {"nodes": nodes, "secrets": cluster["secrets"], "members": members, "tokens": len(cluster["tokens"])}


def files_left(world: World) -> dict[str, list[str]]:
    """Files on nodes and in guests, where a run may leave something."""
    guests = world.guests
    assert isinstance(guests, Guests)
    found = {node.hostname: _below(node, _NODE_FOLDERS) for node in world.nodes.values()}
    machines: list[Machine] = [guests.existing]
    for vm in world.vms.values():
        try:
            machines.append(guests.machine_in(vm))
        except NotRunning:
            continue
    return found | {machine.hostname: _below(machine, _GUEST_FOLDERS) for machine in machines}


def _below(machine: Machine, folders: tuple[str, ...]) -> list[str]:
    return sorted(path for folder in folders for path in _walk(machine.files, folder))


def _walk(files: FileSystem, path: str) -> Iterator[str]:
    if files.is_file(path):
        yield re.sub(r"vm-\d+|/\d+/", "vm", path)
    elif files.is_folder(path):
        for name in files.names(path):
            yield from _walk(files, posixpath.join(path, name))
