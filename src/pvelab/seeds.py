"""Worlds to start from, each built by the cluster's own rules as an ordinary admin would have built it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pvelab.admin import Admin
from pvelab.catalogue import Catalogue, UnknownChoice
from pvelab.k3s_servers import K3sServers, install_server, set_up
from pvelab.rules import configs, power
from pvelab.spec import DAY_S, OLD_NODES, LabSpec, NodeSpec

if TYPE_CHECKING:
    from pvelab.site import Site
    from pvelab.state import Vm

SEEDS = Catalogue("seed")
VOTERS = 3
"""So many servers a healthy cluster has, those outside counted; VMs on further nodes are agents."""
ONE_OUTSIDE = K3sServers()
BUILT_BEFORE_S = 3 * DAY_S
UNKNOWN_STATES = ("io-error", "internal-error", "guest-panicked", "prelaunch")


def spec_for(seed: str, wanted: LabSpec) -> LabSpec:
    """The lab that a seed is made for: the one that is wanted, if need be with other nodes."""
    return replace(wanted, nodes=OLD_NODES) if seed == "old-env" else wanted


@dataclass(frozen=True, slots=True)
class Healthy(K3sServers):
    """The options of `healthy`; `without`: nodes that get no VM, with + between."""

    without: str = ""


ON_EVERY_NODE = Healthy()


@SEEDS.add("fresh", plan=K3sServers)
async def fresh(site: Site, plan: K3sServers = ONE_OUTSIDE) -> None:
    """No VM of ours yet; so many k3s servers are up, outside of Proxmox or (where=vm) in VMs of somebody else.

    datastore: etcd or sqlite; flags: lines of each server's config.yaml, name=value with + between; vip: named or
    unnamed, an address (127.X.3.100) before the servers that is in their certificates or not.
    """
    await set_up(site, plan)


@SEEDS.add("old-env")
async def old_env(site: Site) -> None:
    """Like fresh, on the two nodes that the older script's example file names: pve and fun-bedbug."""
    await fresh(site)


@SEEDS.add("healthy", plan=Healthy)
async def healthy(site: Site, plan: Healthy = ON_EVERY_NODE) -> None:
    """Every node has its VM, each a Ready member: servers up to three voters in all, the others agents.

    without: nodes with no VM, + between them; the k3s servers that were there before as for fresh.
    """
    left_out = plan.without.split("+") if plan.without else []
    for name in left_out:
        site.spec.node(name)
    await set_up(site, plan)
    await _build(site, [node for node in site.spec.nodes if node.name not in left_out])


@SEEDS.add("self-founded")
async def self_founded(site: Site, servers: int = VOTERS) -> None:
    """Healthy without any server that is not ours: the VM of the first node founded the cluster, with etcd."""
    admin = Admin(site)
    vms = [await _running_vm(site, node) for node in site.spec.nodes]
    founder = site.guests.machine_in(vms[0])
    await install_server(site, founder, replace(site.outside_server(1), datastore="etcd"))
    site.k3s_machines += [vm.name for vm in vms[:servers]]
    for position, vm in enumerate(vms[1:], start=1):
        await admin.join(vm, "server" if position < servers else "agent")
    await admin.wait_for_pods()


@SEEDS.add("unjoined", plan=K3sServers)
async def unjoined(site: Site, plan: K3sServers = ONE_OUTSIDE) -> None:
    """As fresh, but the VM of the last node is made and has booted; nobody has installed k3s in it yet."""
    await set_up(site, plan)
    await _running_vm(site, site.spec.nodes[-1])


@SEEDS.add("stopped")
async def stopped(site: Site, by: str = "crash") -> None:
    """Healthy, then the agent VM went off: by=crash (nobody did it) or by=stop (a person's qm stop)."""
    await healthy(site)
    await _turn_off(site, _agent_vm(site), by)


@SEEDS.add("stopped-server")
async def stopped_server(site: Site, by: str = "crash") -> None:
    """Healthy, then the VM of the first node, a k3s server, went off."""
    await healthy(site)
    await _turn_off(site, _vms(site)[0], by)


@SEEDS.add("paused")
async def paused(site: Site) -> None:
    """Healthy, then somebody suspended the agent VM: status running, qmpstatus paused."""
    await healthy(site)
    vm = _agent_vm(site)
    await Admin(site).task("POST", f"/nodes/{vm.node}/qemu/{vm.vmid}/status/suspend")
    await Admin(site).wait(60.0)


@SEEDS.add("power-cut")
async def power_cut(site: Site, host_uptime_s: float = 1200.0) -> None:
    """Healthy, then the power failed: the hosts are up again for host_uptime_s, their VMs are not."""
    await healthy(site)
    for vm in _vms(site):
        power.switch_off(site.world, vm)
    for node in site.world.nodes.values():
        node.booted_at = site.present() - host_uptime_s
    await Admin(site).wait(120.0)


@SEEDS.add("unknown")
async def unknown(site: Site, state: str = "io-error", lock: str = "") -> None:
    """Healthy, but the agent VM is in a QEMU state one cannot judge, or locked: lock=backup and the like."""
    await healthy(site)
    vm = _agent_vm(site)
    if lock:
        vm.config["lock"] = lock
        configs.save(site.world, vm)
        return
    if state not in UNKNOWN_STATES:
        raise UnknownChoice(f"state={state}: give {', '.join(UNKNOWN_STATES)}")
    site.world.guests.pause(vm)
    vm.qmp = state
    await Admin(site).wait(60.0)


@SEEDS.add("half-built")
async def half_built(site: Site) -> None:
    """Healthy but for the agent VM: made, tagged homelab-unfinished, its disk not grown, never started."""
    nodes = site.spec.nodes
    await set_up(site, ONE_OUTSIDE)
    await _build(site, nodes[:-1])
    await Admin(site).create_vm(nodes[-1], tags="homelab;homelab-unfinished")


async def _build(site: Site, nodes: Sequence[NodeSpec]) -> None:
    admin = Admin(site)
    vms = [await admin.create_vm(node, tags="homelab") for node in nodes]
    for vm in vms:
        await admin.grow_and_start(vm)
    for vm in vms:
        await admin.wait_for_boot(vm)
    has_etcd = site.first_cluster().has_etcd
    wanted = VOTERS - len(site.k3s_machines) if has_etcd else 0
    for position, vm in enumerate(vms):
        await admin.join(vm, "server" if position < wanted else "agent")


async def _running_vm(site: Site, node: NodeSpec) -> Vm:
    admin = Admin(site)
    vm = await admin.create_vm(node, tags="homelab")
    await admin.grow_and_start(vm)
    await admin.wait_for_boot(vm)
    return vm


async def _turn_off(site: Site, vm: Vm, by: str) -> None:
    if by == "stop":
        await Admin(site).task("POST", f"/nodes/{vm.node}/qemu/{vm.vmid}/status/stop")
    elif by == "crash":
        power.switch_off(site.world, vm)
    else:
        raise UnknownChoice(f"by={by}: give crash or stop")
    await Admin(site).wait(120.0)


def _vms(site: Site) -> list[Vm]:
    return [site.world.vms[vmid] for vmid in sorted(site.world.vms)]


def _agent_vm(site: Site) -> Vm:
    return _vms(site)[-1]
