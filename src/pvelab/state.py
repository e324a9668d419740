"""What the lab holds in memory: one cluster, its nodes, storages, volumes, VMs, tasks and identities."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pvelab.clock import LabClock
    from pvelab.machine import Account, Command, GuestSide
    from pvelab.shell.contents import Content
    from pvelab.shell.entries import Folder
    from pvelab.shell.files import FileSystem

MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Profile:
    """The release of Proxmox VE that the cluster runs."""

    release: str = "9.2"
    version: str = "9.2.11"
    repoid: str = "14a22df3"
    qemu: str = "10.0.13"
    kernel: str = "6.17.4-2-pve"
    kernel_build: str = "#1 SMP PREEMPT_DYNAMIC PMX 6.17.4-2 (2026-01-12T09:00Z)"


@dataclass(slots=True)
class Timings:
    """How long things take, in lab seconds."""

    create_s: float = 3.0
    start_s: float = 2.0
    stop_s: float = 2.0
    destroy_s: float = 2.0
    resize_s: float = 1.0
    config_s: float = 1.0
    copy_s: float = 1.0
    download_s: float = 5.0
    acpi_s: float = 3.0
    import_bytes_per_s: float = 400.0 * MIB
    status_daemon_s: float = 10.0


@dataclass(slots=True)
class Interface:
    """One network interface of a node; a bridge when it has ports, even none of them ("none")."""

    name: str
    type: str = "bridge"
    cidr: str = ""
    gateway: str = ""
    ports: str = ""
    is_active: bool = True


@dataclass(slots=True, eq=False)
class Node:
    """A member of the cluster; it is also the Machine one reaches over SSH.

    `has_config`: its cluster file system is mounted; without it /etc/pve is empty.
    """

    hostname: str
    address: str
    clock: LabClock
    files: FileSystem
    nodeid: int = 1
    cpus: int = 4
    memory_bytes: int = 16 * GIB
    host_memory_bytes: int = 1 * GIB
    booted_at: float = 0.0
    clock_skew_s: float = 0.0
    is_up: bool = True
    down_since: float = 0.0
    has_config: bool = True
    api: Literal["answers", "refuses", "hangs"] = "answers"
    fingerprint: str = ""
    accounts: dict[str, Account] = field(default_factory=dict)
    commands: Mapping[str, Command] = field(default_factory=dict)
    interfaces: dict[str, Interface] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Storage:
    """One section of /etc/pve/storage.cfg; `possible` are the content types that its type has in the release."""

    name: str
    type: str
    path: str = ""
    content: tuple[str, ...] = ()
    possible: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()
    is_disabled: bool = False
    is_shared: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Capacity:
    """The room of a block storage (lvmthin, zfspool): its size, and what is taken by things the lab does not list.

    A storage in a folder is as big as the file system that holds the folder.
    """

    total_bytes: int = 100 * GIB
    other_bytes: int = 2 * GIB


@dataclass(slots=True, eq=False)
class Volume:
    """A disk image. A new disk is a new object, so whatever hangs on one goes with it.

    `origin` is the file that was imported into it, None for an empty disk.
    """

    storage: str
    name: str
    format: str
    size_bytes: int
    vmid: int
    created_at: float
    used_bytes: int = 0
    parent: str = ""
    is_base: bool = False
    origin: Content | None = None

    @property
    def volid(self) -> str:
        """STORAGE:NAME as it stands in a VM's configuration."""
        return f"{self.storage}:{self.name}"


@dataclass(slots=True)
class Snapshot:
    """A VM's configuration as it was, under a name."""

    name: str
    config: dict[str, str]
    created_at: float
    description: str = ""


