"""What is decided when something changes between two looks: the mark of a run, and the name of a VM."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from homelab.errors import Locked, NotThere, Refused
from homelab.memory import Journal
from homelab.models import TaskRow, VmConfig, VmRow
from homelab.proxmox.client import Proxmox
from homelab.run_marker import RunMarker
from homelab.vm_manager.creating import refuse_if_made
from support.clock import SteppingClock
from unit.builders import SPEC


@dataclass
class Pools:
    """The pool is made by somebody else just before we make it."""

    comments: list[str | None] = field(default_factory=list)

    def pool_comment(self, _pool: str) -> str | None:
        return self.comments.pop(0)

    def create_pool(self, pool: str, _comment: str) -> None:
        raise Refused("POST /pools", f"create pool failed: pool '{pool}' already exists", status=500)


@pytest.mark.parametrize("seen", ["homelab: run of laptop-1 until 2100-01-01T00:00:00Z", None])
def test_mark_that_another_run_makes_at_the_same_moment_is_theirs(tmp_path: Path, seen: str | None) -> None:
    clock = SteppingClock()
    pve = cast(Proxmox, Pools([None, seen]))
    marker = RunMarker(pve, clock, "desk-2", pytest.fail, Journal(tmp_path / "journal.jsonl", clock))

    with pytest.raises(Locked, match="from another machine"):
        marker.take()


NEW_VM = replace(SPEC, vmid=0)


class Vms:
    """The cluster's list shows a VM without a name, which has gone by now."""

    def vms(self, _node: str) -> tuple[VmRow, ...]:
        return ()

    def cluster_vms(self) -> tuple[VmRow, ...]:
        return (VmRow(900, "pve2", ""),)

    def vm_config(self, _node: str, _vmid: int) -> VmConfig:
        raise NotThere("GET", "Configuration file does not exist", status=500)

    def tasks(self, _node: str, *, is_active: bool) -> tuple[TaskRow, ...]:
        assert is_active
        return ()


def test_vm_that_has_gone_by_now_has_no_name_that_could_be_in_the_way() -> None:
    refuse_if_made(cast(Proxmox, Vms()), NEW_VM)
