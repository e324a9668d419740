"""/cluster: members, resources, free VMIDs, HA and backup jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pvelab.answers import bad_parameter, refused
from pvelab.routes import nodes
from pvelab.routes.call import Call, route
from pvelab.rules import configs, status, storages
from pvelab.state import Node, Vm

INDEX = (
    "acme backup backup-info bulk-action ceph config firewall ha jobs log mapping metrics nextid notifications options"
)
FIRST_VMID = 100
ZONE = "localnetwork"


@route("GET", "/cluster")
def index(_call: Call) -> list[dict[str, str]]:
    return [{"name": name} for name in [*INDEX.split(), "replication", "resources", "sdn", "status", "tasks"]]


@route("GET", "/cluster/nextid")
def next_id(call: Call) -> str:
    if "vmid" in call.params:
        if call.vmid in call.world.vms:
            raise bad_parameter("vmid", f"VM {call.vmid} already exists")
        return call.params["vmid"]
    return str(next(n for n in range(FIRST_VMID, FIRST_VMID + len(call.world.vms) + 1) if n not in call.world.vms))


@route("GET", "/cluster/status")
def cluster_status(call: Call) -> list[dict[str, Any]]:
    world = call.world
    members = [
        {
            "id": f"node/{node.hostname}",
            "ip": _member_address(node),
            "level": "",
            "local": int(node is call.node),
            "name": node.hostname,
            "nodeid": node.nodeid if world.cluster_name else 0,
            "online": int(node.is_up),
            "type": "node",
        }
        for node in world.nodes.values()
    ]
    if not world.cluster_name:
        return members
    count = len(world.nodes)
    head = {
        "id": "cluster",
        "name": world.cluster_name,
        "nodes": count,
        "quorate": int(world.is_quorate),
        "type": "cluster",
        "version": count,
    }
    return [head, *members]


@route("GET", "/cluster/resources")
def resources(call: Call) -> list[dict[str, Any]]:
    kinds = {"vm": _vms, "node": _nodes, "storage": _storages, "sdn": _zones}
    wanted = call.params.get("type")
    return [item for kind, gather in kinds.items() if wanted in (None, kind) for item in gather(call)]


@route("GET", "/cluster/ha/resources")
def list_ha(call: Call) -> list[dict[str, Any]]:
    return [{"sid": sid, "type": sid.partition(":")[0], **fields} for sid, fields in call.world.ha.items()]


@route("POST", "/cluster/ha/resources")
def add_ha(call: Call) -> None:
    sid = call.params["sid"]
    name = sid if ":" in sid else f"vm:{sid}"
    if name in call.world.ha:
        raise refused(f"resource ID '{name}' already defined")
    call.world.ha[name] = {"state": call.params.get("state", "started")}


@route("DELETE", "/cluster/ha/resources/{sid}")
def remove_ha(call: Call) -> None:
    sid = call.params["sid"]
    if call.world.ha.pop(sid if ":" in sid else f"vm:{sid}", None) is None:
        raise refused(f"cannot delete service '{sid}', not HA managed!")


@route("GET", "/cluster/replication")
def list_replications(call: Call) -> list[dict[str, Any]]:
    return [
        {"id": name, "type": "local", **job}
        for name, job in call.world.replications.items()
        if call.may(f"/vms/{job['guest']}", "VM.Audit")
    ]


@route("GET", "/cluster/backup")
def list_backup_jobs(call: Call) -> list[dict[str, Any]]:
    return [{"id": name, "type": "vzdump", **job} for name, job in call.world.backup_jobs.items()]


@route("POST", "/cluster/backup")
def add_backup_job(call: Call) -> None:
    configs.require_quorum(call.world)
    name = call.params.get("id", f"backup-{call.world.random.getrandbits(48):012x}")
    if name in call.world.backup_jobs:
        raise refused(f"Job '{name}' already exists")
    call.world.backup_jobs[name] = {key: value for key, value in call.params.items() if key != "id"}


@route("GET", "/cluster/backup/{id}")
def read_backup_job(call: Call) -> dict[str, Any]:
    return {"id": call.params["id"], "type": "vzdump", **_backup_job(call)}


@route("DELETE", "/cluster/backup/{id}")
def remove_backup_job(call: Call) -> None:
    _backup_job(call)
    del call.world.backup_jobs[call.params["id"]]


def _backup_job(call: Call) -> dict[str, str]:
    job = call.world.backup_jobs.get(call.params["id"])
    if job is None:
        raise bad_parameter("id", f"No such job '{call.params['id']}'")
    return job


def _member_address(node: Node) -> str:
    """The address by which the other members know a node: that of its first bridge with one, else the API's."""
    cidrs = (interface.cidr for interface in node.interfaces.values() if interface.cidr)
    return next(cidrs, node.address).partition("/")[0]


