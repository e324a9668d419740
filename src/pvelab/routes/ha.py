"""/cluster/ha: what is kept running elsewhere when its node fails."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pvelab.answers import refused
from pvelab.routes.call import Call, route
from pvelab.rules import roles, status

HA = "/cluster/ha"
DEFAULTS = {"failback": 1, "max_relocate": 1, "max_restart": 1}


@route("GET", HA)
def index(call: Call) -> list[dict[str, str]]:
    last = ["rules"] if roles.has_9(call.world.profile.release) else []
    return [{"id": name} for name in ["status", "resources", "groups", *last]]


@route("GET", f"{HA}/status")
def status_index(call: Call) -> list[dict[str, str]]:
    last = ["disarm-ha", "arm-ha"] if roles.has_9(call.world.profile.release) else []
    return [{"name": name} for name in ["current", "manager_status", *last]]


@route("GET", f"{HA}/groups")
def list_groups(call: Call) -> list[dict[str, Any]]:
    if roles.has_9(call.world.profile.release):
        raise refused("cannot index groups: ha groups have been migrated to rules")
    return []


@route("GET", f"{HA}/rules")
def list_rules(_call: Call) -> list[dict[str, Any]]:
    return []


@route("GET", f"{HA}/status/current")
def read_status(call: Call) -> list[dict[str, Any]]:
    world, own = call.world, call.node.hostname
    said = "OK" if world.is_quorate else f"No quorum on node '{own}'!"
    shown = [{"id": "quorum", "type": "quorum", "node": own, "status": said, "quorate": int(world.is_quorate)}]
    manager = _manager(call) if world.ha else []
    return [*shown, *manager, *_fencing(call), *(_local(call) if world.ha else []), *_services(call)]


@route("GET", f"{HA}/resources")
def list_resources(call: Call) -> list[dict[str, Any]]:
    return [{"sid": sid, "type": sid.partition(":")[0], **fields} for sid, fields in call.world.ha.items()]


@route("GET", f"{HA}/resources/{{sid}}")
def read_resource(call: Call) -> dict[str, Any]:
    sid = full_id(call.params["sid"])
    if sid not in call.world.ha:
        raise refused(f"no such resource '{sid}'")
    return {"sid": sid, "type": sid.partition(":")[0], **call.world.ha[sid]}


@route("POST", f"{HA}/resources")
def add_resource(call: Call) -> None:
    name = full_id(call.params["sid"])
    if name in call.world.ha:
        raise refused(f"resource ID '{name}' already defined")
    call.world.ha[name] = {"state": call.params.get("state", "started")}


@route("DELETE", f"{HA}/resources/{{sid}}")
def remove_resource(call: Call) -> None:
    sid = call.params["sid"]
    if call.world.ha.pop(full_id(sid), None) is None:
        raise refused(f"cannot delete service '{sid}', not HA managed!")


def full_id(sid: str) -> str:
    """A resource by its type and number; a bare number is a VM."""
    return sid if ":" in sid else f"vm:{sid}"


def _manager(call: Call) -> list[dict[str, Any]]:
    master = next(iter(call.world.nodes))
    now = int(call.world.clock.now())
    text = f"{master} (active, {_local_time(now)})"
    return [{"id": "master", "type": "master", "node": master, "status": text, "timestamp": now}]


def _fencing(call: Call) -> list[dict[str, Any]]:
    if not roles.has_9(call.world.profile.release):
        return []
    node = next(iter(call.world.nodes)) if call.world.ha else call.node.hostname
    armed, watchdog = ("armed", "active") if call.world.ha else ("standby", "standby")
    text = f"{armed} (CRM watchdog {watchdog})"
    return [{"id": "fencing", "type": "fencing", "node": node, "status": text, "armed-state": armed}]


def _local(call: Call) -> list[dict[str, Any]]:
    """The local resource managers of all members."""
    is_9, now = roles.has_9(call.world.profile.release), int(call.world.clock.now())
    busy = {call.world.vms[vmid].node for vmid in _managed(call)}
    shown = []
    for node in sorted(call.world.nodes.values(), key=lambda one: one.hostname):
        state = "active" if node.hostname in busy else "idle"
        if not status.is_online(call.world, node, call.node):
            state = "old timestamp - dead?"
        watchdog = f"watchdog {'active' if state == 'active' else 'standby'}, " if is_9 else ""
        text = f"{node.hostname} ({state}, {watchdog}{_local_time(now)})"
        entry = {"id": f"lrm:{node.hostname}", "type": "lrm", "node": node.hostname, "status": text, "timestamp": now}
        shown.append(entry)
    return shown


def _managed(call: Call) -> list[int]:
    """The VMs under HA that are there."""
    found = [int(sid.partition(":")[2]) for sid in call.world.ha if sid.startswith("vm:")]
    return [vmid for vmid in found if vmid in call.world.vms]


def _services(call: Call) -> list[dict[str, Any]]:
    shown = []
    for sid, fields in sorted(call.world.ha.items()):
        vm = call.world.vms.get(int(sid.partition(":")[2]))
        state = fields["state"] if vm else "not found"
        entry = {"id": f"service:{sid}", "type": "service", "sid": sid, "state": state}
        node = vm.node if vm else "---"
        where = {"node": vm.node, "crm_state": state} if vm else {}
        text = f"{sid} ({node}, {state})"
        shown.append({**entry, **where, "status": text, "request_state": fields["state"], **DEFAULTS})
    return shown


def _local_time(moment: int) -> str:
    """As Perl's localtime prints it."""
    return datetime.fromtimestamp(moment, UTC).strftime("%a %b %e %H:%M:%S %Y")
