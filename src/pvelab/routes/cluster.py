"""/cluster: members, free VMIDs and backup jobs."""

from __future__ import annotations

from typing import Any

from pvelab.answers import bad_parameter, refused
from pvelab.routes.call import Call, route
from pvelab.rules import configs, status
from pvelab.state import Node

INDEX = (
    "acme backup backup-info bulk-action ceph config firewall ha jobs log mapping metrics nextid notifications options"
)
FIRST_VMID = 100


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
            "online": int(status.is_online(world, node, call.node)),
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
    configs.require_lock(call.world, "jobs.cfg")
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
