"""Stories: stuck, paused, unknown, power-cut, delete, half-built."""

from __future__ import annotations

import pytest

from e2e.conftest import Homelab
from e2e.interruptions import tags
from e2e.world import (
    ALL_MEMBERS,
    k3s,
    nodes_with_running_vm,
    ready_members,
    servers,
    uuid_of,
    uuids,
    vm_on,
    voters,
)
from pvelab.lab import Lab
from pvelab.rules import power
from pvelab.state import World


@pytest.mark.parametrize("seed", ["stopped", "paused"])
def test_agent_vm_that_is_down_is_replaced_and_is_a_ready_member_again(
    lab: Lab, homelab: Homelab, via: str, seed: str
) -> None:
    lab.reset(seed)
    vmid, before = vm_on(lab, "pve3")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    new_vmid, after = vm_on(lab, "pve3")
    assert new_vmid == vmid
    assert uuid_of(after) != uuid_of(before)
    assert after["status"] == "running"
    assert ready_members(lab) == ALL_MEMBERS
    assert k3s(lab)["nodes"]["k3s-vm-pve3"]["uuid"] == uuid_of(after)
    assert "k3s-vm-pve3" not in servers(lab)


def test_replaced_vm_keeps_its_mac_address(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    _, before = vm_on(lab, "pve3")

    homelab("--via", via)

    _, after = vm_on(lab, "pve3")
    assert before["config"]["net0"] == after["config"]["net0"]


def test_other_vms_are_untouched_by_a_replacement(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    before = {vmid: vm for vmid, vm in lab.snapshot()["vms"].items() if vm["node"] != "pve3"}

    homelab("--via", via)

    assert {vmid: lab.snapshot()["vms"][vmid] for vmid in before} == before


def test_server_vm_that_is_down_is_replaced_and_votes_again_and_etcd_is_saved_before(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("stopped-server")
    before = uuids(lab)

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert "VM k3s-vm-pve1 (vmid=100) deleted (VM is stopped) and recreated" in run.out
    assert {vmid for vmid, uuid in uuids(lab).items() if uuid != before[vmid]} == {100}
    assert ready_members(lab) == ALL_MEMBERS
    assert voters(lab) == ["k3s-server", "k3s-vm-pve1", "k3s-vm-pve2"]
    assert "homelab" not in lab.shell("k3s-vm-pve2", "ls /var/lib/rancher/k3s/server/db/snapshots 2>&1 || true")
    assert lab.shell("k3s-server", "ls /var/lib/rancher/k3s/server/db/snapshots").strip()
    assert tags(lab)[100] == "homelab;homelab-server"


def test_server_vm_that_is_down_while_another_voter_is_down_too_is_started(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("stopped-server")
    lab.shell("k3s-vm-pve2", "systemctl stop k3s")
    lab.shell("k3s-server", "sleep 60")
    before = uuids(lab)

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert "VM k3s-vm-pve1 (vmid=100) started" in run.out
    assert ready_members(lab) == ALL_MEMBERS


@pytest.mark.parametrize("state", ["io-error", "internal-error", "guest-panicked", "prelaunch"])
def test_vm_in_an_unknown_state_is_kept_and_reported(lab: Lab, homelab: Homelab, via: str, state: str) -> None:
    lab.reset("unknown", state=state)
    before = lab.snapshot()

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert state in run.text
    assert "try:" in run.err
    assert lab.snapshot()["vms"] == before["vms"]
    assert lab.writes == []


def test_locked_vm_that_is_down_is_kept_and_reported(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    lab.look(lambda world: world.vms[vmid].config.update(lock="backup"))

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert "locked (backup)" in run.text
    assert lab.writes == []


def test_after_a_power_cut_all_vms_are_started_and_none_deleted(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("power-cut")
    before = uuids(lab)

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert ready_members(lab) == ALL_MEMBERS


def test_ready_from_before_the_vm_went_off_is_not_taken_for_ready_now(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")

    def switch_off(world: World) -> None:
        for vm in world.vms.values():
            if vm.node != "pve1":
                power.switch_off(world, vm)

    lab.look(switch_off)
    assert ready_members(lab) == ALL_MEMBERS, "k3s has not noticed yet"

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert run.out.count("is Ready again") == 2
    assert run.out.count("already in cluster, skipping") == 1


def test_within_ten_minutes_of_a_host_boot_vms_with_onboot_are_left_alone(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("power-cut", host_uptime_s=300)
    before = lab.snapshot()["vms"]

    run = homelab("--via", via)

    assert run.exit_code == 1, run.text
    assert "left to start by itself" in run.text
    assert lab.snapshot()["vms"] == before
    assert lab.writes == []


def test_vm_deleted_by_hand_comes_back_as_a_member(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    vmid, before = vm_on(lab, "pve3")

    deleted = homelab.delete("pve3", str(vmid), "--yes", "--via", via)

    assert deleted.exit_code == 0, deleted.text
    assert vmid not in lab.snapshot()["vms"]
    assert "k3s-vm-pve3" not in k3s(lab)["nodes"]
    run = homelab("--via", via)
    assert run.exit_code == 0, run.text
    _, after = vm_on(lab, "pve3")
    assert uuid_of(after) != uuid_of(before)
    assert ready_members(lab) == ALL_MEMBERS


def test_half_built_vm_of_an_interrupted_run_is_made_anew(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("half-built")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    names = [vm["config"]["name"] for vm in lab.snapshot()["vms"].values()]
    assert sorted(names) == ["k3s-vm-pve1", "k3s-vm-pve2", "k3s-vm-pve3"]
    assert all("homelab-unfinished" not in vm["config"]["tags"] for vm in lab.snapshot()["vms"].values())
