"""Random clusters, what is in them, and what happens there: as plain data, from hypothesis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from hypothesis import strategies as st

from crash.points import Moment

NODES = ("pve1", "pve2", "pve3", "pve4")
FOREIGN_VMIDS = (102, 103, 104, 200, 9000)
SIMILAR_NAMES = ("k3s-vm-pve", "k3s-vm-pve10", "k3s-vm-pve1-old", "vm-pve2", "k3s-vm-pve3x", "web")


class Condition(Enum):
    """How a configured node's VM is found."""

    HEALTHY = "healthy"
    ABSENT = "absent"
    CRASHED = "crashed"
    STOPPED = "stopped by a person"
    PAUSED = "paused"
    UNFINISHED = "made, and never started"
    LOCKED = "locked and down"
    PROTECTED = "protected and down"
    TEMPLATE = "a template"
    SNAPSHOT = "with a snapshot, and down"
    DATA_DISK = "with a disk of its own, and down"
    UNTAGGED = "made by hand, and down"
    KEPT = "tagged homelab-keep, and down"
    MANAGED = "managed by HA, and down"
    IO_ERROR = "with an I/O error"


MAY_BE_DELETED = frozenset(
    {Condition.CRASHED, Condition.STOPPED, Condition.PAUSED, Condition.UNFINISHED, Condition.UNTAGGED}
)
"""Conditions in which a run may ever delete the VM; also those that get into one of these later."""
CHANGES_LATER = frozenset({Condition.HEALTHY, Condition.ABSENT}) | MAY_BE_DELETED


@dataclass(frozen=True, slots=True)
class Foreign:
    """A VM that is none of ours."""

    vmid: int
    name: str
    node: str
    is_running: bool
    tags: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the tool; killed at its `kill_at`th write if that is not 0, with a fault if that is not empty."""

    via: str
    is_cron: bool
    kill_at: int = 0
    moment: Moment = Moment.BEFORE
    fault: str = ""
    faulty: str = NODES[0]


@dataclass(frozen=True, slots=True)
class Reboot:
    """A host loses its power and gets it back."""

    node: str
    off_s: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Time passes."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Switch:
    """The VM of a node goes off: by a person's hand, or nobody's."""

    node: str
    is_by_person: bool


Step = Run | Reboot | Wait | Switch


@dataclass(frozen=True, slots=True)
class Setting:
    """A cluster of four nodes, of which the first `len(conditions)` are configured, and what happens in it."""

    conditions: tuple[Condition, ...]
    foreign: tuple[Foreign, ...]
    joins: bool
    steps: tuple[Step, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The configured nodes."""
        return NODES[: len(self.conditions)]

    @property
    def condition(self) -> Mapping[str, Condition]:
        """By node."""
        return dict(zip(self.nodes, self.conditions, strict=True))


# what the faults of single runs are, by a name; {node} is the node that is meant
FAULTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "api-down": ("api-down", {"node": "{node}"}),
    "ssh-refused": ("ssh-refused", {"node": "{node}"}),
    "bad-certificate": ("bad-certificate", {"node": "{node}"}),
    "node-down": ("node-down", {"node": "{node}"}),
    "bridge-missing": ("bridge-missing", {"node": "{node}"}),
    "no-quorum": ("no-quorum", {}),
    "create-fails": ("task-fails", {"kind": "qmcreate"}),
    "start-fails": ("task-fails", {"kind": "qmstart"}),
    "destroy-fails": ("task-fails", {"kind": "qmdestroy"}),
    "answers-lost": ("on", {"do": "reset-after", "times": "3", "node": "{node}"}),
    "errors": ("on", {"do": "error", "times": "3", "node": "{node}"}),
    "disk-full": ("on", {"do": "disk-full", "times": "1", "node": "{node}"}),
}

_vias = st.sampled_from(("api", "ssh", "auto"))
_nodes = st.sampled_from(NODES)
_plain_runs = st.builds(Run, _vias, st.booleans())
_killed_runs = st.builds(Run, _vias, st.booleans(), st.integers(1, 18), st.sampled_from(Moment))
_faulty_runs = st.builds(
    Run, _vias, st.booleans(), st.just(0), st.just(Moment.BEFORE), st.sampled_from(sorted(FAULTS)), _nodes
)
_runs = st.one_of(_killed_runs, _faulty_runs, _plain_runs)
_events = st.one_of(
    st.builds(Reboot, _nodes, st.sampled_from((30.0, 900.0))),
    st.builds(Wait, st.sampled_from((60.0, 900.0, 7200.0, 90_000.0))),
    st.builds(Switch, _nodes, st.booleans()),
)
_steps = st.lists(st.one_of(_runs, _runs, _events), min_size=1, max_size=4).map(tuple)
_calm = st.sampled_from((Condition.HEALTHY, Condition.HEALTHY, Condition.HEALTHY, Condition.ABSENT))
_conditions = st.tuples(st.lists(_calm, max_size=3), st.sampled_from(Condition), st.lists(_calm, max_size=3)).map(
    lambda parts: (*parts[0], parts[1], *parts[2])[:4]
)
"""One VM is in any condition, the others mostly well: with two down it would be a power cut."""
_foreign = st.lists(
    st.builds(
        Foreign,
        st.sampled_from(FOREIGN_VMIDS),
        st.sampled_from(SIMILAR_NAMES),
        _nodes,
        st.booleans(),
        st.sampled_from(("", "homelab", "web;prod")),
    ),
    max_size=2,
    unique_by=lambda one: one.vmid,
).map(tuple)


def settings_of_worlds() -> st.SearchStrategy[Setting]:
    """One in three worlds has a k3s cluster that VMs are to join."""
    return st.builds(Setting, _conditions, _foreign, st.sampled_from((True, False, False)), _steps)
