"""What will be done, with what, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from homelab.errors import Problem
from homelab.models.facts import NodeFacts, Verdict, VmFacts
from homelab.models.k3s import K3sFacts
from homelab.models.past import CarriedOver, KnownImage
from homelab.settings import NodeConfig, Role


class Action(Enum):
    """What the plan does with a node's VM."""

    KEEP = "keep"
    CREATE = "create"
    START = "start"
    REPLACE = "replace"
    FINISH = "finish"
    NOTHING = "nothing"


class Rule(Enum):
    """The rule that decided about a VM that is down, or that a person named; the numbers are those of the RUNBOOK."""

    CHOICE = "rule 1: kept by choice"
    GRACE = "rule 1: the host has just come up"
    POWER_CUT = "rule 2: power cut"
    START = "rule 3: STOPPED_VM=start"
    PARKED = "rule 4: parked"
    FIRST_STRIKE = "rule 4: unattended, started first"
    SECOND_STRIKE = "rule 4: unattended, down again within 24 h"
    BY_HAND = "rule 5: by hand"
    HELD = "rule 6: once in 24 h"
    ASKED = "--replace"
    FORCED = "--force-replace"


@dataclass(frozen=True, slots=True)
class Size:
    """How large a VM is made."""

    cores: int
    memory_mib: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What will be done on one node and why.

    `problem` says what a person has to know: where nothing is done about it (KEEP, NOTHING) the run ends with exit
    code 3; with START the VM runs afterwards, which is the wanted state, and it stays with a warning. `more` are the
    further things that stand against making a VM.
    `may_replace` on START: a VM that will not run may be replaced. `size` is that of a VM to be made, once it is known.
    `note` is something else to be told about a VM that is kept.
    """

    facts: NodeFacts
    action: Action
    reason: str
    problem: Problem | None = None
    may_replace: bool = False
    role: Role = Role.AUTO
    rule: Rule | None = None
    size: Size | None = None
    note: str = ""
    more: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All that a person has to know."""
        return (self.problem, *self.more) if self.problem else ()

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

    @property
    def goes_on_replacing(self) -> bool:
        """Is it the rest of a replacement that an earlier run had begun? Making a VM again that never ran is none."""
        begun = self.facts.past.replacing
        return self.is_write and self.rule is None and begun is not None and not begun.is_unfinished

    @property
    def is_counted(self) -> bool:
        """Does it use up one of MAX_REPLACEMENTS? What a person names does not."""
        is_by_rule = self.action is Action.REPLACE and self.rule not in (None, Rule.ASKED, Rule.FORCED)
        return is_by_rule or self.goes_on_replacing

    @property
    def was_running(self) -> bool:
        """Is it the machine that was found running, and that nobody starts or makes in this run?"""
        return self.action in (Action.KEEP, Action.FINISH) and self.facts.vm is not None and self.facts.vm.is_running

    @property
    def ends_running(self) -> bool:
        """Does the VM run in the end, if all goes well? A VM that is left alone counts only while it runs."""
        return self.is_write or (self.action is Action.KEEP and not self.facts.is_down)

    def dropped(self, problem: Problem, *more: Problem) -> NodePlan:
        """The VM cannot be made: nothing is created; a VM that is down is started instead, one that runs is kept."""
        action = Action.NOTHING
        if self.action is Action.REPLACE and self.facts.is_down:
            action = Action.START
        elif self.facts.vm and self.facts.vm.is_running:
            action = Action.KEEP
        reason = "; ".join(map(str, (problem, *more)))
        return replace(self, action=action, reason=reason, problem=problem, more=more, may_replace=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a run, in the order of n. `others` are configured nodes that this run is not about."""

    nodes: tuple[NodePlan, ...]
    k3s: K3sFacts
    warnings: tuple[str, ...] = ()
    others: tuple[NodeFacts, ...] = ()

    @property
    def untouched(self) -> tuple[NodeFacts, ...]:
        """The nodes whose VM, if there is one, stays as it was observed."""
        return (*self.others, *(node.facts for node in self.nodes if node.action is Action.NOTHING))

    @property
    def writes(self) -> bool:
        """Is anything to be done, to a VM or to the cluster?

        A join counts even where it writes nothing to Proxmox: two machines are not to install k3s in one VM at once.
        """
        return any(node.is_write or self._joins(node) for node in self.nodes)

    def _joins(self, node: NodePlan) -> bool:
        """Probably not to a cluster that cannot be asked, and not where the VM is left alone."""
        return node.facts.verdict is Verdict.JOINING and node.ends_running and self.k3s.is_known


@dataclass(frozen=True, slots=True)
class ImageOnNode:
    """The verified cloud image as one node can use it.

    `source` is what import-from takes: a storage volume of content `import`, or an absolute path on the node,
    which only root over SSH may use (`needs_root`). `disk_bytes` is the size of the disk in it; 0: not known.
    `known` is what the VM's notes keep of it.
    """

    source: str
    needs_root: bool
    disk_bytes: int = 0
    known: KnownImage | None = None


@dataclass(frozen=True, slots=True)
class VmSpec:
    """A VM as it is to be made. `vmid` is 0 where one has yet to be found; `notes` are empty for the usual ones."""

    name: str
    node: str
    vmid: int
    cores: int
    memory_mib: int
    cpu_type: str
    bridges: tuple[str, ...]
    disk_storage: str
    disk_bytes: int
    ip_config: str
    notes: str = ""
    carried: CarriedOver | None = None


@dataclass(frozen=True, slots=True)
class RunningVm:
    """A node's VM that runs now. `has_agent` is False where it was made without what installs the guest agent."""

    vm: VmFacts
    is_new: bool = False
    has_agent: bool = True


class Status(Enum):
    """How one step for one node came out."""

    OK = "ok"
    CHANGED = "changed"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the report. A failed one has a cure."""

    node: str
    status: Status
    what: str
    why: str = ""
    cure: str = ""

    @staticmethod
    def failed(node: str, problem: Problem) -> Outcome:
        return Outcome(node, Status.FAILED, problem.what, problem.why, problem.cure)

    @staticmethod
    def noted(node: str, problem: Problem | None) -> tuple[Outcome, ...]:
        """What a node went on without, if there is such a thing."""
        return (Outcome(node, Status.SKIPPED, problem.what, problem.why, problem.cure),) if problem else ()
