"""Stories: stuck, paused, unknown, power-cut, delete, half-built."""

from __future__ import annotations

import pytest
from e2e.conftest import Homelab

from pvelab.lab import Lab


def vm_of(lab: Lab, node: str) -> tuple[int, dict[str, object]]:
    """VMID and data of the one VM on a node."""
    return next((vmid, vm) for vmid, vm in lab.snapshot()["vms"].items() if vm["node"] == node)


def uuid_of(vm: dict[str, object]) -> str:
    config = vm["config"]
    assert isinstance(config, dict)
    return str(config["smbios1"])


@pytest.mark.parametrize("seed", ["stopped", "paused"])
def test_agent_vm_that_is_down_is_replaced_and_is_a_ready_member_again(
    lab: Lab, homelab: Homelab, via: str, seed: str
) -> None:
    lab.reset(seed)
    vmid, before = vm_of(lab, "pve3")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    new_vmid, after = vm_of(lab, "pve3")
    assert new_vmid == vmid
    assert uuid_of(after) != uuid_of(before)
    assert after["status"] == "running"
    node = lab.snapshot()["k3s"]["nodes"]["k3s-vm-pve3"]
    assert node["ready"]
    assert node["system_uuid"].lower() in uuid_of(after).lower()
    assert not node["server"]


def test_replaced_vm_keeps_its_mac_address(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    _, before = vm_of(lab, "pve3")

    homelab("--via", via)

    _, after = vm_of(lab, "pve3")
    assert before["config"]["net0"].partition(",")[0] == after["config"]["net0"].partition(",")[0]  # type: ignore[index]


def test_other_vms_are_untouched_by_a_replacement(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    before = {vmid: vm for vmid, vm in lab.snapshot()["vms"].items() if vm["node"] != "pve3"}

    homelab("--via", via)

    assert {vmid: lab.snapshot()["vms"][vmid] for vmid in before} == before


def test_stopped_server_vm_among_three_voters_is_started_not_deleted(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped-server")
    before = {vmid: uuid_of(vm) for vmid, vm in lab.snapshot()["vms"].items()}

    run = homelab("--via", via)

    after = lab.snapshot()
    assert {vmid: uuid_of(vm) for vmid, vm in after["vms"].items()} == before
    assert all(vm["status"] == "running" for vm in after["vms"].values())
    assert all(node["ready"] for node in after["k3s"]["nodes"].values())
    assert "k3s server, and only 2 etcd voter(s) are healthy" in run.text
    assert run.exit_code == 0, run.text


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
    lab.reset("unknown", state="stopped", lock="backup")

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert "locked (backup)" in run.text
    assert lab.writes == []


def test_after_a_power_cut_all_vms_are_started_and_none_deleted(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("power-cut")
    before = {vmid: uuid_of(vm) for vmid, vm in lab.snapshot()["vms"].items()}

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    after = lab.snapshot()
    assert {vmid: uuid_of(vm) for vmid, vm in after["vms"].items()} == before
    assert all(vm["status"] == "running" for vm in after["vms"].values())
    assert all(node["ready"] for node in after["k3s"]["nodes"].values())


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
    vmid, before = vm_of(lab, "pve3")

    deleted = homelab.delete("pve3", str(vmid), "--yes", "--via", via)

    assert deleted.exit_code == 0, deleted.text
    assert vmid not in lab.snapshot()["vms"]
    assert "k3s-vm-pve3" not in lab.snapshot()["k3s"]["nodes"]
    run = homelab("--via", via)
    assert run.exit_code == 0, run.text
    _, after = vm_of(lab, "pve3")
    assert uuid_of(after) != uuid_of(before)
    assert lab.snapshot()["k3s"]["nodes"]["k3s-vm-pve3"]["ready"]


def test_half_built_vm_of_an_interrupted_run_is_made_anew(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("half-built")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    names = [vm["config"]["name"] for vm in lab.snapshot()["vms"].values()]
    assert sorted(names) == ["k3s-vm-pve1", "k3s-vm-pve2", "k3s-vm-pve3"]
    assert all("homelab-unfinished" not in vm["config"]["tags"] for vm in lab.snapshot()["vms"].values())
