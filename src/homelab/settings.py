"""What `.env` asks for, as types. Built by config.py, read everywhere."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from homelab.errors import Problem

ZONE_LABEL = "topology.kubernetes.io/zone"
"""Where a Node of k3s stands: here the Proxmox node that its VM is on."""


def is_address(text: str) -> bool:
    """Whether a host is written as an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Via(Enum):
    """Which wire to Proxmox: the API with fallback, only the API, only SSH."""

    AUTO = "auto"
    API = "api"
    SSH = "ssh"


class StoppedVm(Enum):
    """STOPPED_VM: what to do with a VM that is down."""

    REPLACE = "replace"
    START = "start"
    KEEP = "keep"


class Role(Enum):
    """K3S_ROLE_n: what a VM is in the cluster."""

    AUTO = "auto"
    SERVER = "server"
    AGENT = "agent"


class Secret:
    """Text that never shows: repr and str are `***`. No dataclass, since asdict() would take it apart."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class ApiToken:
    """API_TOKEN `user@realm!tokenid=secret`, in its parts."""

    user: str
    token_id: str
    secret: Secret


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One configured Proxmox node and the VM wanted on it. Source: the keys numbered n.

    `labels` are those of the VM's Node in the k3s cluster, beside its zone.
    """

    number: int
    name: str
    is_enabled: bool
    host: str | None
    api_port: int
    ssh_port: int
    fingerprint: str | None
    storage: str | None
    disk_storage: str
    image_storage: str | None
    cpu_ratio: float
    memory_ratio: float
    bridges: tuple[str, ...]
    vmid: int | None
    vm_name: str
    cores: int | None
    memory_mib: int | None
    disk_bytes: int
    ip_config: str
    role: Role
    labels: tuple[tuple[str, str], ...] = ()

    def key(self, name: str) -> str:
        """The `.env` key of this node: key("STORAGE") is STORAGE_2 for node 2."""
        return f"{name}_{self.number}"


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """How to speak to port 8006. `token` is None only with --via ssh."""

    token: ApiToken | None
    ca_bundle: Path | None


@dataclass(frozen=True, slots=True)
class SshConfig:
    """How to log in to Proxmox nodes, guests and existing k3s servers."""

    user: str
    key_path: Path | None
    known_hosts: Path | None
    guest_port: int


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """What every VM gets from cloud-init, whatever its node."""

    user: str
    password: Secret | None
    public_keys: str
    nameserver: str | None
    upgrades_packages: bool
    cpu_type: str
    start_timeout_s: float


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A publisher's OpenPGP key: the text of its file, and the fingerprint that it must have (upper-case digits)."""

    armored: str = field(repr=False)
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The cloud image. `sha256` None: looked up in a signed list of checksums, unless `is_unverified`.

    `sums_url` None: the list is the SHA256SUMS beside `url`. `signing_key` None: Ubuntu's signs it.
    """

    name: str
    url: str
    sha256: str | None
    is_unverified: bool
    sums_url: str | None = None
    signing_key: SigningKey | None = None


@dataclass(frozen=True, slots=True)
class K3sConfig:
    """The cluster to join. No `existing_servers`: no join is asked for.

    `server_url` is what members are told to join at, such as a VIP; None: the server that answers. `kubeconfigs` are
    files in which the right to ask the Kubernetes API may be. `is_airgapped`: k3s and its images are brought from here.
    """

    existing_servers: tuple[str, ...]
    version: str | None
    install_url: str
    artifact_url: str | None
    server_url: str | None = None
    kubeconfigs: tuple[Path, ...] = ()
    is_airgapped: bool = False

    @property
    def is_join_wanted(self) -> bool:
        return bool(self.existing_servers)


@dataclass(frozen=True, slots=True)
class Policy:
    """How far an unattended run may go."""

    stopped_vm: StoppedVm
    max_replacements: int
    max_parallel: int
    host_reserve_mib: int


@dataclass(frozen=True, slots=True)
class DroppedNode:
    """A node whose own keys are wrong; the others go on."""

    number: int
    name: str
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks of a run, in its own words: names of nodes or VMs."""

    nodes: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    forced: tuple[str, ...] = ()
    is_unattended: bool = False
    data_loss: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked of one run, by the number n of a node, since Proxmox may call the node otherwise than NODE_n.

    `only` None: all nodes are worked on. `forced` are some of `replaced`. `data_loss`: what is bound to the Nodes of
    these is given up, should their VMs be deleted.
    """

    is_unattended: bool = False
    only: frozenset[int] | None = None
    replaced: frozenset[int] = frozenset()
    forced: frozenset[int] = frozenset()
    data_loss: frozenset[int] = frozenset()

    def is_worked_on(self, number: int) -> bool:
        """Is node `number` one of those that this run is about?"""
        return self.only is None or number in self.only


@dataclass(frozen=True, slots=True)
class Config:
    """All that `.env` and the environment say, and what the command line asks of this run."""

    nodes: tuple[NodeConfig, ...]
    dropped: tuple[DroppedNode, ...]
    warnings: tuple[str, ...]
    node_domain: str
    fallback_addresses: tuple[str, ...]
    api_port: int
    ssh_port: int
    api: ApiConfig
    ssh: SshConfig
    guest: GuestConfig
    image: ImageConfig
    k3s: K3sConfig
    policy: Policy
    wishes: Wishes = Wishes()
