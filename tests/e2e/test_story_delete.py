"""The manual override: scripts/delete_vm.py."""

from __future__ import annotations

import io
import signal
import sys

import pytest

from e2e.conftest import Homelab
from e2e.interruptions import Ending, killed, open_writes
from e2e.world import ALL_MEMBERS, before_call, k3s, power_off, ready_members, uuids, vm_on, voters
from pvelab.lab import Lab
from support.clock import SteppingClock


@pytest.fixture(autouse=True)
def healthy(lab: Lab) -> None:
    lab.reset("healthy")


def set_config(lab: Lab, vmid: int, **values: str) -> None:
    lab.look(lambda world: world.vms[vmid].config.update(values))


def test_a_person_is_shown_the_vm_and_asked_for_its_name(lab: Lab, homelab: Homelab, via: str) -> None:
    vmid, _ = vm_on(lab, "pve3")

    run = homelab.delete("pve3", str(vmid), "--via", via, answer="k3s-vm-pve3")

    assert run.exit_code == 0, run.text
    assert f"VM k3s-vm-pve3  vmid={vmid}  node=pve3" in run.out
    assert "scsi0=local:" in run.out
    assert vmid not in lab.snapshot()["vms"]
    assert "k3s-vm-pve3" not in k3s(lab)["nodes"]
    assert "k3s-vm-pve3.node-password.k3s" not in k3s(lab)["secrets"]


def test_another_answer_than_the_name_deletes_nothing(lab: Lab, homelab: Homelab, via: str) -> None:
    before = uuids(lab)
    vmid, _ = vm_on(lab, "pve3")

    run = homelab.delete("pve3", str(vmid), "--via", via, answer="y")

    assert run.exit_code == 1
    assert "nothing was deleted" in run.text
    assert uuids(lab) == before
    assert lab.writes == []


def test_without_a_terminal_yes_is_needed(lab: Lab, homelab: Homelab, via: str) -> None:
    vmid, _ = vm_on(lab, "pve3")

    run = homelab.delete("pve3", str(vmid), "--via", via)

    assert run.exit_code == 1
    assert "--yes" in run.err
    assert lab.writes == []


