"""Two runs at once, from one machine and from two; and a run that is told to end."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from e2e.conftest import Homelab
from e2e.interruptions import Ending, killed
from e2e.world import (
    NO_JOIN,
    ONLY_PVE3,
    before_call,
    limited_token,
    nodes_with_running_vm,
    ready_members,
    take_out,
    uuids,
)
from homelab import memory
from homelab.run_marker import POOL
from pvelab.lab import Lab
from pvelab.state import Acl, Pool, World
from support.clock import SteppingClock

ONLY_PVE1 = {"NODE_ENABLED_2": "0", "NODE_ENABLED_3": "0", **NO_JOIN}


def mark(lab: Lab, comment: str | None) -> None:
    def put(world: World) -> None:
        world.pools[POOL] = Pool(POOL, comment)

    lab.look(put)


def pools(lab: Lab) -> list[str]:
    return lab.look(lambda world: list(world.pools))


def marked(lab: Lab) -> list[str]:
    """What was done with the mark, and that something else was written, in order."""
    verbs = {"create": "POST", "set": "PUT", "delete": "DELETE"}
    shown = []
    for one in lab.writes:
        is_mark = one.path.startswith("/pools") or any(word.startswith("/pools") for word in one.argv)
        shown.append((one.method or verbs[one.argv[1]]) if is_mark else "work")
    return shown


# --- from one machine --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "delete"])
def test_second_run_ends_at_once_and_names_the_first(lab: Lab, homelab: Homelab, command: str) -> None:
    with memory.held(homelab.state_folder(), 1_760_000_000):
        run = homelab() if command == "run" else homelab.delete("pve1", "100", "--yes")
        dry = homelab("--dry-run")

    assert run.exit_code == 4, run.text
    assert "another run is going on: " in run.err
    assert f"process {os.getpid()} on " in run.err
    assert dry.exit_code == 0
    assert lab.writes == []
    assert homelab(**ONLY_PVE1).exit_code == 0


def test_dry_run_leaves_nothing_on_this_machine_either(homelab: Homelab) -> None:
    assert homelab("--dry-run").exit_code == 0
    assert not (homelab.home / "state").exists()


# --- from two machines -------------------------------------------------------------------------------------------


def test_mark_is_there_while_something_is_written_and_not_longer(lab: Lab, homelab: Homelab, via: str) -> None:
    run = homelab("--via", via, **ONLY_PVE1)

    assert run.exit_code == 0, run.text
    assert (marked(lab)[0], marked(lab)[-1]) == ("POST", "DELETE")
    assert set(marked(lab)[1:-1]) == {"work"}
    assert pools(lab) == []


def test_run_of_another_machine_is_waited_for_by_ending_with_4(lab: Lab, homelab: Homelab, via: str) -> None:
    mark(lab, "homelab: run of laptop-1f2e3d4c until 2100-01-01T00:00:00Z")

    run = homelab("--via", via, **ONLY_PVE1)

    assert run.exit_code == 4, run.text
    assert "another run is going on: from another machine" in run.err
    assert "run of laptop-1f2e3d4c until 2100" in run.err
    assert lab.writes == []
    assert pools(lab) == [POOL]


@pytest.mark.parametrize("comment", [None, "mine, do not touch", "run of x until 2100-99-99T00:00:00Z"])
def test_mark_that_cannot_be_read_counts(lab: Lab, homelab: Homelab, comment: str | None) -> None:
    mark(lab, comment)

    run = homelab(**ONLY_PVE1)

    assert run.exit_code == 4, run.text
    assert f"pvesh delete /pools/{POOL}" in run.err
    assert lab.writes == []


def test_vm_that_cannot_join_since_the_cluster_does_not_answer_makes_no_mark(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("healthy")
    take_out(lab, "k3s-vm-pve3")
    lab.fault("join-fails", how="server-down")

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert "VM is not joined: " in run.err
    assert lab.writes == []


@pytest.mark.parametrize("is_known", [True, False], ids=["cluster-answers", "cluster-answers-later"])
def test_vm_is_not_joined_while_a_run_of_another_machine_may_be_joining_it(
    lab: Lab, homelab: Homelab, is_known: bool
) -> None:
    lab.reset("healthy")
    take_out(lab, "k3s-vm-pve3")
    mark(lab, "homelab: run of laptop-1f2e3d4c until 2100-01-01T00:00:00Z")
    if not is_known:
        lab.fault("on", do="error", times=1, command="sh -c *kubectl get*")

    run = homelab("--via", "api", KUBECONFIG=None)

    assert run.exit_code == (4 if is_known else 3), run.text
    assert "run of laptop-1f2e3d4c until 2100" in run.err
    assert "k3s-vm-pve3" not in ready_members(lab)


def test_mark_that_is_out_of_date_is_taken_over(lab: Lab, homelab: Homelab, via: str) -> None:
    mark(lab, "homelab: run of laptop-1f2e3d4c until 2001-01-01T00:00:00Z")

    run = homelab("--via", via, **ONLY_PVE1)

    assert run.exit_code == 0, run.text
    assert (marked(lab)[0], marked(lab)[-1]) == ("PUT", "DELETE")
    assert pools(lab) == []


def test_mark_of_a_killed_run_from_here_is_taken_over(lab: Lab, homelab: Homelab) -> None:
    assert homelab(**ONLY_PVE1).exit_code == 0
    (owner,) = (homelab.home / "state" / "homelab").glob("*/owner")
    lab.reset("fresh")
    mark(lab, f"homelab: run of {owner.read_text().strip()} until 2100-01-01T00:00:00Z")

    run = homelab(**ONLY_PVE1)

    assert run.exit_code == 0, run.text
    assert pools(lab) == []


def test_mark_that_a_killed_run_left_goes_with_a_run_that_has_nothing_to_do(lab: Lab, homelab: Homelab) -> None:
    assert homelab(**ONLY_PVE1).exit_code == 0
    (folder,) = (homelab.home / "state" / "homelab").iterdir()
    mark(lab, f"homelab: run of {(folder / 'owner').read_text().strip()} until 2100-01-01T00:00:00Z")
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('\n{"at": 1, "event": "marked"}')

    assert homelab("--dry-run", **ONLY_PVE1).exit_code == 0
    assert pools(lab) == [POOL]
    assert homelab(**ONLY_PVE1).exit_code == 0
    assert pools(lab) == []


def test_mark_that_is_another_machines_by_now_stays(lab: Lab, homelab: Homelab) -> None:
    assert homelab(**ONLY_PVE1).exit_code == 0
    (folder,) = (homelab.home / "state" / "homelab").iterdir()
    mark(lab, "homelab: run of laptop-1f2e3d4c until 2100-01-01T00:00:00Z")
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('\n{"at": 1, "event": "marked"}')

    assert homelab(**ONLY_PVE1).exit_code == 0
    assert pools(lab) == [POOL]
    before = len(lab.writes)
    assert homelab(**ONLY_PVE1).exit_code == 0
    assert len(lab.writes) == before


def test_mark_that_a_killed_run_of_another_machine_left_is_removed_by_a_run_with_nothing_to_do(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    assert homelab("--via", via, **ONLY_PVE1).exit_code == 0
    mark(lab, "homelab: run of laptop-1f2e3d4c until 2020-01-01T00:00:00Z")
    before = len(lab.writes)

    assert homelab("--via", via, "--dry-run", **ONLY_PVE1).exit_code == 0
    assert pools(lab) == [POOL]
    assert homelab("--via", via, **ONLY_PVE1).exit_code == 0
    assert pools(lab) == []
    assert len(lab.writes) == before + 1


def test_mark_that_cannot_be_looked_at_is_left_to_the_next_run(lab: Lab, homelab: Homelab) -> None:
    assert homelab(**ONLY_PVE1).exit_code == 0
    (folder,) = (homelab.home / "state" / "homelab").iterdir()
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('\n{"at": 1, "event": "marked"}')
    lab.fault("on", do="error", status=500, path="/pools")

    assert homelab("--via", "api", **ONLY_PVE1).exit_code == 0
    assert '"unmarked"' not in (folder / "journal.jsonl").read_text().splitlines()[-1]


def test_mark_is_renewed_in_a_long_run(lab: Lab, homelab: Homelab, shared_clock: SteppingClock) -> None:
    before_call(lab, "POST", "/nodes/pve1/qemu/100/status/start", lambda _: shared_clock.advance(700))

    run = homelab(**ONLY_PVE1)

    assert run.exit_code == 0, run.text
    assert "PUT" in marked(lab)
    assert pools(lab) == []


def test_run_whose_mark_was_taken_over_in_a_long_wait_writes_no_more(
    lab: Lab, homelab: Homelab, shared_clock: SteppingClock
) -> None:
    def take_over(_: World) -> None:
        shared_clock.advance(700)
        mark(lab, "homelab: run of laptop-1f2e3d4c until 2100-01-01T00:00:00Z")

    before_call(lab, "POST", "/nodes/pve1/qemu", take_over)

    run = homelab(**ONLY_PVE1)

    assert run.exit_code == 1, run.text
    assert "run of laptop-1f2e3d4c until 2100" in run.err
    assert pools(lab) == [POOL]
    assert nodes_with_running_vm(lab) == []


@pytest.mark.parametrize("is_made", [False, True], ids=["not made", "made"])
def test_lost_answer_to_the_making_of_the_mark_is_decided_by_looking(lab: Lab, homelab: Homelab, is_made: bool) -> None:
    lab.fault("on", do="reset-after" if is_made else "reset", times=1, method="POST", path="/pools")

    run = homelab("--via", "api", **ONLY_PVE1)

    assert run.exit_code == 0, run.text
    assert ("are not noticed" in run.err) is not is_made
    assert pools(lab) == []


def test_where_the_token_may_not_make_the_mark_that_is_said(lab: Lab, homelab: Homelab) -> None:
    run = homelab("--via", "api", API_TOKEN=limited_token(lab, ""), **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert "runs from other machines at the same time are not noticed: " in run.err
    assert nodes_with_running_vm(lab) == ["pve3"]


def test_token_with_a_role_on_all_pools_makes_and_removes_the_mark_in_every_run(lab: Lab, homelab: Homelab) -> None:
    token = limited_token(lab, "")
    lab.look(lambda world: world.acls.add(Acl("/pool", "root@pam!lim", "PVEPoolAdmin")))

    for arguments in ((), ("--replace", "pve3")):
        before = len(lab.writes)
        run = homelab("--via", "api", *arguments, API_TOKEN=token, **ONLY_PVE3, **NO_JOIN)

        assert run.exit_code == 0, run.text
        assert "are not noticed" not in run.err
        assert (lab.writes[before].what, lab.writes[-1].what) == ("POST /pools", f"DELETE /pools/{POOL}")
        assert pools(lab) == []


def test_mark_that_the_token_may_make_but_not_see_is_not_made(lab: Lab, homelab: Homelab) -> None:
    token = limited_token(lab, "")

    def give(world: World) -> None:
        world.roles["Maker"] = frozenset({"Pool.Allocate"})
        world.acls.add(Acl("/pool", "root@pam!lim", "Maker"))

    lab.look(give)

    run = homelab("--via", "api", API_TOKEN=token, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert "are not noticed: pool homelab-run: the token may make it, but not see it" in run.err
    assert nodes_with_running_vm(lab) == ["pve3"]
    assert pools(lab) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("moment", ["resize", "status/start"])
def test_vm_that_a_run_of_another_machine_is_making_without_a_mark_is_left_to_it_for_half_an_hour(
    lab: Lab, homelab: Homelab, shared_clock: SteppingClock, via: str, moment: str
) -> None:
    method = "PUT" if moment == "resize" else "POST"
    with killed(method, f"/nodes/pve3/qemu/[0-9]+/{moment}", after=moment != "resize"):
        homelab("--via", via, **ONLY_PVE3, **NO_JOIN)
    shutil.rmtree(homelab.home / "state")
    lab.wait_until(lambda world: all(task.endtime for task in world.tasks.values()))
    before = lab.snapshot()["vms"]

    meanwhile = homelab("--via", via, **ONLY_PVE3, **NO_JOIN)
    named = homelab("--via", via, "--replace", "pve3", **ONLY_PVE3, **NO_JOIN)
    planned = homelab("--via", via, "--dry-run", **ONLY_PVE3, **NO_JOIN)

    for run in (meanwhile, named, planned):
        assert run.exit_code == (1 if moment == "resize" else 3), run.text
        assert "VM k3s-vm-pve3 (vmid=100) is kept: another run is making it: " in run.err
    assert lab.snapshot()["vms"] == before
    shared_clock.advance(1801)
    assert homelab("--via", via, **ONLY_PVE3, **NO_JOIN).exit_code == 0
    (vm,) = lab.snapshot()["vms"].values()
    assert (vm["config"]["tags"], "being made by" in vm["config"]["description"]) == ("homelab", False)


def test_mark_that_the_token_may_not_see_counts(lab: Lab, homelab: Homelab) -> None:
    mark(lab, "homelab: run of laptop-1f2e3d4c until 2100-01-01T00:00:00Z")
    token = limited_token(lab, "")
    lab.look(lambda world: world.acls.difference_update([acl for acl in world.acls if acl.role == "PVEAuditor"]))

    run = homelab("--via", "api", API_TOKEN=token, **ONLY_PVE3, **NO_JOIN)

    assert lab.writes == [], run.text


# --- told to end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_what_was_begun_is_finished_and_nothing_new_is_begun(
    lab: Lab, homelab: Homelab, via: str, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    before_call(lab, "POST", "/nodes/pve1/qemu", Ending(monkeypatch, number).give)

    run = homelab("--via", via, **ONLY_PVE1)

    assert run.exit_code == 130, run.text
    assert "interrupted: what was begun is finished, nothing new is begun" in run.err
    assert "run again to go on from here" in run.err
    assert "Traceback" not in run.err
    (vm,) = lab.snapshot()["vms"].values()
    assert (vm["status"], "homelab-unfinished" in vm["config"]["tags"]) == ("stopped", True)
    assert pools(lab) == []
    assert signal.getsignal(signal.SIGTERM) == before

    made = uuids(lab)
    again = homelab("--via", via, **ONLY_PVE1)
    assert again.exit_code == 0, again.text
    assert nodes_with_running_vm(lab) == ["pve1"]
    assert made.keys() == uuids(lab).keys()


def test_wait_for_a_join_ends_when_the_run_is_to_end(lab: Lab, homelab: Homelab) -> None:
    lab.fault("stuck-boot", vm="k3s-vm-pve1")
    settings = {"NODE_ENABLED_2": "0", "NODE_ENABLED_3": "0"}
    lab.look(lambda world: world.clock.after(120, lambda: os.kill(os.getpid(), signal.SIGINT)))

    run = homelab(**settings)

    assert run.exit_code == 130, run.text
    assert nodes_with_running_vm(lab) == ["pve1"]


def test_state_folder_is_only_the_owners(homelab: Homelab) -> None:
    assert homelab(**ONLY_PVE1).exit_code == 0

    (folder,) = (homelab.home / "state" / "homelab").iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    assert not [file for file in folder.iterdir() if file.name == "journal.jsonl" and file.stat().st_mode & 0o077]
