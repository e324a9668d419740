"""Worlds to start from, each built by the cluster's own rules as an ordinary admin would have built it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pvelab.admin import Admin
from pvelab.catalogue import Catalogue, UnknownChoice
from pvelab.rules import configs, power
from pvelab.spec import DAY_S, OLD_NODES, LabSpec, NodeSpec

if TYPE_CHECKING:
    from pvelab.site import Site
    from pvelab.state import Vm

SEEDS = Catalogue("seed")
SERVERS_IN_VMS = 2
"""With the server outside they make three voters; VMs on further nodes are agents."""
BUILT_BEFORE_S = 3 * DAY_S
UNKNOWN_STATES = ("io-error", "internal-error", "guest-panicked", "prelaunch")


def spec_for(seed: str, wanted: LabSpec) -> LabSpec:
    """The lab that a seed is made for: the one that is wanted, if need be with other nodes."""
    return replace(wanted, nodes=OLD_NODES) if seed == "old-env" else wanted


@SEEDS.add("fresh")
async def fresh(_site: Site) -> None:
    """No VM yet; only the k3s server outside the cluster is up."""


@SEEDS.add("old-env")
async def old_env(_site: Site) -> None:
    """Like fresh, on the two nodes that the older script's example file names: pve and fun-bedbug."""


@SEEDS.add("healthy")
async def healthy(site: Site, without: str = "") -> None:
    """Every node has its VM, each a Ready member: two servers, the others agents. `without`: nodes with no VM."""
    left_out = without.split("+") if without else []
    for name in left_out:
        site.spec.node(name)
    await _build(site, [node for node in site.spec.nodes if node.name not in left_out])


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
    await _build(site, nodes[:-1])
    await Admin(site).create_vm(nodes[-1], tags="homelab;homelab-unfinished")


async def _build(site: Site, nodes: Sequence[NodeSpec]) -> None:
    admin = Admin(site)
    vms = [await admin.create_vm(node, tags="homelab") for node in nodes]
    for vm in vms:
        await admin.grow_and_start(vm)
    for vm in vms:
        await admin.wait_for_boot(vm)
    for position, vm in enumerate(vms):
        await admin.join(vm, "server" if position < SERVERS_IN_VMS else "agent")


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