def test_deletion_that_was_begun_is_finished_after_ctrl_c(
    lab: Lab, homelab: Homelab, via: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_call(lab, "DELETE", "/nodes/pve3/qemu/102", Ending(monkeypatch, signal.SIGINT).give)

    run = homelab.delete("pve3", "102", "--yes", "--via", via)

    assert run.exit_code == 130, run.text
    assert "interrupted: what was begun is finished, nothing new is begun" in run.err
    assert "VM k3s-vm-pve3 (vmid=102) on pve3 is deleted" in run.out
    assert 102 not in lab.snapshot()["vms"]
    assert lab.snapshot()["pools"] == {}
    assert open_writes(homelab) == 0


def test_after_sigterm_a_stop_is_finished_and_neither_node_nor_vm_is_deleted(
    lab: Lab, homelab: Homelab, via: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_call(lab, "POST", "/nodes/pve3/qemu/102/status/stop", Ending(monkeypatch, signal.SIGTERM).give)

    run = homelab.delete("pve3", "102", "--yes", "--via", via)

    assert run.exit_code == 130, run.text
    assert "interrupted: nothing new is begun" in run.err
    assert vm_on(lab, "pve3")[1]["status"] == "stopped"
    assert "k3s-vm-pve3" in k3s(lab)["nodes"]
    assert lab.snapshot()["pools"] == {}
    assert open_writes(homelab) == 0

    assert homelab.delete("pve3", "102", "--yes", "--via", via).exit_code == 0
    assert 102 not in lab.snapshot()["vms"]


class Terminal(io.StringIO):
    """A terminal at which nothing is typed."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stdin", [Terminal(), None], ids=["ctrl-d", "closed"])
def test_end_of_input_and_no_input_at_all_delete_nothing(
    lab: Lab, homelab: Homelab, monkeypatch: pytest.MonkeyPatch, stdin: Terminal | None
) -> None:
    vmid, _ = vm_on(lab, "pve3")
    monkeypatch.setattr(sys, "stdin", stdin)

    run = homelab.delete("pve3", str(vmid))

    assert run.exit_code == 1
    assert lab.writes == []


def test_vm_on_another_node_is_refused_naming_it(lab: Lab, homelab: Homelab, via: str) -> None:
    vmid, _ = vm_on(lab, "pve2")

    run = homelab.delete("pve3", str(vmid), "--yes", "--force", "--via", via)

    assert run.exit_code == 1
    assert "on pve2, not on pve3" in run.err
    assert f"scripts/delete_vm.py pve2 {vmid}" in run.err
    assert lab.writes == []


def test_vmid_that_is_nowhere_is_exit_code_3(lab: Lab, homelab: Homelab, via: str) -> None:
    run = homelab.delete("pve3", "999", "--yes", "--via", via)

    assert run.exit_code == 3
    assert "not there" in run.text
    assert lab.writes == []


def test_node_that_is_not_configured_is_refused(homelab: Homelab) -> None:
    run = homelab.delete("pve9", "100", "--yes")

    assert run.exit_code == 1
    assert "NODE_n names pve1, pve2, pve3" in run.err


def test_vm_not_made_by_homelab_needs_force(lab: Lab, homelab: Homelab, via: str) -> None:
    vmid, _ = vm_on(lab, "pve3")
    set_config(lab, vmid, tags="web")

    refused = homelab.delete("pve3", str(vmid), "--yes", "--via", via)
    assert refused.exit_code == 1
    assert "--force" in refused.err
    assert lab.writes == []

    assert homelab.delete("pve3", str(vmid), "--yes", "--force", "--via", via).exit_code == 0
    assert vmid not in lab.snapshot()["vms"]


@pytest.mark.parametrize(("key", "value", "word"), [("protection", "1", "protection"), ("lock", "backup", "locked")])
def test_force_lifts_neither_protection_nor_locks(
    lab: Lab, homelab: Homelab, via: str, key: str, value: str, word: str
) -> None:
    vmid, _ = vm_on(lab, "pve3")
    set_config(lab, vmid, **{key: value})

    run = homelab.delete("pve3", str(vmid), "--yes", "--force", "--via", via)

    assert run.exit_code == 1
    assert word in run.err
    assert lab.writes == []


def test_data_disk_forbids_deleting_until_forced(lab: Lab, homelab: Homelab, via: str) -> None:
    vmid, _ = vm_on(lab, "pve3")
    set_config(lab, vmid, scsi1="local:999/vm-999-disk-7.raw,size=18T")

    run = homelab.delete("pve3", str(vmid), "--yes", "--via", via)

    assert run.exit_code == 1
    assert "data disk scsi1" in run.err
    assert lab.writes == []


def test_server_among_three_voters_is_taken_out_of_etcd_before_it_is_deleted(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    vmid, _ = vm_on(lab, "pve2")

    run = homelab.delete("pve2", str(vmid), "--yes", "--via", via)

    assert run.exit_code == 0, run.text
    assert sorted(k3s(lab)["members"].values()) == ["voter", "voter"]
    assert ready_members(lab) == {"k3s-server", "k3s-vm-pve1", "k3s-vm-pve3"}


def test_clone_of_a_live_server_is_deleted_and_the_server_stays_a_member(lab: Lab, homelab: Homelab, via: str) -> None:
    """A stopped VM of the same name is another machine: its deletion is no reason to touch Node, secret or member."""
    lab.shell("pve2", "qm create 150 --name k3s-vm-pve2 --memory 512")
    before = k3s(lab)

    refused = homelab.delete("pve2", "150", "--yes", "--via", via)
    assert refused.exit_code == 1
    assert "another machine is a Ready member under the name k3s-vm-pve2" in refused.err

    run = homelab.delete("pve2", "150", "--yes", "--force", "--via", via)

    assert run.exit_code == 0, run.text
    assert 150 not in lab.snapshot()["vms"]
    assert ready_members(lab) == ALL_MEMBERS
    assert k3s(lab)["nodes"]["k3s-vm-pve2"]["uuid"] == before["nodes"]["k3s-vm-pve2"]["uuid"]
    assert (k3s(lab)["members"], k3s(lab)["secrets"]) == (before["members"], before["secrets"])
    assert "the Node of this name stays" in run.err


def test_cluster_that_cannot_be_asked_forbids_deleting_unless_forced(lab: Lab, homelab: Homelab, via: str) -> None:
    vmid, _ = vm_on(lab, "pve3")
    set_config(lab, vmid, tags="homelab;homelab-agent")
    lab.fault("join-fails", how="server-down")

    refused = homelab.delete("pve3", str(vmid), "--yes", "--via", via)
    assert refused.exit_code == 1
    assert "k3s cannot be asked" in refused.err
    assert lab.writes == []

    forced = homelab.delete("pve3", str(vmid), "--yes", "--force", "--via", via)
    assert forced.exit_code == 0, forced.text
    assert "kubectl delete node k3s-vm-pve3" in forced.err


# --- etcd ----------------------------------------------------------------------------------------------------------


def two_voters(lab: Lab, homelab: Homelab) -> None:
    """The server outside and the VM on pve1."""
    assert homelab.delete("pve2", "101", "--yes").exit_code == 0
    assert voters(lab) == ["k3s-server", "k3s-vm-pve1"]


def test_one_of_two_voters_leaves_etcd_while_it_still_runs_and_the_other_goes_on(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    two_voters(lab, homelab)

    refused = homelab.delete("pve1", "100", "--yes", "--via", via)
    assert refused.exit_code == 1
    assert "there are only 2 etcd voter(s) (3 are needed)" in refused.err

    forced = homelab.delete("pve1", "100", "--yes", "--force", "--via", via)

    assert forced.exit_code == 0, forced.text
    assert "VM k3s-vm-pve1 leaves etcd while it still runs" in forced.err
    assert 100 not in lab.snapshot()["vms"]
    assert voters(lab) == ["k3s-server"]
    assert ready_members(lab) == {"k3s-server", "k3s-vm-pve3"}
    assert "k3s-vm-pve3" in lab.shell("k3s-server", "kubectl get nodes")


def test_one_of_two_voters_that_is_off_is_not_deleted_however_much_a_person_insists(lab: Lab, homelab: Homelab) -> None:
    two_voters(lab, homelab)
    power_off(lab, "pve1")

    run = homelab.delete("pve1", "100", "--yes", "--force")

    assert run.exit_code == 1
    assert "etcd" in run.err
    assert 100 in lab.snapshot()["vms"]


def test_voter_while_another_is_down_is_not_deleted_however_much_a_person_insists(lab: Lab, homelab: Homelab) -> None:
    lab.reset("stopped-server")

    run = homelab.delete("pve2", "101", "--yes", "--force")

    assert run.exit_code == 1
    assert "etcd would lose its quorum: only 1 of the voters that stay are healthy" in run.err
    assert lab.writes == []


def test_cluster_that_cannot_be_asked_may_have_the_vm_as_a_server(lab: Lab, homelab: Homelab) -> None:
    lab.fault("join-fails", how="server-down")

    run = homelab.delete("pve1", "100", "--yes", "--force")

    assert run.exit_code == 1
    assert "k3s cannot be asked, and if this VM is a server of it, etcd may lose its quorum" in run.err
    assert lab.writes == []


def test_what_has_changed_while_a_person_was_asked_counts(
    lab: Lab, homelab: Homelab, shared_clock: SteppingClock
) -> None:
    def crash_meanwhile(_question: str) -> str:
        power_off(lab, "pve1")
        shared_clock.advance(120)
        return "k3s-vm-pve2"

    run = homelab.delete("pve2", "101", ask=crash_meanwhile)

    assert run.exit_code == 1
    assert "it is or was a k3s server" in run.err
    assert 101 in lab.snapshot()["vms"]


def test_unreachable_node_is_an_error_not_an_absent_vm(lab: Lab, homelab: Homelab, via: str) -> None:
    vmid, _ = vm_on(lab, "pve3")
    lab.fault("node-down", node="pve3")

    run = homelab.delete("pve3", str(vmid), "--yes", "--via", via)

    assert run.exit_code == 1
    assert "pve3" in run.err
    assert lab.writes == []


def test_wrong_configuration_is_exit_code_2_and_contacts_nothing(lab: Lab, homelab: Homelab) -> None:
    run = homelab.delete("pve3", "102", "--yes", VM_START_TIMEOUT="soon")

    assert run.exit_code == 2
    assert "VM_START_TIMEOUT" in run.err
    assert lab.requests == []


@pytest.mark.parametrize("words", [[], ["pve3"], ["pve3", "abc"], ["pve3", "100", "--nonsense"]])
def test_wrong_usage_is_exit_code_2(homelab: Homelab, words: list[str]) -> None:
    assert homelab.delete(*words).exit_code == 2


def test_task_of_a_deletion_that_was_killed_is_waited_for(lab: Lab, homelab: Homelab) -> None:
    vmid, _ = vm_on(lab, "pve3")
    with killed("GET", "/nodes/pve3/tasks/[^/]*:qmstop:[^/]*/status"), pytest.raises(SystemExit):
        homelab.delete("pve3", str(vmid), "--yes", "--via", "api")

    run = homelab.delete("pve3", str(vmid), "--yes", "--via", "api")

    assert run.exit_code == 0, run.text
    assert f"pve3: waiting for POST /nodes/pve3/qemu/{vmid}/status/stop of VM {vmid}" in run.err
    assert vmid not in lab.snapshot()["vms"]
    assert open_writes(homelab) == 0
