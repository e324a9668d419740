"""/cluster/resources: what the statistics daemons of all nodes told last, which is some seconds old."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pvelab.routes import nodes
from pvelab.routes.call import Call, route
from pvelab.rules import status, storages
from pvelab.state import Node, Pool, Vm

ZONE = "localnetwork"
BUSY_CPU = 0.01
POOLED = ("mem", "maxmem", "maxcpu")


@route("GET", "/cluster/resources")
def resources(call: Call) -> list[dict[str, Any]]:
    wanted = call.params.get("type")
    kinds: dict[str, Callable[[Call], Iterator[dict[str, Any]]]] = {
        "pool": _pools,
        "vm": _vms,
        "node": _nodes,
        "storage": _storages,
        "sdn": _zones_before_9,
        "network": _zones,
    }
    return [item for kind, gather in kinds.items() if wanted in (None, kind) for item in gather(call)]


def _pools(call: Call) -> Iterator[dict[str, Any]]:
    for pool in call.world.pools.values():
        if call.may(f"/pool/{pool.poolid}", "Pool.Audit"):
            shown = {"id": f"/pool/{pool.poolid}", "pool": pool.poolid, "type": "pool"}
            yield {**shown, **_load(call, pool)}


def _load(call: Call, pool: Pool) -> dict[str, Any]:
    """What the running VMs of a pool take together."""
    members = [_vm(call, call.world.vms[vmid]) for vmid in sorted(pool.vmids & call.world.vms.keys())]
    running = [shown for shown in members if shown.get("uptime")]
    if not running:
        return {}
    total = {name: sum(shown[name] for shown in running) for name in POOLED}
    used = sum(shown["cpu"] * shown["maxcpu"] for shown in running)
    return {**total, "cpu": used / total["maxcpu"], "uptime": max(shown["uptime"] for shown in running)}


def _vms(call: Call) -> Iterator[dict[str, Any]]:
    for vm in call.world.vms.values():
        if call.may(f"/vms/{vm.vmid}", "VM.Audit"):
            shown = {**_vm(call, vm), **{name: vm.config[name] for name in ("lock", "tags") if vm.config.get(name)}}
            pool = next((pool.poolid for pool in call.world.pools.values() if vm.vmid in pool.vmids), "")
            if pool and call.may(f"/pool/{pool}", "Pool.Audit"):
                shown["pool"] = pool
            if f"vm:{vm.vmid}" in call.world.ha:
                shown["hastate"] = call.world.ha[f"vm:{vm.vmid}"]["state"]
            yield shown


def _vm(call: Call, vm: Vm) -> dict[str, Any]:
    """A VM without what its configuration adds: a new one has no name yet."""
    node = call.world.nodes[vm.node]
    head: dict[str, Any] = {"id": f"qemu/{vm.vmid}", "node": vm.node, "type": "qemu", "vmid": vm.vmid}
    is_known = call.world.clock.now() - vm.created_at >= call.world.timings.status_daemon_s
    if not is_known or not status.has_statistics(call.world, node):
        return {**head, "status": "unknown"}
    is_running = status.is_running_by_statistics(call.world, vm)
    shown = status.listed(call.world, node, vm, full=False)
    return {
        **head,
        "cpu": BUSY_CPU if is_running else 0,
        "disk": 0,
        "diskread": 0,
        "diskwrite": 0,
        "maxcpu": shown["cpus"],
        "maxdisk": shown["maxdisk"],
        "maxmem": shown["maxmem"],
        "mem": status.memory_held_bytes(vm) if is_running else 0,
        "name": vm.name,
        "netin": 0,
        "netout": 0,
        "status": "running" if is_running else "stopped",
        "template": int(vm.config.get("template") == "1"),
        "uptime": max(1, int(call.world.clock.now() - vm.started_at)) if is_running else 0,
    }


def _nodes(call: Call) -> Iterator[dict[str, Any]]:
    for node in call.world.nodes.values():
        shown = nodes.summary(call, node)
        del shown["ssl_fingerprint"]
        yield {**shown, "cgroup-mode": 1}


def _storages(call: Call) -> Iterator[dict[str, Any]]:
    for node in call.world.nodes.values():
        for storage in storages.all_storages(call.world).values():
            if storage.is_disabled or not storages.is_on(storage, node):
                continue
            if not call.may(f"/storage/{storage.name}", "Datastore.Audit"):
                continue
            shown: dict[str, Any] = {
                "content": ",".join(storage.content),
                "id": f"storage/{node.hostname}/{storage.name}",
                "node": node.hostname,
                "plugintype": storage.type,
                "shared": int(storage.is_shared),
                "status": "unknown",
                "storage": storage.name,
                "type": "storage",
            }
            if status.has_statistics(call.world, node) and storage.name not in call.world.offline_storages:
                room = storages.room(call.world, storage, node)
                shown |= {"disk": room.used_bytes, "maxdisk": room.total_bytes, "status": "available"}
            yield shown


def _zones(call: Call) -> Iterator[dict[str, Any]]:
    if not call.world.profile.release.startswith("8."):
        for node in _audited(call):
            head = {"id": f"network/{node.hostname}/zone/{ZONE}", "network": ZONE, "network-type": "zone"}
            yield {**head, "node": node.hostname, "status": "ok", "type": "network"}


def _zones_before_9(call: Call) -> Iterator[dict[str, Any]]:
    if call.world.profile.release.startswith("8."):
        for node in _audited(call):
            head = {"id": f"sdn/{node.hostname}/{ZONE}", "sdn": ZONE}
            yield {**head, "node": node.hostname, "status": "ok", "type": "sdn"}


def _audited(call: Call) -> Iterator[Node]:
    if call.may(f"/sdn/zones/{ZONE}", "SDN.Audit"):
        yield from call.world.nodes.values()
