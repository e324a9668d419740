"""When a VM counts as absent, and which VM is ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homelab.models import (
    Verdict,
    VmRow,
)
from unit.builders import STOPPED, node_config, vm
from unit.observing import NO_ANSWER, QUORATE, observed
from unit.proxmox_reads import NOW, ProxmoxReads, start_task

# --- absent ------------------------------------------------------------------------------------------------------


def test_a_vm_that_is_in_no_list_is_absent_when_everything_can_be_seen() -> None:
    found = observed(ProxmoxReads([vm(node="pve2", vmid=108)]))

    assert found.verdict is Verdict.ABSENT
    assert "k3s-vm-pve1" in found.reason


def test_without_quorum_no_vm_is_absent() -> None:
    assert observed(ProxmoxReads(), cluster=replace(QUORATE, is_quorate=False)).verdict is Verdict.UNKNOWN


def test_a_token_that_may_not_see_all_vms_makes_no_vm_absent() -> None:
    found = observed(ProxmoxReads(is_seeing_all=False))

    assert found.verdict is Verdict.UNKNOWN
    assert "VM.Audit" in found.cure


@pytest.mark.parametrize(("kind", "verdict"), [("qmcreate", Verdict.UNKNOWN), ("vzdump", Verdict.ABSENT)])
def test_while_a_vm_is_being_made_on_the_node_none_is_absent_there(kind: str, verdict: Verdict) -> None:
    running = start_task(NOW - 5, kind=kind, end_time=None, exit_status="")

    assert observed(ProxmoxReads(active=[running])).verdict is verdict


def test_permissions_that_cannot_be_read_make_no_vm_absent() -> None:
    assert observed(ProxmoxReads(failing={"sees_all_vms": NO_ANSWER})).verdict is Verdict.UNKNOWN


def test_a_vm_whose_name_the_list_does_not_know_yet_is_found_by_its_config() -> None:
    found = observed(ProxmoxReads([vm()], nameless=frozenset({107})))

    assert (found.verdict, found.found.vmid) == (Verdict.HEALTHY, 107)


def test_a_vm_without_name_that_has_just_gone_leaves_the_others_visible() -> None:
    pve = ProxmoxReads([vm(node="pve2", vmid=108)], nameless=frozenset({108}), vanished=frozenset({108}))

    assert observed(pve).verdict is Verdict.ABSENT


def test_a_vm_of_a_member_that_does_not_answer_is_not_made_a_second_time() -> None:
    pve = ProxmoxReads(offline={"pve9": [VmRow(107, "pve9", "k3s-vm-pve1")]}, failing={"vm_status": NO_ANSWER})

    assert observed(pve).verdict is Verdict.UNKNOWN


def test_a_vm_of_another_name_on_a_member_that_does_not_answer_is_no_hindrance() -> None:
    offline = {"pve9": [VmRow(200, "pve9", "router"), VmRow(201, "pve9", "gone meanwhile")]}

    assert observed(ProxmoxReads(offline=offline, vanished=frozenset({201}))).verdict is Verdict.ABSENT


def test_where_the_names_of_a_member_that_does_not_answer_cannot_be_read_no_vm_is_absent() -> None:
    pve = ProxmoxReads(offline={"pve9": [VmRow(200, "pve9", "router")]}, failing={"offline_vms": NO_ANSWER})

    assert observed(pve).verdict is Verdict.UNKNOWN


UNREAD: dict[str, Any] = {
    "offline": {"pve9": [VmRow(200, "pve9", "router")]},
    "failing": {"offline_vms": NO_ANSWER},
}


def test_names_that_cannot_be_read_do_not_hide_a_running_vm_that_is_listed_by_name() -> None:
    assert observed(ProxmoxReads([vm()], **UNREAD)).verdict is Verdict.HEALTHY


def test_names_that_cannot_be_read_forbid_deleting_a_vm_that_is_down() -> None:
    found = observed(ProxmoxReads([vm(**STOPPED)], **UNREAD))

    assert found.verdict is Verdict.STOPPED
    assert [guard.sentence for guard in found.guards] == [
        "the names of some VMs cannot be read, and one of them may have its name"
    ]
    assert found.guards[0].cure == "is it switched on?"


def test_names_that_cannot_be_read_make_no_vm_absent_and_that_is_said() -> None:
    found = observed(ProxmoxReads(**UNREAD))

    assert found.verdict is Verdict.UNKNOWN
    assert found.reason == "the names of some VMs cannot be read: no answer: connection refused"


def test_vmid_n_of_a_vm_whose_name_cannot_be_read_is_not_taken_for_another_vm() -> None:
    found = observed(ProxmoxReads(**UNREAD), node_config(vmid=200))

    assert (found.verdict, found.cure) == (Verdict.UNKNOWN, "is it switched on?")
    assert found.reason.startswith("the names of some VMs cannot be read")


@pytest.mark.parametrize("name", ["k3s-vm-pve1", ""])
def test_a_container_is_never_taken_for_the_vm(name: str) -> None:
    container = VmRow(107, "pve1", name, is_container=True)

    assert observed(ProxmoxReads(containers=[container])).verdict is Verdict.ABSENT


# --- which VM is ours --------------------------------------------------------------------------------------------


def test_the_case_of_a_vm_s_name_does_not_matter() -> None:
    assert observed(ProxmoxReads([vm({"name": "K3s-VM-pve1"})])).verdict is Verdict.HEALTHY


def test_two_vms_of_one_name_are_both_left_alone() -> None:
    twins = [vm(**STOPPED), vm({"name": "k3s-vm-pve1"}, node="pve2", vmid=108, **STOPPED)]

    found = observed(ProxmoxReads(twins))

    assert (found.verdict, found.vm) == (Verdict.UNKNOWN, None)
    assert "107 on pve1, 108 on pve2" in found.reason
    assert "VMID_1" in found.cure


def test_vmid_n_says_which_of_two_vms_of_one_name_is_ours() -> None:
    twins = [vm(), vm({"name": "k3s-vm-pve1"}, node="pve2", vmid=108)]

    assert observed(ProxmoxReads(twins), node_config(vmid=107)).found.vmid == 107


def test_vmid_n_of_a_vm_with_another_name_is_refused() -> None:
    found = observed(ProxmoxReads([vm({"name": "router"})]), node_config(vmid=107))

    assert (found.verdict, found.vm) == (Verdict.UNKNOWN, None)
    assert "VMID_1=107 is another VM" in found.reason
    assert "router on pve1" in found.reason
    assert "VM_NAME_1" in found.cure


def test_vmid_n_of_a_container_is_refused() -> None:
    container = VmRow(107, "pve1", "k3s-vm-pve1", is_container=True)

    found = observed(ProxmoxReads(containers=[container]), node_config(vmid=107))

    assert found.verdict is Verdict.UNKNOWN
    assert "is another container" in found.reason


def test_vmid_n_that_is_free_while_another_vm_has_the_name_makes_no_second_vm() -> None:
    found = observed(ProxmoxReads([vm()]), node_config(vmid=105))

    assert found.verdict is Verdict.UNKNOWN
    assert "107 on pve1" in found.reason
    assert "VMID_1=107" in found.cure


def test_vmid_n_and_name_both_free_make_the_vm_absent() -> None:
    assert observed(ProxmoxReads(), node_config(vmid=105)).verdict is Verdict.ABSENT
