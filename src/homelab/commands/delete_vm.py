"""`scripts/delete_vm.py <node-name> <vmid>`: the manual override that deletes one VM."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from homelab import assembly, config, guards, preflight, vm_manager
from homelab.errors import ConfigError, ExitCode, HomelabError, NodeFailed, NotThere
from homelab.models import Guard, K3sFacts, Leaving, Ties, VmFacts
from homelab.report import Report
from homelab.runtime import Clock, SystemClock, ended_like_ctrl_c
from homelab.settings import Asked, NodeConfig, Via

NOT_THERE = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    node: str
    vmid: int
    is_confirmed: bool
    is_forced: bool
    env_file: Path | None
    via: Via
    data_loss: tuple[str, ...] = ()


def main(
    argv: Sequence[str] | None = None, *, clock: Clock | None = None, ask: Callable[[str], str] | None = None
) -> int:
    """Exit code: 0 deleted, 1 failed or refused, 2 usage or configuration, 3 not there, 4 locked, 130 interrupted."""
    try:
        options = parse_arguments(argv)
    except SystemExit as usage:
        return int(usage.code or 0)
    report = Report()
    try:
        settings = config.with_wishes(config.load(options.env_file, options.via), Asked(data_loss=options.data_loss))
        with ended_like_ctrl_c(), assembly.connect(settings, options.via, report, clock or SystemClock()) as homelab:
            return delete(homelab, report, options, ask)
    except ConfigError as error:
        return report.refuse(error)
    except HomelabError as error:
        return report.abort(error)
    except KeyboardInterrupt:
        report.warn("interrupted; run again to see what is left")
        return ExitCode.INTERRUPTED


def delete(homelab: assembly.Homelab, report: Report, options: Options, ask: Callable[[str], str] | None) -> int:
    """Find the VM, show it, ask, check the guards, delete it and see that it is gone."""
    node = _configured(homelab, options.node)
    preflight.refuse_another_machine(homelab.pve, node.name)
    homelab.vms.resume(homelab.marker.take, report.progress, report.warn)
    vm = _find(homelab, node, options.vmid)
    if vm is None:
        report.say(f"VM {options.vmid} is not there: nothing to delete")
        return NOT_THERE
    for line in description(vm):
        report.say(line)
    look = partial(_refuse_if_guarded, homelab, node, vm, is_forced=options.is_forced)
    cluster, ties = look()
    if not options.is_confirmed:
        if not _agreed(vm, ask):
            report.say("nothing was deleted")
            return ExitCode.FAILED
        cluster, ties = look()
    members: Leaving = homelab.k3s
    if options.is_forced and cluster.problem:
        report.warn(f"{cluster.problem}: its Node stays in the cluster; kubectl delete node {node.vm_name}")
        members = Nobody()

    def carry_out() -> None:
        if cluster.is_known and cluster.asked_node and cluster.asked_node.system_uuid == vm.config.uuid:
            homelab.k3s.keep_away_from(vm.config.name.lower())
        leaves_first = guards.must_leave_first(vm, cluster, ties)
        if leaves_first:
            report.warn(f"VM {vm.config.name} leaves etcd while it still runs: with it down the others have no quorum")
        vm_manager.delete_vm(homelab.pve, vm, members, look, leaves_first=leaves_first)
        report.say(f"VM {vm.config.name} (vmid={vm.vmid}) on {vm.node} is deleted{_afterwards(vm, node)}")

    interruption = homelab.journal.interruption
    interruption.see_through(carry_out, report.ending)
    return ExitCode.INTERRUPTED if interruption.is_wanted else ExitCode.OK


def _refuse_if_guarded(
    homelab: assembly.Homelab, node: NodeConfig, vm: VmFacts, *, is_forced: bool
) -> tuple[K3sFacts, Ties]:
    """The cluster as it is now. Raises NodeFailed with every reason against deleting the VM."""
    cluster: K3sFacts = homelab.k3s.observe()
    ties = homelab.k3s.ties(vm, cluster)
    found = homelab.health.reasons_against_deleting(vm, node.vm_name, cluster)
    found += () if vm.is_ours else (not_ours(vm),)
    if is_forced:
        found = (*guards.lifted_by_force(found), *guards.loss_guards(vm, cluster, ties))
    vm_manager.refuse_if_guarded(vm, found)
    return cluster, ties


def _afterwards(vm: VmFacts, node: NodeConfig) -> str:
    return "; a run of homelab makes it anew" if vm.config.name.lower() == node.vm_name else ""


class Nobody:
    """Stands in for the cluster when a person insists and it cannot be asked."""

    def parting(self, uuid: str, *, is_running: bool) -> AbstractContextManager[bool]:  # noqa: ARG002
        """Nothing can be prepared."""
        return nullcontext(False)

    def remove(self, name: str, uuid: str, *, is_off: bool = True) -> None:
        """Nothing can be taken out."""


def not_ours(vm: VmFacts) -> Guard:
    """An untagged VM may be anybody's."""
    return Guard(
        "it does not carry the tag homelab, so homelab did not make it",
        f"if it is the right VM ({vm.vmid}): add --force",
    )


