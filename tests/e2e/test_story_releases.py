"""Stories of every supported release: VMs on a directory, on LVM-thin and on ZFS, over both wires.

Over the API they run with the token that the README has made, so that it may no less than they need.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from e2e.conftest import Homelab
from e2e.world import ALL_MEMBERS, power_off, ready_members, uuid_of, vm_on
from homelab.preflight import granting, privileges
from homelab.preflight.privileges import Wanted
from pvelab.answers import Who
from pvelab.lab import Lab
from pvelab.rules import permissions
from pvelab.spec import LabSpec
from pvelab.state import World
from support.clock import SteppingClock
from support.request_check import request_findings
from support.tracing import threads_unwatched

README = Path(__file__).parents[2] / "README.md"
ROOT_IMPORTS = "8.2"
"""The release in which no storage has images that the API imports, so that root makes the VMs over SSH."""
OWNER = "homelab@pve"
WANTED = Wanted("pve3", "k3s-vm-pve3", 0, "local", "local", ("vmbr0",))
DISKS = {"pve1": "local-lvm:vm-100-disk-0", "pve2": "local-zfs:vm-101-disk-0", "pve3": "local:102/vm-102-disk-0."}
ONLY_PVE3 = {"NODE_ENABLED_1": "0", "NODE_ENABLED_2": "0"}


@dataclass
class Asked:
    """What Proxmox asked of a user's privileges: each question as the privileges of which one would have done."""

    questions: set[frozenset[str]] = field(default_factory=set)

    def listen(self, patch: pytest.MonkeyPatch, user: str) -> None:
        may, must = permissions.has_any, permissions.require

        def has_any(world: World, who: Who, path: str, names: Collection[str]) -> bool:
            if who.user == user:
                self.questions.add(frozenset(names))
            return may(world, who, path, names)

        def require(world: World, who: Who, path: str, *names: str) -> None:
            if who.user == user:
                self.questions |= {frozenset({name}) for name in names}
            must(world, who, path, *names)

        patch.setattr(permissions, "has_any", has_any)
        patch.setattr(permissions, "require", require)

    def superfluous(self, held: Collection[str]) -> set[str]:
        """What is held and was never what a question hung on."""
        decisive = [question & set(held) for question in self.questions]
        return set(held) - {name for left in decisive if len(left) == 1 for name in left}


def recipe(release: str) -> list[str]:
    """The commands of the README for a release, for a cluster that has disks on local-lvm, too."""
    section = README.read_text().partition("### A token that may no more than it needs")[2].partition("\n### ")[0]
    since_9, before_9, *rest = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    assert len(rest) == 1
    lines = [*(since_9 if release.startswith("9") else before_9).splitlines(), *rest[0].splitlines()]
    more = [line.replace("local-zfs", "local-lvm") for line in lines if "/storage/local-zfs" in line]
    return [*lines[:-1], *more, lines[-1]]


def roles_in(lines: Sequence[str]) -> dict[str, list[str]]:
    """The privileges of each role that the commands make."""
    words = [shlex.split(line) for line in lines]
    return {one[3]: one[5].split() for one in words if one[1:3] == ["role", "add"]}


def token_by_readme(lab: Lab) -> str:
    """Made by hand as the README has it; API_TOKEN."""
    *made, last = recipe(lab.spec.pve_version)
    for line in made:
        lab.shell("pve1", line)
    shown = json.loads(lab.shell("pve1", f"{last} --output-format json"))
    return f"{shown['full-tokenid']}={shown['value']}"


@pytest.fixture(scope="module", params=["9.2", "8.4", "8.2"])
def released(
    request: pytest.FixtureRequest, shared_clock: SteppingClock, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    if request.param == "9.2":
        yield request.getfixturevalue("session_lab")
        return
    folder = tmp_path_factory.mktemp(f"lab-{request.param}")
    lab = Lab(LabSpec(pve_version=request.param), folder=folder, clock=shared_clock)
    with threads_unwatched():
        lab.start()
    yield lab
    lab.stop()


@pytest.mark.parametrize("wire", ["api", "ssh"])
def test_vms_are_made_replaced_and_deleted_on_every_kind_of_storage(
    released: Lab, shared_clock: SteppingClock, tmp_path: Path, capsys: pytest.CaptureFixture[str], wire: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    released.reset()
    homelab, asked = Homelab(released, shared_clock, tmp_path, capsys), Asked()
    token = token_by_readme(released) if wire == "api" else released.env["API_TOKEN"]
    asked.listen(monkeypatch, OWNER)

    fresh = homelab("--via", wire, API_TOKEN=token)

    assert fresh.exit_code == 0, fresh.text
    assert ready_members(released) == ALL_MEMBERS
    before = {node: vm_on(released, node)[1] for node in DISKS}
    assert all(vm["config"]["scsi0"].startswith(DISKS[node]) for node, vm in before.items()), before
    power_off(released, "pve3")

    stuck = homelab("--via", wire, API_TOKEN=token)

    assert stuck.exit_code == 0, stuck.text
    assert uuid_of(vm_on(released, "pve3")[1]) != uuid_of(before["pve3"])
    assert ready_members(released) == ALL_MEMBERS
    assert homelab.delete("pve3", "102", "--yes", "--via", wire, API_TOKEN=token).exit_code == 0
    assert request_findings(released.requests) == []
    if wire == "api" and released.spec.pve_version != ROOT_IMPORTS:
        held = {name for names in roles_in(recipe(released.spec.pve_version)).values() for name in names}
        assert asked.superfluous(held) == set()
        by_root = [one.what for one in released.writes if one.via == "ssh" and one.node in DISKS]
        assert all("snippets/" in what for what in by_root), by_root


@pytest.mark.parametrize("release", ["8.4", "9.2"])
def test_the_readmes_roles_hold_what_is_asked_for_and_nothing_else(release: str) -> None:
    major = privileges.major_of(release)
    roles = roles_in(recipe(release))
    assert roles == {name: list(granting.role_privileges(name, major)) for name in (granting.WORK, granting.LOOK)}


def test_each_privilege_of_the_recipe_that_is_missing_is_the_one_that_doctor_names(lab: Lab, homelab: Homelab) -> None:
    token, roles = token_by_readme(lab), roles_in(recipe("9.2"))
    paths = {need.privilege: need.path for need in privileges.needs(WANTED, 9)}
    assert homelab("doctor", "--via", "api", API_TOKEN=token).exit_code == 0
    for role, missing in [(role, name) for role, names in roles.items() for name in names]:
        left = [name for name in roles[role] if name != missing]
        lab.shell("pve1", f"pveum role modify {role} --privs '{' '.join(left)}'")

        run = homelab("doctor", "--json", "--via", "api", API_TOKEN=token, **ONLY_PVE3)

        (finding,) = json.loads(run.out)["findings"]
        if missing == privileges.SEEING.privilege:
            assert finding["what"].endswith("the API token may not see all VMs"), run.text
            assert finding["cure"].startswith("give the token VM.Audit: pveum acl modify /vms --users 'homelab@pve' ")
        elif missing == "Sys.Audit":
            assert finding["cure"].startswith(
                "the token lacks Sys.Audit on /: pveum acl modify / --users 'homelab@pve' "
            )
        else:
            assert re.split("; |$", finding["why"])[0] == f"it lacks {missing} on {paths[missing]}", run.text
            assert f"pveum role modify {role} --append 1 --privs '{missing}'" in finding["cure"]
            lab.shell("pve1", finding["cure"])
        lab.shell("pve1", f"pveum role modify {role} --privs '{' '.join(roles[role])}'")
    assert lab.writes == []
