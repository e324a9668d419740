"""The stories of `scripts/demo`, as what a person begins with, does, and does again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crash.arena import Arena
from crash.processes import Ended

WIRES = ("api", "ssh")
AGENT_NODE, AGENT_VMID = "pve3", "102"


@dataclass(frozen=True, slots=True)
class Story:
    """A seed, what is broken while the first run goes on, what is done, and the exit code of doing it again.

    `keeps_macs`: the VM that is replaced has been running, so its MAC addresses are to be kept.
    """

    name: str
    seed: str
    options: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, str | None] = field(default_factory=dict)
    faults: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    is_deletion: bool = False
    ends_in: tuple[int, ...] = (0,)
    keeps_macs: bool = True

    def begin(self, arena: Arena) -> None:
        """The world before the first run."""
        arena.begin(self.seed, self.options)
        for name, options in self.faults:
            arena.lab.fault(name, **options)

    def run(self, arena: Arena, via: str) -> Ended:
        """What the person does."""
        if self.is_deletion:
            return arena.delete(AGENT_NODE, AGENT_VMID, "--yes", "--via", via, **self.settings)
        return arena.homelab("--via", via, **self.settings)


def _fault(name: str, **options: object) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    return ((name, options),)


_ALL = (
    Story("stuck", "stopped"),
    Story("stuck-server", "stopped-server"),
    Story("fresh", "fresh"),
    Story("paused", "paused"),
    Story("power-cut", "power-cut"),
    Story("new-node", "healthy", {"without": "pve3"}),
    Story("half-built", "half-built", keeps_macs=False),
    Story("delete", "healthy", is_deletion=True, ends_in=(0, 3)),
    Story("join-fails", "fresh", faults=_fault("join-fails", how="token-unreadable")),
    Story("no-join", "fresh", settings={"K3S_EXISTING_NODE_IP": None}),
    Story("bridge-missing", "fresh", faults=_fault("bridge-missing", node="pve3")),
    Story("node-down", "fresh", faults=_fault("node-down", node="pve3")),
    Story("node-join-fails", "fresh", faults=_fault("join-fails", how="k3s-crash", vm="k3s-vm-pve3")),
)
STORIES = {story.name: story for story in _ALL}
