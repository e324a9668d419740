"""/nodes and what a node says of itself."""

from __future__ import annotations

from typing import Any

from pvelab.answers import bad_parameter
from pvelab.routes.call import Call, route
from pvelab.rules import status
from pvelab.state import Interface, Node, World

INDEX = (
    "aplinfo apt capabilities ceph certificates config disks dns firewall hardware hosts journal lxc migrateall netstat"
    " network qemu query-oci-repo-tags query-url-metadata replication report rrd rrddata scan sdn services spiceshell"
    " startall status stopall storage subscription suspendall syslog tasks termproxy time version vncshell vzdump"
    " wakeonlan"
)
CPU_MODEL = "Intel(R) N100"
CPU_FLAGS = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat clflush mmx fxsr sse sse2 ht syscall nx lm vmx"
)
SIZES = ("maxcpu", "maxdisk", "maxmem")
BRIDGE_PRIORITY, PORT_PRIORITY = 4, 3
LOCAL_BRIDGES = ("any_bridge", "any_local_bridge", "bridge")


@route("GET", "/nodes")
def list_nodes(call: Call) -> list[dict[str, Any]]:
    return [summary(call, node) for node in call.world.nodes.values()]


def summary(call: Call, node: Node) -> dict[str, Any]:
    """A node in a list, with its load for whoever may see it; of one that is off only its size is known for a while."""
    is_online = status.is_online(call.world, node, call.node)
    shown: dict[str, Any] = {
        "id": f"node/{node.hostname}",
        "node": node.hostname,
        "ssl_fingerprint": node.fingerprint,
        "status": "online" if is_online else "offline",
        "type": "node",
    }
    if not status.has_statistics(call.world, node):
        return shown
    shown["level"] = ""
    if not _may_audit(call, node):
        return shown
    full = load(call.world, node)
    return {**shown, **(full if is_online else {name: full[name] for name in SIZES})}


def load(world: World, node: Node) -> dict[str, Any]:
    """Processors, memory and root disk of a node."""
    memory = status.node_memory(world, node)
    disk = node.files.usage("/")
    return {
        "cpu": status.node_cpu(world, node),
        "disk": disk.used_bytes,
        "maxcpu": node.cpus,
        "maxdisk": disk.total_bytes,
        "maxmem": memory["total"],
        "mem": memory["used"],
        "uptime": status.node_uptime_s(world, node),
    }


@route("GET", "/nodes/{node}")
def index(_call: Call) -> list[dict[str, str]]:
    return [{"name": name} for name in INDEX.split()]


@route("GET", "/nodes/{node}/version")
def version(call: Call) -> dict[str, str]:
    profile = call.world.profile
    return {"release": profile.release, "repoid": profile.repoid, "version": profile.version}


@route("GET", "/nodes/{node}/status")
def node_status(call: Call) -> dict[str, Any]:
    world, node, profile = call.world, call.node, call.world.profile
    disk = node.files.usage("/")
    return {
        "boot-info": {"mode": "legacy-bios"},
        "cpu": status.node_cpu(world, node),
        "cpuinfo": _cpuinfo(node),
        "current-kernel": {
            "machine": "x86_64",
            "release": profile.kernel,
            "sysname": "Linux",
            "version": profile.kernel_build,
        },
        "idle": 0,
        "ksm": {"shared": 0},
        "kversion": f"Linux {profile.kernel} {profile.kernel_build}",
        "loadavg": ["0.12", "0.08", "0.05"],
        "memory": status.node_memory(world, node),
        "pveversion": f"pve-manager/{profile.version}/{profile.repoid}",
        "rootfs": {
            "avail": disk.available_bytes,
            "free": disk.available_bytes,
            "total": disk.total_bytes,
            "used": disk.used_bytes,
        },
        "swap": {"free": 0, "total": 0, "used": 0},
        "uptime": status.node_uptime_s(world, node),
        "wait": 0,
    }


@route("GET", "/nodes/{node}/time")
def time(call: Call) -> dict[str, Any]:
    now = int(call.world.clock.now() + call.node.clock_skew_s)
    return {"localtime": now, "time": now, "timezone": "UTC"}


@route("GET", "/nodes/{node}/network")
def list_network(call: Call) -> list[dict[str, Any]]:
    wanted = call.params.get("type", "")
    return [
        {**described(interface), "iface": interface.name}
        for interface in call.node.interfaces.values()
        if not wanted or interface.type == wanted or (interface.type == "bridge" and wanted in LOCAL_BRIDGES)
        if wanted not in LOCAL_BRIDGES[:2] or _may_use(call, interface)
    ]


@route("GET", "/nodes/{node}/network/{iface}")
def read_interface(call: Call) -> dict[str, Any]:
    interface = call.node.interfaces.get(call.params["iface"])
    if interface is None:
        raise bad_parameter("iface", "interface does not exist")
    return described(interface)


def described(interface: Interface) -> dict[str, Any]:
    """An interface as it stands in /etc/network/interfaces, with whether it is up."""
    shown: dict[str, Any] = {
        "families": ["inet"],
        "method": "static" if interface.cidr else "manual",
        "method6": "manual",
        "priority": BRIDGE_PRIORITY if interface.type == "bridge" else PORT_PRIORITY,
        "type": interface.type,
    }
    if interface.is_active:
        shown["active"] = 1
    if interface.type == "bridge":
        shown |= {"autostart": 1, "bridge_fd": "0", "bridge_ports": interface.ports, "bridge_stp": "off"}
    else:
        shown["exists"] = 1
    if interface.cidr:
        address, _, bits = interface.cidr.partition("/")
        shown |= {"address": address, "cidr": interface.cidr, "netmask": bits}
    return {**shown, "gateway": interface.gateway} if interface.gateway else shown


def _may_audit(call: Call, node: Node) -> bool:
    return call.may(f"/nodes/{node.hostname}", "Sys.Audit")


def _may_use(call: Call, interface: Interface) -> bool:
    return call.may(f"/sdn/zones/localnetwork/{interface.name}", "SDN.Audit", "SDN.Use")


def _cpuinfo(node: Node) -> dict[str, Any]:
    return {
        "cores": node.cpus,
        "cpus": node.cpus,
        "family": "6",
        "flags": CPU_FLAGS,
        "hvm": "",
        "mhz": "800",
        "model": CPU_MODEL,
        "sockets": 1,
        "user_hz": 100,
        "vendor": "GenuineIntel",
    }
