"""Ends the membership of machines that go away: theirs only, known by their uuid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from homelab.errors import NodeFailed, StillMember
from homelab.k3s_manager.readiness import PACE
from homelab.k3s_manager.server import K3sServer
from homelab.k3s_manager.servers import MUTE, Servers
from homelab.k3s_manager.ties import ghosts
from homelab.models import K3sFacts, K3sNode
from homelab.proxmox.client import Proxmox
from homelab.runtime import Clock, Wait, wait_for
from homelab.settings import Role

LEAVING_S = 120


@dataclass(frozen=True, slots=True)
class Leaving:
    """Takes machines out of the cluster, by whichever of its servers answers."""

    servers: Servers
    clock: Clock
    progress: Callable[[str], None]

    def remove(self, name: str, uuid: str, *, is_off: bool = True) -> None:
        """End the membership of the machine with this system UUID: etcd member, Node, node-password secret.

        A Node of the same name that is another machine's stays, and so does its secret. Raises StillMember if nothing
        was taken out, since the cluster cannot be asked or etcd cannot do without the machine now.
        """
        try:
            nodes = self.servers.nodes()
            own = nodes_of(uuid, nodes)
            for node in own:
                self._check_quorum(node, nodes, is_off=is_off)
        except MUTE as error:
            raise StillMember(error.what, error.why, error.cure) from error
        for node in own:
            self._remove_node(node)
        namesake = next((node for node in nodes if node.name == name and node.system_uuid != uuid), None)
        if namesake:
            self.progress(f"{name}: the Node of this name stays, it is another machine ({namesake.system_uuid})")
            return
        self.servers.ask(lambda server: server.delete_password(name))

    def _check_quorum(self, node: K3sNode, nodes: tuple[K3sNode, ...], *, is_off: bool) -> None:
        if not node.is_etcd_voter:
            return
        facts = K3sFacts(is_wanted=True, nodes=nodes)
        uncounted = len(ghosts(self.servers.ask(K3sServer.etcd_members), nodes))
        can_go = facts.can_let_go_of(node, ghosts=uncounted) or not is_off
        if not (can_go and facts.can_do_without(node, ghosts=uncounted)):
            healthy = ", ".join(voter.name for voter in facts.healthy_voters if voter != node) or "none"
            raise StillMember(
                f"{node.name} cannot be taken out of etcd now",
                f"the others would have no quorum: of {len(facts.voters) + uncounted} voters these are well: {healthy}",
                "bring the other servers to Ready: kubectl get nodes; then run again",
            )

    def _remove_node(self, node: K3sNode) -> None:
        self.progress(f"{node.name}: removing its Node from the cluster")
        self.servers.ask(lambda server: server.delete_node(node.name))
        if node.is_etcd:
            self._wait_until_no_member(node.name)
        self.servers.ask(lambda server: server.delete_password(node.name))

    def _wait_until_no_member(self, name: str) -> None:
        wait_for(
            lambda: self.servers.ask(K3sServer.etcd_members),
            lambda members: not any(member.node == name for member in members),
            Wait(
                f"{name}: its etcd member is still there",
                LEAVING_S,
                self.clock,
                "look at the members: curl -sk https://127.0.0.1:6443/db/info on a server",
                PACE,
            ),
        )


def nodes_of(uuid: str, nodes: Sequence[K3sNode]) -> list[K3sNode]:
    """The Nodes of the machine with this system UUID. Raises StillMember where that tells it from nobody."""
    own = [node for node in nodes if node.system_uuid == uuid]
    if own and not uuid:
        raise StillMember(
            "a machine without system UUID is not taken out of the cluster",
            f"these Nodes have none either, and any of them may be it: {', '.join(node.name for node in own)}",
            "look which one it is: kubectl get nodes -o wide; kubectl delete node it, and give the VM one: "
            "qm set VMID --smbios1 uuid=$(uuidgen)",
        )
    return own


def check_machine_is_gone(pve: Proxmox, node: K3sNode) -> None:
    """Raise NodeFailed unless no VM in Proxmox is the machine of this Node; what cannot be read is raised as it is."""
    if not pve.sees_all_vms():
        raise NodeFailed(
            f"the Node {node.name} of another machine is not Ready, and cannot be removed",
            "the token may not see all VMs, so its machine may be one of them",
            "give the token VM.Audit on /vms",
        )
    for row in pve.cluster_vms():
        if not row.is_container and pve.vm_config(row.node, row.vmid).uuid == node.system_uuid:
            raise NodeFailed(
                f"the Node {node.name} is that of another VM, which is still there",
                f"VM {row.vmid} on {row.node} has its system UUID {node.system_uuid}",
                f"start that VM and rename one of the two (VM_NAME_n), or scripts/delete_vm.py {row.node} {row.vmid}",
            )


def make_room(servers: Servers, name: str, role: Role, member: str = "") -> None:
    """See that a machine without Node can join under its name: no password of an earlier one, no member without Node.

    The password goes only where nobody has the name. Raises NodeFailed on a member of etcd that has no Node: it counts
    for the quorum and does not vote, and each further server makes that worse. `member` is the machine's own, where it
    is in etcd already.
    """
    nodes = servers.nodes()
    names = {node.name for node in nodes}
    if name not in names:
        servers.ask(lambda server: server.delete_password(name))
    if role is not Role.SERVER or not any(node.is_etcd for node in nodes):
        return
    if uncounted := [ghost for ghost in ghosts(servers.ask(K3sServer.etcd_members), nodes) if ghost != member]:
        raise NodeFailed(
            f"etcd has a member without a Node: {', '.join(uncounted)}",
            "a server of that name went away and was not taken out; another server would weaken the quorum",
            "if that machine is gone for good, remove the member with etcdctl on a server (RUNBOOK.md has the command)",
        )
