"""Types that cross rooms: what Proxmox and k3s showed, what is planned, what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from homelab.errors import Problem
from homelab.settings import NodeConfig, Role

TAG = "homelab"
TAG_UNFINISHED = "homelab-unfinished"
TAG_KEEP = "homelab-keep"
TAG_SERVER = "homelab-server"
TAG_AGENT = "homelab-agent"
MEMBER_TAGS = frozenset({TAG_SERVER, TAG_AGENT})

MIB = 1024**2
GIB = 1024**3


class Wire(Enum):
    """How a node is spoken to."""

    API = "api"
    SSH = "ssh"


# --- what Proxmox showed -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the Proxmox cluster. Source: GET /cluster/status, entries of type node."""

    name: str
    address: str
    is_online: bool
    is_local: bool


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """Source: GET /cluster/status. A node outside any cluster counts as quorate."""

    members: tuple[Member, ...]
    is_quorate: bool


@dataclass(frozen=True, slots=True)
class HostStatus:
    """Source: GET /nodes/{node}/status. `memory_free_bytes` is what is available now."""

    uptime_s: int
    threads: int
    memory_total_bytes: int
    memory_free_bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class VmRow:
    """A guest in a list. `name` is empty where the list does not know it yet.

    Source: GET /cluster/resources?type=vm or GET /nodes/{node}/qemu.
    """

    vmid: int
    node: str
    name: str
    is_container: bool = False


@dataclass(frozen=True, slots=True)
class VmStatus:
    """Source: GET /nodes/{node}/qemu/{vmid}/status/current. `lock` is empty when there is none."""

    name: str
    status: str
    qmpstatus: str
    lock: str
    uptime_s: int
    is_ha_managed: bool
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Drive:
    """One disk line of a VM's config: `scsi0: STORE:VOLUME,key=value,...`."""

    key: str
    volume: str
    options: Mapping[str, str]

    @property
    def storage(self) -> str:
        return self.volume.partition(":")[0]

    @property
    def is_cdrom(self) -> bool:
        return self.options.get("media") == "cdrom"

    @property
    def is_cloud_init(self) -> bool:
        return self.is_cdrom and "cloudinit" in self.volume


DRIVE_KEY = re.compile(r"(?:scsi|virtio|sata|ide|efidisk|tpmstate|unused)\d+")
NET_KEY = re.compile(r"net\d+")
PASSTHROUGH_KEY = re.compile(r"(?:hostpci|usb|virtiofs)\d+|parallel\d+")


def property_string(text: str) -> dict[str, str]:
    """Split `first,key=value,...`; the part without a key gets the key ''."""
    parts = (part.partition("=") for part in text.split(",") if part)
    return {key if sep else "": value if sep else key for key, sep, value in parts}