def description(vm: VmFacts) -> list[str]:
    """What would be deleted, for a person to check."""
    disks = ", ".join(f"{drive.key}={drive.volume}" for drive in vm.config.drives if not drive.is_cdrom)
    return [
        f"VM {vm.config.name or '(no name)'}  vmid={vm.vmid}  node={vm.node}  {vm.status.qmpstatus}",
        f"  tags: {', '.join(sorted(vm.config.tags)) or 'none'}",
        f"  disks: {disks or 'none'}",
    ]


def _agreed(vm: VmFacts, ask: Callable[[str], str] | None) -> bool:
    if ask is None and (sys.stdin is None or not sys.stdin.isatty()):
        raise NodeFailed(
            f"VM {vm.config.name} (vmid={vm.vmid}) is not deleted",
            "there is no terminal to ask on",
            "add --yes to delete it without being asked",
        )
    try:
        answer = (ask or input)(f"Delete VM {vm.vmid} with its disks? Type its name to confirm: ")
    except EOFError:
        return False
    return answer.strip() == vm.config.name


def _configured(homelab: assembly.Homelab, name: str) -> NodeConfig:
    for node in homelab.config.nodes:
        if name in (node.name, node.host):
            return node
    names = ", ".join(node.name for node in homelab.config.nodes)
    raise NodeFailed(f"{name} is not a configured node", f"NODE_n names {names}", "use one of these names")


def _find(homelab: assembly.Homelab, node: NodeConfig, vmid: int) -> VmFacts | None:
    """The VM on this node; None only by Proxmox' own word that it is nowhere."""
    pve = homelab.pve
    row = next((row for row in pve.cluster_vms() if row.vmid == vmid), None)
    if row and (row.node != node.name or row.is_container):
        what = "a container" if row.is_container else f"on {row.node}, not on {node.name}"
        command = f"pct destroy {vmid}" if row.is_container else f"scripts/delete_vm.py {row.node} {vmid}"
        raise NodeFailed(f"{vmid} is {what}", "only the VM that was named is deleted", command)
    try:
        return VmFacts(node.name, vmid, pve.vm_status(node.name, vmid), pve.vm_config(node.name, vmid))
    except NotThere:
        return None


def parse_arguments(argv: Sequence[str] | None) -> Options:
    """Raises SystemExit as argparse does."""
    parser = argparse.ArgumentParser(
        prog="scripts/delete_vm.py",
        description="Delete one VM with its disks, after taking it out of the k3s cluster.",
        epilog="exit codes: 0 deleted, 1 failed or refused, 2 usage or configuration, 3 not there, "
        "4 another run is going on, 130 interrupted",
    )
    parser.add_argument("node", help="the node's name, as in NODE_n")
    parser.add_argument("vmid", type=int, help="the VM's number")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--force",
        action="store_true",
        help="also a VM with data disks, or not made by homelab; protection and locks stay",
    )
    parser.add_argument(
        "--allow-data-loss",
        action="append",
        default=[],
        metavar="NAME",
        help="give up the volumes of k3s that are on the VM of this name, or of this node",
    )
    parser.add_argument("--env", type=Path, metavar="FILE", help="read this file instead of .env")
    parser.add_argument("--via", choices=[via.value for via in Via], default=Via.AUTO.value, help="the wire to use")
    given = parser.parse_args(argv)
    return Options(
        given.node, given.vmid, given.yes, given.force, given.env, Via(given.via), tuple(given.allow_data_loss)
    )