@dataclass(slots=True)
class IpSet:
    """A named set of addresses of a VM's firewall, the newest entry first."""

    comment: str = ""
    entries: list[dict[str, str]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Vm:
    """One QEMU guest.

    `config` is what holds now; `pending` and `unplug` are changes that wait for the next start.
    `cloudinit_seed` is the cloud-init data (user, network, meta, vendor) as it was written to the drive.
    `was_running` is what the statistics still say for a while after `power_changed_at`.
    """

    vmid: int
    node: str
    config: dict[str, str]
    created_at: float
    pending: dict[str, str] = field(default_factory=dict)
    unplug: dict[str, bool] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    qmp: str = "stopped"
    pid: int = 0
    started_at: float = 0.0
    power_changed_at: float = 0.0
    was_running: bool = False
    cloudinit_seed: dict[str, str] = field(default_factory=dict)
    firewall_rules: list[dict[str, str]] = field(default_factory=list)
    firewall_options: dict[str, str] = field(default_factory=dict)
    firewall_aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    firewall_sets: dict[str, IpSet] = field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        """QEMU exists, whatever it is doing."""
        return self.qmp != "stopped"

    @property
    def name(self) -> str:
        """The configured name, or what Proxmox shows without one."""
        return self.config.get("name", f"VM {self.vmid}")


@dataclass(frozen=True, slots=True)
class Fate:
    """What a fault makes of a task: it fails with the text, or without one never ends."""

    failure: str = ""


@dataclass(slots=True, eq=False)
class Task:
    """A worker of a node: running until it has an exit status."""

    upid: str
    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str
    tokenid: str = ""
    log: list[str] = field(default_factory=list)
    interrupted: bool = False
    fate: Fate | None = None
    endtime: int | None = None
    exitstatus: str | None = None

    @property
    def is_running(self) -> bool:
        """Not finished yet."""
        return self.exitstatus is None


@dataclass(slots=True)
class User:
    """user@realm."""

    userid: str
    password: str | None = None
    is_enabled: bool = True


@dataclass(slots=True)
class Token:
    """user@realm!name with its secret; privilege-separated tokens need their own ACLs."""

    userid: str
    name: str
    secret: str
    is_separated: bool = True
    expire: int = 0

    @property
    def tokenid(self) -> str:
        """user@realm!name."""
        return f"{self.userid}!{self.name}"


@dataclass(frozen=True, slots=True)
class Acl:
    """A role given to a user, group or token on a path."""

    path: str
    identity: str
    role: str
    propagates: bool = True


@dataclass(slots=True)
class Pool:
    """A named group of VMs and storages."""

    poolid: str
    comment: str | None = None
    vmids: set[int] = field(default_factory=set)
    storages: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Action:
    """What happens to one request instead of, or after, its normal course.

    go-on: it is carried out. hang: no answer. answer: status and reason at once, nothing carried out. reset: the
    connection is cut before anything is carried out. reset-after: it is carried out, then the connection is cut.
    half: it is carried out, and half of the answer is all there is. altered: it is carried out, and the answer, a body
    of 200 or what a command prints, is what `alter` makes of it. drop: the connection is cut while it is carried
    out, with half of the first input or output on its way; it goes on without the client.
    `delay_s` passes first, in lab time; `fate` is that of the tasks it starts; `when_cut` is called just before the
    connection is cut.
    """

    kind: Literal["go-on", "hang", "answer", "reset", "reset-after", "half", "altered", "drop"] = "go-on"
    status: int = 0
    reason: str = ""
    delay_s: float = 0.0
    fate: Fate | None = None
    when_cut: Callable[[], None] = lambda: None
    alter: Callable[[bytes], bytes] = lambda answer: answer

    def altered(self, answer: bytes) -> bytes:
        """What there is of an answer."""
        return answer[: len(answer) // 2] if self.kind == "half" else self.alter(answer)


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One HTTP request as it was received and answered; status 0 when it was not."""

    node: str
    method: str
    path: str
    params: Mapping[str, str]
    status: int


@dataclass(slots=True)
class Hooks:
    """Where faults come in and where requests are written down."""

    intercept: Callable[[str, str, str, Mapping[str, str]], Action | None] = lambda *_: None
    record: Callable[[ApiRequest], None] = lambda _: None
    task_fault: Callable[[Task], str | None] = lambda _: None


@dataclass(slots=True, eq=False)
class World:
    """Everything. Touched on the lab's event loop only."""

    clock: LabClock
    folder: Path
    pve: FileSystem
    guests: GuestSide
    profile: Profile = field(default_factory=Profile)
    timings: Timings = field(default_factory=Timings)
    hooks: Hooks = field(default_factory=Hooks)
    random: random.Random = field(default_factory=lambda: random.Random(0))
    cluster_name: str = ""
    nodes: dict[str, Node] = field(default_factory=dict)
    capacities: dict[tuple[str, str], Capacity] = field(default_factory=dict)
    volumes: dict[tuple[str, str], dict[str, Volume]] = field(default_factory=dict)
    vms: dict[int, Vm] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    acls: set[Acl] = field(default_factory=set)
    roles: dict[str, frozenset[str]] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    """datacenter.cfg."""
    tickets: dict[str, str] = field(default_factory=dict)
    ha: dict[str, dict[str, str]] = field(default_factory=dict)
    backup_jobs: dict[str, dict[str, str]] = field(default_factory=dict)
    replications: dict[str, dict[str, str]] = field(default_factory=dict)
    shares: dict[str, Folder] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    offline_storages: set[str] = field(default_factory=set)
    is_split: bool = False
    """The members do not hear one another, though their APIs answer."""

    @property
    def is_quorate(self) -> bool:
        """More than half of the members are up, and hear one another."""
        heard = 1 if self.is_split else sum(node.is_up and node.has_config for node in self.nodes.values())
        return 2 * heard > len(self.nodes)
