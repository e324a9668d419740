"""Reasons not to delete a VM: pure functions over what was read, each a sentence with its cure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from homelab.models import (
    MEMBER_TAGS,
    PASSTHROUGH_KEY,
    TAG,
    TAG_AGENT,
    TAG_SERVER,
    Drive,
    Guard,
    K3sFacts,
    K3sNode,
    Ties,
    VmConfig,
    VmFacts,
)

SYSTEM_DRIVES = ("efidisk", "tpmstate")
LEAST_VOTERS = 3
MOST_NAMED = 5
NO_TIES = Ties()
BRING_BACK = "bring the other servers to Ready: kubectl get nodes"


@dataclass(frozen=True, slots=True)
class Attachments:
    """What hangs on a VM beside its config. None: could not be read, which forbids deleting.

    `present` is the config without what waits for the next start: a disk that is to be detached then is destroyed now.
    """

    has_snapshots: bool | None = False
    firewall: tuple[str, ...] | None = ()
    acl_paths: tuple[str, ...] | None = ()
    replication_jobs: tuple[str, ...] | None = ()
    present: VmConfig | None = field(default_factory=lambda: VmConfig({}))


def proxmox_guards(vm: VmFacts, expected_name: str, attached: Attachments) -> tuple[Guard, ...]:
    """All reasons that Proxmox itself shows. Empty: nothing there speaks against deleting."""
    return (*_state_guards(vm, expected_name), *_config_guards(vm, attached.present), *_attachment_guards(vm, attached))


def _state_guards(vm: VmFacts, expected_name: str) -> Iterator[Guard]:
    if vm.config.is_template:
        yield Guard(
            "it is a template",
            f"rename the template, or set another VM_NAME_n: qm set {vm.vmid} --name ...",
            is_absolute=True,
        )
    if vm.config.is_protected:
        yield Guard("its protection is on", f"qm set {vm.vmid} --protection 0", is_absolute=True)
    if vm.status.lock and not vm.is_in_the_making:
        yield Guard(
            f"it is locked ({vm.status.lock})",
            f"wait for the {vm.status.lock} to end; if none is running: qm unlock {vm.vmid}",
            is_absolute=True,
        )
    if vm.status.is_ha_managed:
        yield Guard("it is managed by Proxmox HA", f"ha-manager remove vm:{vm.vmid}", is_absolute=True)
    if vm.config.name.lower() != expected_name:
        yield Guard(
            f"its name is {vm.config.name or '(none)'}, not {expected_name}",
            f"set VM_NAME_n to {vm.config.name or 'its name'} if it is the right VM",
        )


def _config_guards(vm: VmFacts, present: VmConfig | None) -> Iterator[Guard]:
    """Of the config with and without what waits for the next start: either may show what would be lost."""
    configs = (vm.config, present or VmConfig({}))
    volumes = {drive.volume: drive for config in configs for drive in data_drives(config)}
    for drive in volumes.values():
        yield Guard(
            f"it has the data disk {drive.key} ({drive.volume})",
            f"move it to another VM (qm disk move {vm.vmid} {drive.key} --target-vmid ...) or detach and remove it",
        )
    for key in sorted({key for config in configs for key, text in config.values.items() if _is_of_host(key, text)}):
        yield Guard(f"it uses host hardware ({key})", f"qm set {vm.vmid} --delete {key}, and add it again afterwards")


def _is_of_host(key: str, text: str) -> bool:
    """A device of the host; a serial port is mostly only a socket."""
    return bool(PASSTHROUGH_KEY.fullmatch(key)) or (key.startswith("serial") and text.startswith("/dev/"))


def data_drives(config: VmConfig) -> tuple[Drive, ...]:
    """Drives that are not the boot disk, a CD drive (cloud-init has one), EFI or TPM state."""
    disks = [drive for drive in config.drives if not drive.is_cdrom and not drive.key.startswith(SYSTEM_DRIVES)]
    boot = next((key for key in config.boot_drives if any(disk.key == key for disk in disks)), "")
    return tuple(disk for disk in disks if disk.key != boot)


def _attachment_guards(vm: VmFacts, attached: Attachments) -> Iterator[Guard]:
    vmid = vm.vmid
    if attached.present is None:
        yield _unread("present config", f"qm config {vmid} --current")
    if attached.has_snapshots is None:
        yield _unread("snapshots", f"qm listsnapshot {vmid}")
    elif attached.has_snapshots:
        yield Guard("it has snapshots", f"qm listsnapshot {vmid}, then qm delsnapshot {vmid} NAME")
    if attached.replication_jobs is None:
        yield _unread("replication jobs", "pvesr list")
    elif attached.replication_jobs:
        jobs = ", ".join(attached.replication_jobs)
        yield Guard(f"it is replicated ({jobs})", f"pvesr delete {attached.replication_jobs[0]}", is_absolute=True)
    if attached.firewall is None:
        yield _unread("firewall settings", f"cat /etc/pve/firewall/{vmid}.fw")
    elif attached.firewall:
        yield Guard(
            f"it has firewall settings of its own ({', '.join(attached.firewall)})",
            f"note them down and remove /etc/pve/firewall/{vmid}.fw",
        )
    if attached.acl_paths is None:
        yield _unread("permissions", "pveum acl list")
    elif attached.acl_paths:
        yield Guard(
            "permissions of its own are given on it",
            f"pveum acl list shows them for {attached.acl_paths[0]}; give them on a pool or on /vms instead",
        )


def _unread(what: str, command: str) -> Guard:
    return Guard(f"its {what} cannot be read", f"look at them with: {command}")


def k3s_guards(vm: VmFacts, k3s: K3sFacts, ties: Ties = NO_TIES, *, is_leaving: bool = False) -> tuple[Guard, ...]:
    """Reasons that lie in the cluster: membership unknown, somebody else's name, too few voters, data bound to it.

    `is_leaving`: an earlier run had begun to end its membership, which it would not have done against a reason.
    """
    return tuple(replace(guard, is_of_k3s=True) for guard in _k3s_guards(vm, k3s, ties, is_leaving=is_leaving))


def _k3s_guards(vm: VmFacts, k3s: K3sFacts, ties: Ties, *, is_leaving: bool) -> tuple[Guard, ...]:
    was_member = bool(MEMBER_TAGS & vm.config.tags)
    if not k3s.is_wanted:
        return (_member_without_join(),) if was_member else ()
    if k3s.problem:
        return (
            Guard(
                "k3s cannot be asked, and this VM is or may be a member",
                f"{k3s.problem.cure or 'make K3S_EXISTING_NODE_IP answer'}, then run again",
            ),
        )
    if is_leaving and vm.config.uuid not in {node.system_uuid for node in k3s.nodes}:
        return (*_namesake_guards(vm, k3s), *_quorum_guards(k3s))
    return (*_known_member_guards(vm, k3s, ties), *_data_guards(vm, ties))


def _data_guards(vm: VmFacts, ties: Ties) -> Iterator[Guard]:
    consent = f"--allow-data-loss {vm.config.name.lower()}"
    if ties.data is None:
        cure = f"look at it: kubectl get pv,pods -A -o wide; then run again, or {consent} whatever it is"
        yield Guard("what data is bound to its Node cannot be read", cure, is_data=True)
    elif ties.data:
        more = len(ties.data) - MOST_NAMED
        named = ", ".join(ties.data[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        cure = f"save it or move it to another Node (kubectl get pv -o wide); to give it up: {consent}"
        yield Guard(f"data that only this machine has would be lost: {named}", cure, is_data=True)


def _quorum_guards(k3s: K3sFacts) -> Iterator[Guard]:
    """Of a cluster that the machine has left."""
    healthy, voters = len(k3s.healthy_voters), len(k3s.voters)
    if voters and healthy <= voters // 2:
        yield Guard(
            f"etcd has lost its quorum without it ({healthy} of {voters} voters are healthy)",
            "bring the other servers to Ready: kubectl get nodes",
        )


def _member_without_join() -> Guard:
    return Guard(
        "it was joined to a k3s cluster, and K3S_EXISTING_NODE_IP is not set",
        "set K3S_EXISTING_NODE_IP so that its membership can be ended properly",
    )


def _known_member_guards(vm: VmFacts, k3s: K3sFacts, ties: Ties) -> Iterator[Guard]:
    name = vm.config.name.lower()
    node = k3s.node(name)
    yield from _namesake_guards(vm, k3s)
    yield from _holder_guards(vm, node, k3s)
    own = {node.name for node in k3s.nodes if node.name == name or node.system_uuid == vm.config.uuid}
    if TAG_SERVER in vm.config.tags or any(node.is_server for node in k3s.nodes if node.name in own):
        yield from _server_guards(own, k3s, ties)


def _namesake_guards(vm: VmFacts, k3s: K3sFacts) -> Iterator[Guard]:
    name = vm.config.name.lower()
    node = k3s.node(name)
    if node and node.is_ready and node.system_uuid != vm.config.uuid:
        yield Guard(
            f"another machine is a Ready member under the name {name}",
            f"kubectl get node {name} -o wide shows which; rename one of the two (VM_NAME_n)",
        )


def _holder_guards(vm: VmFacts, node: K3sNode | None, k3s: K3sFacts) -> Iterator[Guard]:
    """Without a server of K3S_EXISTING_NODE_IP nobody can join; a server that may be the only one counts as it."""
    if k3s.is_listed_beside(vm.config.uuid):
        return
    cure = "set K3S_EXISTING_NODE_IP to another Ready server, or add one to it"
    holder = k3s.asked_node
    if holder is None and (node.is_server if node else TAG_SERVER in vm.config.tags):
        yield Guard(
            f"it may hold K3S_EXISTING_NODE_IP ({k3s.asked_at}): no Node is known under that address",
            f"{cure}, by the address that kubectl get nodes -o wide shows",
        )
    elif holder and (holder == node or holder.system_uuid == vm.config.uuid):
        yield Guard(f"it holds K3S_EXISTING_NODE_IP ({k3s.asked_at}), where the token comes from", cure)


def _server_guards(own: set[str], k3s: K3sFacts, ties: Ties) -> Iterator[Guard]:
    """`own` are the names of the Nodes that are this machine or bear its name; without any it is no voter."""
    was_server = "it is or was a k3s server"
    healthy = {voter.name for voter in k3s.healthy_voters} | own
    if others_down := [node.name for node in k3s.nodes if node.is_etcd and node.name not in healthy]:
        names = ", ".join(others_down)
        yield Guard(
            f"{was_server}, and another member of etcd is not healthy, or has no vote yet ({names})", BRING_BACK
        )
    elif own and len(k3s.voters) < LEAST_VOTERS:
        yield Guard(
            f"{was_server}, and there are only {len(k3s.voters)} etcd voter(s) ({LEAST_VOTERS} are needed)",
            "it can only be started: to replace it, first make another node a server (K3S_ROLE_n=server)",
        )
    if ties.ghosts is None:
        yield Guard(
            f"{was_server}, and etcd's members cannot be read",
            "look at them on a server: sudo curl -sk https://127.0.0.1:6443/db/info; then run again",
        )
    elif ties.ghosts:
        yield Guard(
            f"{was_server}, and etcd counts a member that has no Node ({', '.join(ties.ghosts)})",
            "if its machine is gone for good, remove the member with etcdctl (RUNBOOK.md tells how), then run again",
        )


def loss_guards(vm: VmFacts, k3s: K3sFacts, ties: Ties = NO_TIES) -> tuple[Guard, ...]:
    """What even a person who insists does not go over: the cluster would be lost with this VM, or perhaps would be."""
    if k3s.problem and TAG_AGENT not in vm.config.tags:
        return (
            Guard(
                "k3s cannot be asked, and if this VM is a server of it, etcd may lose its quorum",
                f"make K3S_EXISTING_NODE_IP answer; if it is no server: qm set {vm.vmid} --tags '{TAG};{TAG_AGENT}'",
            ),
        )
    node = _own_server(vm, k3s)
    return tuple(_loss_guards(vm, node, k3s, len(ties.ghosts or ()))) if node else ()


def _own_server(vm: VmFacts, k3s: K3sFacts) -> K3sNode | None:
    """The Node of this very machine, if it is a server."""
    return next((node for node in k3s.nodes if node.is_server and node.system_uuid == vm.config.uuid), None)


def _loss_guards(vm: VmFacts, node: K3sNode, k3s: K3sFacts, ghosts: int) -> Iterator[Guard]:
    if not any(other.is_server and other.is_ready for other in k3s.nodes if other != node):
        yield Guard("it is the last Ready server of the k3s cluster", BRING_BACK)
    elif k3s.asked_node == node and not k3s.is_listed_beside(node.system_uuid):
        yield Guard(
            f"its own membership cannot be ended at K3S_EXISTING_NODE_IP ({k3s.asked_at}), which it holds",
            "set K3S_EXISTING_NODE_IP to another Ready server, or add one to it",
        )
    elif node.is_etcd_voter and not k3s.can_do_without(node, ghosts=ghosts):
        left = sum(voter != node for voter in k3s.healthy_voters)
        yield Guard(f"etcd would lose its quorum: only {left} of the voters that stay are healthy", BRING_BACK)
    elif node.is_etcd_voter and not k3s.can_let_go_of(node, ghosts=ghosts) and not (vm.is_running and node.is_ready):
        yield Guard("etcd has no quorum while it is down, so it cannot be taken out", f"start it: qm start {vm.vmid}")


def must_leave_first(vm: VmFacts, k3s: K3sFacts, ties: Ties = NO_TIES) -> bool:
    """Has it to leave etcd while it still runs, since those that stay are no majority with it down?"""
    node = _own_server(vm, k3s)
    if node is None or not node.is_etcd_voter:
        return False
    return not k3s.can_let_go_of(node, ghosts=len(ties.ghosts or ()))


def not_lifted_by_force(guards: tuple[Guard, ...]) -> tuple[Guard, ...]:
    """What is left when a person insists on a replacement: template, protection, lock, and what k3s says."""
    return tuple(guard for guard in guards if guard.is_absolute or guard.is_of_k3s)


def lifted_by_force(guards: tuple[Guard, ...]) -> tuple[Guard, ...]:
    """What is left when a person insists on deleting by hand: template, protection, lock, data; see loss_guards."""
    return tuple(guard for guard in guards if guard.is_absolute or guard.is_data)


def not_lifted_by_consent(guards: tuple[Guard, ...]) -> tuple[Guard, ...]:
    """What is left when a person gives up the data that is bound to the VM's Node."""
    return tuple(guard for guard in guards if not guard.is_data)