@dataclass(frozen=True, slots=True)
class VmConfig:
    """A VM's config as Proxmox stores it. `digest` is empty where the wire does not show it.

    Source: GET /nodes/{node}/qemu/{vmid}/config.
    """

    values: Mapping[str, str]
    digest: str = ""

    @property
    def name(self) -> str:
        return self.values.get("name", "")

    @property
    def tags(self) -> frozenset[str]:
        return frozenset(tag for tag in re.split(r"[;, ]+", self.values.get("tags", "")) if tag)

    @property
    def uuid(self) -> str:
        """The smbios1 uuid, lower case: what the guest shows as its product_uuid."""
        return property_string(self.values.get("smbios1", "")).get("uuid", "").lower()

    @property
    def is_template(self) -> bool:
        return self.values.get("template", "0") == "1"

    @property
    def is_protected(self) -> bool:
        return self.values.get("protection", "0") == "1"

    @property
    def starts_on_boot(self) -> bool:
        return self.values.get("onboot", "0") == "1"

    @property
    def memory_mib(self) -> int:
        text = property_string(self.values.get("memory", "512"))
        return int(text.get("current", text.get("", "512")))

    @property
    def drives(self) -> tuple[Drive, ...]:
        found = []
        for key, text in sorted(self.values.items()):
            if DRIVE_KEY.fullmatch(key):
                options = property_string(text)
                found.append(Drive(key, options.pop("", options.pop("file", "")), options))
        return tuple(found)

    @property
    def boot_drives(self) -> tuple[str, ...]:
        """Keys of the drives the VM boots from, in order (`boot: order=scsi0;ide2`)."""
        order = property_string(self.values.get("boot", "")).get("order", "")
        return tuple(key for key in order.split(";") if key) or tuple(
            key for key in (self.values.get("bootdisk", ""),) if key
        )

    @property
    def macs(self) -> Mapping[str, str]:
        """MAC address (upper case) by NIC key, e.g. {"net0": "BC:24:11:00:00:01"}."""
        found = {}
        for key, text in self.values.items():
            if NET_KEY.fullmatch(key):
                match = re.search(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", text)
                if match:
                    found[key] = match[0].upper()
        return found


@dataclass(frozen=True, slots=True)
class StorageState:
    """A storage as one node sees it. Source: GET /nodes/{node}/storage."""

    name: str
    kind: str
    content: frozenset[str]
    is_active: bool
    is_enabled: bool
    is_shared: bool
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class VolumeRow:
    """Source: GET /nodes/{node}/storage/{storage}/content."""

    volume: str
    content: str
    size_bytes: int
    vmid: int | None


@dataclass(frozen=True, slots=True)
class BridgeState:
    """Source: GET /nodes/{node}/network?type=any_bridge."""

    name: str
    is_active: bool
    cidr: str


@dataclass(frozen=True, slots=True)
class TaskRow:
    """Source: GET /nodes/{node}/tasks. `exit_status` is empty while it runs; times in Unix seconds."""

    upid: str
    kind: str
    vmid: str
    user: str
    start_time: int
    end_time: int | None
    exit_status: str


# --- what k3s showed ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class K3sNode:
    """A Node object. Source: kubectl get nodes -o json."""

    name: str
    is_ready: bool
    system_uuid: str
    version: str
    is_server: bool
    is_etcd: bool
    is_etcd_voter: bool
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class K3sFacts:
    """The cluster as one of its servers sees it, or why it cannot be asked."""

    is_wanted: bool
    nodes: tuple[K3sNode, ...] = ()
    problem: Problem | None = None
    asked_at: str = ""

    @property
    def is_known(self) -> bool:
        return self.is_wanted and self.problem is None

    def node(self, name: str) -> K3sNode | None:
        return next((node for node in self.nodes if node.name == name), None)

    @property
    def voters(self) -> tuple[K3sNode, ...]:
        return tuple(node for node in self.nodes if node.is_etcd_voter)

    @property
    def healthy_voters(self) -> tuple[K3sNode, ...]:
        return tuple(node for node in self.voters if node.is_ready)


# --- what was observed and what follows --------------------------------------------------------------------------


class Verdict(Enum):
    """What a node's VM was found to be (design: verdicts)."""

    HEALTHY = "healthy"
    JOINING = "joining"
    STOPPED = "stopped"
    PAUSED = "paused"
    UNKNOWN = "unknown"
    UNFINISHED = "unfinished"
    ABSENT = "absent"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class VmFacts:
    """The VM found for a node. `node` is where it really is."""

    node: str
    vmid: int
    status: VmStatus
    config: VmConfig

    @property
    def is_running(self) -> bool:
        """Really running: a paused VM also has the status `running`, but another qmpstatus."""
        return self.status.status == self.status.qmpstatus == "running"

    @property
    def is_ours(self) -> bool:
        return TAG in self.config.tags or TAG_UNFINISHED in self.config.tags


@dataclass(frozen=True, slots=True)
class PowerHistory:
    """When the host and the VM last came up, in the host's own Unix time; None where it cannot be read."""

    host_uptime_s: int | None = None
    host_boot_time: int | None = None
    last_vm_start_time: int | None = None

    @property
    def host_booted_after_vm(self) -> bool:
        """Also when it cannot be told: then the VM is started before anything is deleted."""
        if self.host_boot_time is None or self.last_vm_start_time is None:
            return True
        return self.host_boot_time > self.last_vm_start_time


@dataclass(frozen=True, slots=True)
class Guard:
    """A reason not to delete a VM, and what would remove the reason. An absolute one is not lifted by force."""

    sentence: str
    cure: str
    is_absolute: bool = False


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One configured node as it was observed."""

    config: NodeConfig
    verdict: Verdict
    reason: str
    cure: str = ""
    vm: VmFacts | None = None
    power: PowerHistory = field(default_factory=PowerHistory)
    guards: tuple[Guard, ...] = ()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def is_down(self) -> bool:
        return self.verdict in (Verdict.STOPPED, Verdict.PAUSED)

    @property
    def found(self) -> VmFacts:
        """The VM, where the verdict says that there is one."""
        if self.vm is None:
            raise ValueError(f"{self.name} has no VM ({self.verdict.value})")
        return self.vm

    @property
    def vm_title(self) -> str:
        """How the report names the VM: `VM k3s-vm-pve1 (vmid=107)`."""
        return f"VM {self.config.vm_name} (vmid={self.vm.vmid})" if self.vm else f"VM {self.config.vm_name}"


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything observed before planning."""

    nodes: tuple[NodeFacts, ...]
    k3s: K3sFacts
    warnings: tuple[str, ...] = ()


class Action(Enum):
    """What the plan does with a node's VM."""

    KEEP = "keep"
    CREATE = "create"
    START = "start"
    REPLACE = "replace"
    FINISH = "finish"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What will be done on one node and why.

    `problem` says what a person has to know even if nothing fails (exit 3).
    `may_replace` on START: a VM that will not run may be replaced.
    """

    facts: NodeFacts
    action: Action
    reason: str
    problem: Problem | None = None
    may_replace: bool = False
    role: Role = Role.AUTO

    @property
    def config(self) -> NodeConfig:
        return self.facts.config

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def makes_vm(self) -> bool:
        return self.action in (Action.CREATE, Action.REPLACE)

    @property
    def is_write(self) -> bool:
        return self.action not in (Action.KEEP, Action.NOTHING)

    def dropped(self, problem: Problem) -> NodePlan:
        """The VM cannot be made: nothing is created, and a VM that is down is started instead of replaced."""
        action = Action.START if self.action is Action.REPLACE and self.facts.is_down else Action.NOTHING
        return replace(self, action=action, reason=str(problem), problem=problem, may_replace=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a run, in the order of n."""

    nodes: tuple[NodePlan, ...]
    k3s: K3sFacts
    warnings: tuple[str, ...] = ()

    def mapped(self, change: Callable[[NodePlan], NodePlan]) -> Plan:
        """The same plan with every node's part passed through `change`."""
        return replace(self, nodes=tuple(change(node) for node in self.nodes))


@dataclass(frozen=True, slots=True)
class ImageOnNode:
    """The verified cloud image as one node can use it.

    `source` is what import-from takes: a storage volume of content `import`, or an absolute path on the node,
    which only root over SSH may use (`needs_root`).
    """

    source: str
    needs_root: bool


@dataclass(frozen=True, slots=True)
class VmSpec:
    """A VM as it is to be made. `macs`, `kept` and `kept_tags` are carried over from the VM it replaces."""

    name: str
    vmid: int
    cores: int
    memory_mib: int
    cpu_type: str
    bridges: tuple[str, ...]
    disk_storage: str
    disk_bytes: int
    ip_config: str
    macs: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    kept_tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Machine:
    """A running VM that can be logged in to: where it is and how it is known."""

    node: str
    vmid: int
    name: str
    uuid: str
    address: str


class Members(Protocol):
    """What replacing a VM needs of the k3s cluster; K3sManager is the real one."""

    def check_replaceable(self, name: str) -> None:
        """Raise unless the replacement could join: token, CA, version at hand, a server answering."""
        ...

    def remove(self, name: str) -> None:
        """End the membership of a machine that is off: etcd member, Node, node-password secret."""
        ...


class Status(Enum):
    """How one step for one node came out."""

    OK = "ok"
    CHANGED = "changed"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the report. A failed one has a cure. `is_vm_running` says whether the node has its VM running."""

    node: str
    status: Status
    what: str
    why: str = ""
    cure: str = ""

    @staticmethod
    def failed(node: str, problem: Problem) -> Outcome:
        return Outcome(node, Status.FAILED, problem.what, problem.why, problem.cure)
