"""What was observed on the configured nodes, before anything is planned."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from homelab.models.k3s import K3sFacts
from homelab.models.past import Past
from homelab.models.proxmox import TAG, TAG_UNFINISHED, TaskRow, VmConfig, VmStatus
from homelab.settings import NodeConfig


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
    """The VM found for a node. `node` is where it really is, `pool` its resource pool if it was looked for."""

    node: str
    vmid: int
    status: VmStatus
    config: VmConfig
    pool: str = ""

    @property
    def is_running(self) -> bool:
        """Really running: a paused VM also has the status `running`, but another qmpstatus."""
        return self.status.status == self.status.qmpstatus == "running"

    @property
    def is_in_the_making(self) -> bool:
        """Is its only lock that of its creation by homelab? Without a running task, nobody goes on with that."""
        return self.status.lock == "create" and TAG_UNFINISHED in self.config.tags

    @property
    def is_ours(self) -> bool:
        return TAG in self.config.tags or TAG_UNFINISHED in self.config.tags


@dataclass(frozen=True, slots=True)
class PowerHistory:
    """When the host and the VM last came up, in the host's own Unix time; None where it cannot be read.

    `has_never_run`: it is on record that the VM was made, and no start since. `last_switching` is the newest finished
    task about the power of a VM that is off; one that was shut down from inside leaves none.
    """

    host_uptime_s: int | None = None
    host_boot_time: int | None = None
    last_vm_start_time: int | None = None
    has_never_run: bool = False
    last_switching: TaskRow | None = None

    @property
    def host_booted_after_vm(self) -> bool:
        """Also when it cannot be told: then the VM is started before anything is deleted."""
        if self.host_boot_time is None or self.last_vm_start_time is None:
            return True
        return self.host_boot_time > self.last_vm_start_time


@dataclass(frozen=True, slots=True)
class Guard:
    """A reason not to delete a VM, and what would remove the reason.

    An absolute one is never lifted by force; one that lies in the k3s cluster only where a person deletes by hand; and
    that data would be lost only by --allow-data-loss.
    """

    sentence: str
    cure: str
    is_absolute: bool = False
    is_of_k3s: bool = False
    is_data: bool = False


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One configured node as it was observed.

    `is_settled`: its VM is on this node, no task works on it, and the cluster has quorum; looked at only where the VM
    may be started or deleted.
    """

    config: NodeConfig
    verdict: Verdict
    reason: str
    cure: str = ""
    vm: VmFacts | None = None
    power: PowerHistory = field(default_factory=PowerHistory)
    guards: tuple[Guard, ...] = ()
    lifted: tuple[Guard, ...] = ()
    past: Past = field(default_factory=Past)
    is_settled: bool = False

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def is_leaving(self) -> bool:
        """Is this the machine that an earlier run had begun to replace?"""
        begun = self.past.leaving
        return begun is not None and self.vm is not None and begun.uuid == self.vm.config.uuid

    @property
    def is_down(self) -> bool:
        return self.verdict in (Verdict.STOPPED, Verdict.PAUSED)

    @property
    def is_first_boot_cut(self) -> bool:
        """Was a VM that is not finished off since it was first started? Its first boot may have come to no end."""
        if self.vm is None or self.verdict is not Verdict.UNFINISHED:
            return False
        made_at, host_booted_at = self.vm.config.created_at, self.power.host_boot_time
        if self.vm.status.status == "stopped":
            return self.power.last_vm_start_time is not None
        return made_at > 0 and host_booted_at is not None and host_booted_at > made_at

    @property
    def is_off(self) -> bool:
        """Does the VM not run, whatever its verdict? One that was never finished may not have run yet."""
        if self.vm is None or self.verdict is Verdict.UNFINISHED:
            return False
        return self.vm.status.status == "stopped" or self.vm.status.qmpstatus == "paused"

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
    """Everything observed before planning. `pools` are the ids of the resource pools that can be seen."""

    nodes: tuple[NodeFacts, ...]
    k3s: K3sFacts
    warnings: tuple[str, ...] = ()
    pools: frozenset[str] = frozenset()
