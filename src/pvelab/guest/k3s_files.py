"""What k3s keeps on the disk of its machine, and what that says when it starts again."""

from __future__ import annotations

import json
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pvelab.guest.k3s_release import IMAGES, release_files
from pvelab.guest.k3s_settings import Settings

if TYPE_CHECKING:
    from pvelab.guest.k3s_cluster import Cluster
    from pvelab.shell.files import FileSystem

_ARCHIVES = (".tar", ".tar.gz", ".tar.lz4", ".tar.zst", ".tgz", ".tbz", ".tzst")
NODE_PASSWORD = "/etc/rancher/node/password"
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"


@dataclass(frozen=True, slots=True)
class K3sFiles:
    """The files of one k3s; every question is answered from the disk."""

    files: FileSystem
    data_dir: str

    @property
    def member_name_path(self) -> str:
        """Where the name of the etcd member is kept."""
        return f"{self.data_dir}/server/db/etcd/name"

    @property
    def has_etcd(self) -> bool:
        """Has this disk the data of an etcd member?"""
        return self.files.is_file(f"{self.data_dir}/server/db/etcd/member/snap/db")

    @property
    def has_sqlite(self) -> bool:
        """Has this disk an SQLite datastore?"""
        return self.files.is_file(f"{self.data_dir}/server/db/state.db")

    @property
    def has_certificate(self) -> bool:
        """Did this node join before, so that it can prove who it is without a token?"""
        return self.files.is_file(f"{self.data_dir}/agent/client-kubelet.crt")

    @property
    def server_ca(self) -> bytes:
        """The CA on a server's disk, empty if there is none."""
        path = f"{self.data_dir}/server/tls/server-ca.crt"
        return self.files.read(path) if self.files.is_file(path) else b""

    @property
    def known_servers(self) -> list[str]:
        """The servers that the agent's load balancer remembers, as URLs."""
        path = f"{self.data_dir}/agent/etc/k3s-agent-load-balancer.json"
        if not self.files.is_file(path):
            return []
        found: list[str] = [f"https://{address}" for address in json.loads(self.files.read(path))["ServerAddresses"]]
        return found

    def image_archives(self, version: str) -> list[tuple[str, bool]]:
        """What lies among the images to import, and whether it can be: the archive of this very release."""
        folder = f"{self.data_dir}/agent/images"
        names = self.files.names(folder) if self.files.is_folder(folder) else []
        archives = [f"{folder}/{name}" for name in names if name.endswith(_ARCHIVES)]
        return [(path, self.files.read(path) == release_files(version)[IMAGES]) for path in archives]

    def node_password(self) -> str:
        """The node's password, made when first asked for."""
        if not self.files.is_file(NODE_PASSWORD):
            self.files.provide(NODE_PASSWORD, f"{secrets.token_hex(16)}\n".encode(), mode=0o600)
        return self.files.read(NODE_PASSWORD).decode().strip()

    def member_name(self, node_name: str) -> str:
        """The name of this disk's etcd member, made when first asked for."""
        if not self.files.is_file(self.member_name_path):
            name = f"{node_name}-{uuid.uuid4().hex[:8]}"
            self.files.provide(self.member_name_path, name.encode(), mode=0o600)
        return self.files.read(self.member_name_path).decode().strip()

    def set_tombstoned_aside(self, now: float) -> bool:
        """Move etcd's data away if a tombstone lies there; True if so."""
        etcd = f"{self.data_dir}/server/db/etcd"
        if not self.files.is_file(f"{etcd}/tombstone"):
            return False
        self.files.rename(etcd, f"{etcd}-old-{int(now)}")
        return True

    def keep_server(self, cluster: Cluster, settings: Settings, kubeconfig: bytes) -> None:
        """Write what a server has once it belongs to a cluster."""
        server = f"{self.data_dir}/server"
        tokens = cluster.tokens
        database = f"{server}/db/etcd/member/snap/db" if cluster.has_etcd else f"{server}/db/state.db"
        self.files.provide(database, b"pvelab stand-in for a datastore\n", mode=0o600)
        self.files.provide(f"{server}/tls/server-ca.crt", cluster.ca_pem, mode=0o644)
        self.files.provide(f"{server}/token", f"{tokens.server_token}\n".encode(), mode=0o600)
        self._link(f"{server}/node-token", f"{server}/token")
        if tokens.agent_password:
            self.files.provide(f"{server}/agent-token", f"{tokens.agent_token}\n".encode(), mode=0o600)
        else:
            self._link(f"{server}/agent-token", f"{server}/token")
        for folder in (f"{self.data_dir}/server", f"{self.data_dir}/server/db"):
            self.files.change(folder, mode=0o700)
        self.files.provide(KUBECONFIG, kubeconfig, mode=settings.kubeconfig_mode)

    def keep_agent(self, cluster: Cluster) -> None:
        """Write what a node has once it got its configuration."""
        agent = f"{self.data_dir}/agent"
        self.files.provide(f"{agent}/client-kubelet.crt", b"pvelab stand-in for a certificate\n", mode=0o600)
        self.files.provide(f"{agent}/server-ca.crt", cluster.ca_pem, mode=0o644)
        addresses = [f"{address}:6443" for address in sorted(cluster.servers)]
        state = {"ServerURL": f"https://{addresses[0]}" if addresses else "", "ServerAddresses": addresses}
        self.files.provide(f"{agent}/etc/k3s-agent-load-balancer.json", json.dumps(state).encode(), mode=0o600)

    def _link(self, path: str, target: str) -> None:
        if not self.files.exists(path):
            self.files.make_link(path, target)
