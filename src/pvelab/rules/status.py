"""What VMs and nodes look like from outside: states, sizes, use of memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pvelab import schema
from pvelab.rules import drives, power
from pvelab.rules.images import parse_size
from pvelab.state import Node, Vm, World

AGENT = {"format": {"enabled": {"type": "boolean", "default_key": 1}, "type": {}, "fstrim_cloned_disks": {}}}
RUNNING_STATES = ("running",)
PRESSURES = ("cpufull", "cpusome", "iofull", "iosome", "memoryfull", "memorysome")
BUSY_SHARE = 0.6
STATISTICS_KEPT_S = 300.0


def is_online(world: World, node: Node, seen_from: Node) -> bool:
    """Does one member count another among those that are there?"""
    return node is seen_from or (node.is_up and node.has_config and seen_from.has_config and not world.is_split)


def has_statistics(world: World, node: Node) -> bool:
    """Are there numbers of a node? They outlive it by five minutes."""
    return node.is_up or world.clock.now() - node.down_since < STATISTICS_KEPT_S


def is_running_by_statistics(world: World, vm: Vm) -> bool:
    """Was a VM running when the statistics daemon of its node looked last?"""
    node = world.nodes[vm.node]
    looked_at = world.clock.now() if node.is_up else node.down_since
    is_stale = looked_at - vm.power_changed_at < world.timings.status_daemon_s
    return vm.was_running if is_stale else vm.is_running


def listed(world: World, node: Node, vm: Vm, *, full: bool) -> dict[str, Any]:
    """A VM as the node's list shows it; `full` adds what QEMU itself says of its state."""
    shown: dict[str, Any] = {
        "cpu": 0.01 if vm.is_running else 0,
        "cpus": min(int(vm.config.get("vcpus", power.cores(vm))), node.cpus),
        "disk": 0,
        "maxdisk": boot_disk_bytes(world, vm),
        "maxmem": power.memory_bytes(vm),
        "mem": used_memory_bytes(vm),
        "memhost": used_memory_bytes(vm),
        "name": vm.name,
        "netin": 0,
        "netout": 0,
        "status": "running" if vm.is_running else "stopped",
        "uptime": uptime_s(world, vm),
        "vmid": vm.vmid,
    }
    shown |= {name: vm.config[name] for name in ("lock", "tags") if vm.config.get(name)}
    if vm.config.get("template") == "1":
        shown["template"] = 1
    if vm.is_running:
        shown["pid"] = vm.pid
        shown |= {f"pressure{name}": 0 for name in PRESSURES}
    if full:
        shown["qmpstatus"] = vm.qmp
    return shown


def current(world: World, node: Node, vm: Vm) -> dict[str, Any]:
    """A VM as status/current shows it."""
    shown = listed(world, node, vm, full=True)
    shown["ha"] = {"managed": 1, **world.ha[f"vm:{vm.vmid}"]} if f"vm:{vm.vmid}" in world.ha else {"managed": 0}
    if has_agent(vm):
        shown["agent"] = 1
    if any(option.startswith("serial") for option in vm.config):
        shown["serial"] = 1
    if "vga" in vm.config:
        shown["clipboard"] = None
    cards = [option.removeprefix("net") for option in sorted(vm.config) if drives.NET.fullmatch(option)]
    if vm.is_running and cards:
        shown["nics"] = {f"tap{vm.vmid}i{card}": {"netin": 0, "netout": 0} for card in cards}
    return shown


def has_agent(vm: Vm) -> bool:
    """Is the guest agent switched on in the configuration that QEMU runs with?"""
    text = vm.config.get("agent", "")
    return bool(text) and schema.parse_properties(AGENT, text).get("enabled", "0") == "1"


def boot_disk_bytes(world: World, vm: Vm) -> int:
    """The size of the disk the VM boots from, 0 if there is none."""
    option = drives.boot_disk(world, vm.config)
    size = drives.parse(world, option, vm.config[option]).get("size", "") if option else ""
    return parse_size(size) if size else 0


def used_memory_bytes(vm: Vm) -> int:
    """What the VM's process holds of the node's memory now."""
    return memory_held_bytes(vm) if vm.is_running else 0


def memory_held_bytes(vm: Vm) -> int:
    """What the VM's process holds of the node's memory when it runs."""
    return int(power.memory_bytes(vm) * BUSY_SHARE)


def uptime_s(world: World, vm: Vm) -> int:
    """Lab seconds since QEMU was started."""
    return max(1, int(world.clock.now() - vm.started_at)) if vm.is_running else 0


def vms_on(world: World, node: Node) -> Iterator[Vm]:
    """The VMs whose configuration is on a node."""
    return (vm for vm in world.vms.values() if vm.node == node.hostname)


def node_memory(world: World, node: Node) -> dict[str, int]:
    """The node's memory: what its VMs do not hold, less its own share, is free."""
    used = node.host_memory_bytes + sum(used_memory_bytes(vm) for vm in vms_on(world, node))
    free = max(0, node.memory_bytes - used)
    return {"total": node.memory_bytes, "used": node.memory_bytes - free, "free": free, "available": free}


def node_uptime_s(world: World, node: Node) -> int:
    """Lab seconds since the node booted."""
    return max(1, int(world.clock.now() - node.booted_at))


def node_cpu(world: World, node: Node) -> float:
    """The share of the node's processors in use."""
    return round(0.02 + 0.01 * sum(vm.is_running for vm in vms_on(world, node)), 4)