def _vms(call: Call) -> Iterator[dict[str, Any]]:
    for vm in call.world.vms.values():
        if call.may(f"/vms/{vm.vmid}", "VM.Audit"):
            yield _vm(call, vm)


def _vm(call: Call, vm: Vm) -> dict[str, Any]:
    node = call.world.nodes[vm.node]
    head: dict[str, Any] = {"id": f"qemu/{vm.vmid}", "node": vm.node, "type": "qemu", "vmid": vm.vmid}
    head |= {name: vm.config[name] for name in ("lock", "tags") if vm.config.get(name)}
    pool = next((pool.poolid for pool in call.world.pools.values() if vm.vmid in pool.vmids), None)
    if pool:
        head["pool"] = pool
    is_known = call.world.clock.now() - vm.created_at >= call.world.timings.status_daemon_s
    if not is_known or not node.is_up:
        return {**head, "status": "unknown"}
    shown = status.listed(call.world, node, vm, full=False)
    numbers = {name: shown[name] for name in ("cpu", "disk", "maxdisk", "maxmem", "mem", "netin", "netout", "uptime")}
    return {
        **head,
        **numbers,
        "diskread": 0,
        "diskwrite": 0,
        "maxcpu": shown["cpus"],
        "name": vm.name,
        "status": shown["status"],
        "template": int(vm.config.get("template") == "1"),
    }


def _nodes(call: Call) -> Iterator[dict[str, Any]]:
    for node in call.world.nodes.values():
        shown = nodes.summary(call.world, node, full=call.may(f"/nodes/{node.hostname}", "Sys.Audit"))
        del shown["ssl_fingerprint"]
        yield {**shown, "cgroup-mode": 1} if "maxcpu" in shown else shown


def _storages(call: Call) -> Iterator[dict[str, Any]]:
    for node in call.world.nodes.values():
        for storage in storages.all_storages(call.world).values():
            where = f"/storage/{storage.name}"
            if storage.is_disabled or not storages.is_on(storage, node):
                continue
            if not call.may(where, "Datastore.Audit", "Datastore.AllocateSpace"):
                continue
            shown: dict[str, Any] = {
                "content": ",".join(storage.content),
                "id": f"storage/{node.hostname}/{storage.name}",
                "node": node.hostname,
                "plugintype": storage.type,
                "shared": int(storage.is_shared),
                "status": "available" if node.is_up else "unknown",
                "storage": storage.name,
                "type": "storage",
            }
            if node.is_up:
                room = storages.room(call.world, storage, node)
                shown |= {"disk": room.used_bytes, "maxdisk": room.total_bytes}
            yield shown


def _zones(call: Call) -> Iterator[dict[str, Any]]:
    for node in call.world.nodes.values():
        if call.may(f"/sdn/zones/{ZONE}", "SDN.Audit", "SDN.Use"):
            yield {
                "id": f"network/{node.hostname}/zone/{ZONE}",
                "network": ZONE,
                "network-type": "zone",
                "node": node.hostname,
                "status": "ok" if node.is_up else "unknown",
                "type": "network",
            }
