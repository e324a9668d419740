"""Ends the membership of machines that go away: theirs only, known by their uuid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from homelab.k3s_manager.readiness import PACE
from homelab.k3s_manager.server import K3sServer
from homelab.models import K3sNode
from homelab.runtime import Clock, wait_for


@dataclass(frozen=True, slots=True)
class Leaving:
    """Takes machines out of the cluster that one of its servers speaks for."""

    server: K3sServer
    clock: Clock
    progress: Callable[[str], None]

    def remove(self, name: str, uuid: str) -> None:
        """End the membership of the machine with this system UUID: etcd member, Node, node-password secret.

        A Node of the same name that is another machine's stays, and so does its secret.
        """
        nodes = self.server.nodes()
        for node in nodes:
            if node.system_uuid == uuid:
                self._remove_node(node)
        namesake = next((node for node in nodes if node.name == name and node.system_uuid != uuid), None)
        if namesake:
            self.progress(f"{name}: the Node of this name stays, it is another machine ({namesake.system_uuid})")
            return
        self.server.delete_password(name)

    def _remove_node(self, node: K3sNode) -> None:
        self.progress(f"{node.name}: removing its Node from the cluster")
        self.server.delete_node(node.name)
        if node.is_etcd:
            self._wait_until_no_member(node.name)
        self.server.delete_password(node.name)

    def _wait_until_no_member(self, name: str) -> None:
        wait_for(
            self.server.etcd_members,
            lambda members: not any(member.rpartition("-")[0] == name for member in members),
            clock=self.clock,
            timeout_s=120,
            what=f"{name}: its etcd member is still there",
            cure="look at the members: curl -sk https://127.0.0.1:6443/db/info on a server",
            pace=PACE,
        )
