"""What has to be so whenever a run has reported success, whatever happened before."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from crash.left import files_left
from pvelab.lab import Lab

OURS = "k3s-vm-"
UNFINISHED = "homelab-unfinished"
_OWNER = re.compile(r"vm-(\d+)-")
_TEMPORARY = re.compile(r"\.part$|/tmp/\.?[a-z-]+\.\w{6,}|/run/homelab|/tmp/pveupload|\.new$")


def unsound(lab: Lab, *, joins: bool = True) -> list[str]:
    """Everything that is not as it has to be when all configured nodes have their VM, and all VMs are members."""
    snapshot = lab.snapshot()
    return [
        *_vms(snapshot["vms"], [node.name for node in lab.spec.nodes]),
        *leftovers(lab, snapshot),
        *(_members(snapshot, {OURS + node.name for node in lab.spec.nodes}) if joins else ()),
    ]


def leftovers(lab: Lab, snapshot: Mapping[str, Any]) -> Iterator[str]:
    """Disks without a VM, the mark of a run, files that were for a moment only."""
    for place, volumes in snapshot["volumes"].items():
        for volume in volumes:
            owner = _OWNER.search(volume)
            if owner and int(owner[1]) not in snapshot["vms"]:
                yield f"{place}: {volume} belongs to no VM"
    yield from (f"pool {name} is left" for name in snapshot["pools"] if name.startswith("homelab"))
    for machine, paths in lab.look(files_left).items():
        yield from (f"{machine}: {path} is left" for path in paths if _TEMPORARY.search(path))


def _vms(vms: Mapping[int, Any], nodes: list[str]) -> Iterator[str]:
    names = Counter(str(vm["config"].get("name")) for vm in vms.values())
    for node in nodes:
        if names[OURS + node] != 1:
            yield f"there are {names[OURS + node]} VMs with the name {OURS + node}"
    for vmid, vm in vms.items():
        config = vm["config"]
        if str(config.get("name")) not in [OURS + node for node in nodes]:
            continue
        if vm["status"] != "running":
            yield f"VM {vmid} is {vm['status']}"
        for key in ("lock", "cicustom"):
            if key in config:
                yield f"VM {vmid} has {key} {config[key]}"
        if UNFINISHED in str(config.get("tags")):
            yield f"VM {vmid} is unfinished"


def _members(snapshot: Mapping[str, Any], ours: set[str]) -> Iterator[str]:
    (cluster,) = snapshot["k3s"]
    vms = {str(vm["config"].get("name")): vm["config"] for vm in snapshot["vms"].values()}
    for name, node in cluster["nodes"].items():
        if not name.startswith(OURS):
            continue
        if name not in vms or not str(vms[name].get("smbios1", "")).endswith(node["uuid"]):
            yield f"Node {name} is that of no VM"
        elif not node["ready"]:
            yield f"Node {name} is not Ready"
    yield from (f"{name} is no member" for name in vms if name in ours and name not in cluster["nodes"])
    members = {name.rpartition("-")[0] for name in cluster["members"]}
    yield from (f"etcd member {name} has no Node" for name in sorted(members - set(cluster["nodes"])))
    for secret in cluster["secrets"]:
        name = secret.removesuffix(".node-password.k3s")
        if name != secret and name not in cluster["nodes"]:
            yield f"secret {secret} is that of no Node"
