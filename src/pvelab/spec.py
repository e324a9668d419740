"""What a lab consists of: its nodes, their storages and bridges, the k3s server outside, and its pace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

PACE_TEST = 0.008
"""Real seconds per lab second in tests: a first boot of 25 s takes 0.2 s."""
PACE_DEMO = 0.12
"""Real seconds per lab second when somebody watches: a whole fresh run takes 10 to 20 s."""

PVE_VERSIONS = ("9.2", "8.4", "8.2")
GIB = 1 << 30
DAY_S = 86_400

IMAGE_BYTES = 7 * GIB // 2
"""The disk in the cloud image."""
IMAGE_NAME = "noble-server-cloudimg-amd64.img"
K3S_VERSION = "v1.33.5+k3s1"
K3S_RELEASES = ("v1.32.9+k3s1", K3S_VERSION, "v1.34.1+k3s1")
"""What the lab's release server offers: the existing cluster's version, an older and a newer one."""
MOST_SERVERS = 7
"""More k3s servers outside the lab does not make."""


class NoSuchVersion(ValueError):
    """A release of Proxmox VE that the lab does not emulate."""


class NoSuchNode(ValueError):
    """A name that is neither one of the lab's nodes nor one it can make up."""


@dataclass(frozen=True, slots=True)
class StorageSpec:
    """A storage as one node has it; storages of one name on several nodes are one entry of storage.cfg."""

    name: str
    type: str
    content: tuple[str, ...]
    size_bytes: int
    path: str = ""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A Proxmox node."""

    name: str
    cpus: int
    memory_mib: int
    storages: tuple[StorageSpec, ...]
    bridges: tuple[str, ...] = ("vmbr0",)
    storage: str = "local"
    disk_storage: str = ""
    cpu_ratio: float = 0.5
    memory_ratio: float = 0.5


LOCAL = StorageSpec(
    "local", "dir", ("iso", "vztmpl", "backup", "snippets", "import", "images"), 94 * GIB, path="/var/lib/vz"
)
LOCAL_LVM = StorageSpec("local-lvm", "lvmthin", ("images", "rootdir"), 340 * GIB)
LOCAL_ZFS = StorageSpec("local-zfs", "zfspool", ("images", "rootdir"), 460 * GIB)

PVE1 = NodeSpec("pve1", 4, 16_384, (LOCAL, LOCAL_LVM), ("vmbr0", "vmbr1"), disk_storage="local-lvm")
PVE2 = NodeSpec("pve2", 8, 32_768, (LOCAL, LOCAL_ZFS), disk_storage="local-zfs")
PVE3 = NodeSpec("pve3", 2, 8_192, (LOCAL,))
DEFAULT_NODES = (PVE1, PVE2, PVE3)

OLD_NODES = (
    NodeSpec("pve", 4, 16_384, (LOCAL, LOCAL_ZFS), ("vmbr0", "vmbr1"), disk_storage="local-zfs"),
    NodeSpec("fun-bedbug", 2, 8_192, (LOCAL, LOCAL_ZFS), disk_storage="local-zfs"),
)
"""The two nodes that the older script's example file names."""


@dataclass(frozen=True, slots=True)
class LabSpec:
    """A whole lab."""

    nodes: tuple[NodeSpec, ...] = DEFAULT_NODES
    cluster: str = "homelab"
    domain: str = "maas"
    pve_version: str = "9.2"
    host_uptime_s: float = 30 * DAY_S
    existing_server: str = "k3s-server"
    datastore: str = "etcd"
    k3s_version: str = K3S_VERSION
    image_name: str = IMAGE_NAME
    disk_size: str = "20G"

    def __post_init__(self) -> None:
        if self.pve_version not in PVE_VERSIONS:
            raise NoSuchVersion(f"no Proxmox VE {self.pve_version!r} here, only {', '.join(PVE_VERSIONS)}")

    @property
    def k3s_servers(self) -> tuple[str, ...]:
        """The names of k3s servers that are not ours, in the order of their addresses: k3s-server, k3s-server2..."""
        more = (f"{self.existing_server}{number}" for number in range(2, MOST_SERVERS + 1))
        return (self.existing_server, *more)

    def node(self, name: str) -> NodeSpec:
        """The node of that name. Raises NoSuchNode."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise NoSuchNode(f"no node {name!r} in this lab, only {', '.join(n.name for n in self.nodes)}")

    @property
    def storages(self) -> Mapping[str, tuple[StorageSpec, tuple[str, ...]]]:
        """Each storage with the nodes it is on."""
        found: dict[str, tuple[StorageSpec, tuple[str, ...]]] = {}
        for node in self.nodes:
            for storage in node.storages:
                first, nodes = found.get(storage.name, (storage, ()))
                found[storage.name] = (first, (*nodes, node.name))
        return found


def nodes_called(names: str) -> tuple[NodeSpec, ...]:
    """Nodes for a comma list of names, or for a number of nodes; unknown names get the shapes of pve1..pve3 in turn."""
    known = {node.name: node for node in (*DEFAULT_NODES, *OLD_NODES)}
    wanted = [f"pve{n}" for n in range(1, int(names) + 1)] if names.isdigit() else names.split(",")
    if not wanted or not all(wanted):
        raise NoSuchNode(f"--nodes {names!r}: give a number of nodes or their names with commas")
    return tuple(known.get(name) or _shaped(name, position) for position, name in enumerate(wanted))


def _shaped(name: str, position: int) -> NodeSpec:
    return replace(DEFAULT_NODES[position % len(DEFAULT_NODES)], name=name)
