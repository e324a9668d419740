"""Reads what ties a VM to the cluster beside its Node: data bound to it, and for servers what else counts in etcd."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from homelab.errors import HomelabError
from homelab.k3s_manager import data
from homelab.k3s_manager.answers import EtcdMember
from homelab.k3s_manager.server import K3sServer
from homelab.k3s_manager.servers import Servers
from homelab.models import MEMBER_TAGS, TAG_SERVER, K3sFacts, K3sNode, Ties, VmFacts


def read(servers: Servers, vm: VmFacts, k3s: K3sFacts) -> Ties:
    """Nothing is asked where the cluster cannot be, or where the VM never was a member."""
    name, uuid = vm.config.name.lower(), vm.config.uuid
    own = [node for node in k3s.nodes if node.system_uuid == uuid]
    is_member = bool(own) or bool(MEMBER_TAGS & vm.config.tags)
    if not k3s.is_known or not is_member:
        return Ties()
    names = [node.name for node in own]
    if not any(node.name == name for node in k3s.nodes):
        names.append(name)
    is_server = TAG_SERVER in vm.config.tags or any(node.is_server for node in own)
    has_etcd = any(node.is_etcd for node in k3s.nodes)
    return Ties(
        data=_data(servers, names, k3s.nodes),
        ghosts=_ghosts(servers, k3s.nodes) if is_server and has_etcd else (),
    )


def _data(servers: Servers, names: Sequence[str], nodes: Sequence[K3sNode]) -> tuple[str, ...] | None:
    labels = {node.name: node.labels for node in nodes}

    def look(server: K3sServer) -> tuple[str, ...]:
        volumes = data.parse_items(server.kubectl("get", "pv", "-o", "json").raw_stdout, server.where)
        found: list[str] = []
        for name in names:
            on_it = ("get", "pods", "-A", "--field-selector", f"spec.nodeName={name}", "-o", "json")
            found += data.bound_to(
                name, labels, volumes, data.parse_items(server.kubectl(*on_it).raw_stdout, server.where)
            )
        return tuple(dict.fromkeys(found))

    try:
        return servers.ask(look)
    except HomelabError:
        return None


def _ghosts(servers: Servers, nodes: Sequence[K3sNode]) -> tuple[str, ...] | None:
    try:
        return ghosts(servers.ask(K3sServer.etcd_members), nodes)
    except HomelabError:
        return None


def ghosts(members: Iterable[EtcdMember], nodes: Sequence[K3sNode]) -> tuple[str, ...]:
    """The voting members of etcd that no Node stands for, by their names; each Node stands for one."""
    free = {node.name for node in nodes if node.is_etcd}
    found = []
    for member in members:
        if member.node in free:
            free.remove(member.node)
        elif not member.is_learner:
            found.append(member.name)
    return tuple(found)
