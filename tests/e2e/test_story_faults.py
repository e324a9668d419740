"""Stories: tls, join-fails, bridge-missing, node-down, node-join-fails."""

from __future__ import annotations

import pytest

from e2e.conftest import Homelab
from e2e.world import ALL_MEMBERS, nodes_with_running_vm, ready_members
from pvelab.lab import Lab


@pytest.mark.parametrize("fault", ["bad-certificate", "api-down"])
def test_api_that_cannot_be_used_ends_in_cli_fallback_and_the_same_state(
    lab: Lab, homelab: Homelab, fault: str
) -> None:
    for node in ("pve1", "pve2", "pve3"):
        lab.fault(fault, node=node)

    run = homelab("--via", "auto")

    assert run.exit_code == 0, run.text
    assert run.err.count("using CLI fallback") == 3
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert ready_members(lab) == ALL_MEMBERS


def test_certificate_of_one_node_concerns_only_that_node(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    lab.fault("bad-certificate", node="pve2")

    run = homelab()

    assert run.exit_code == 0, run.text
    assert "pve2: using CLI fallback" in run.err
    assert run.err.count("using CLI fallback") == 1
    assert "certificate" in run.err


def test_via_api_never_falls_back_and_names_the_settings_that_help(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    lab.fault("bad-certificate")

    run = homelab("--via", "api")

    assert run.exit_code == 1
    assert "using CLI fallback" not in run.text
    assert "certificate verify failed" in run.text
    assert "PROXMOX_FINGERPRINT_1" in run.text
    assert "PROXMOX_CA_BUNDLE" in run.text
    assert lab.writes == []


def test_unreadable_token_leaves_vms_made_and_the_next_run_joins(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.fault("join-fails", how="token-unreadable")

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert ready_members(lab) == {"k3s-server"}
    assert "token cannot be read" in run.err
    assert "K3S_EXISTING_NODE_IP" in run.err

    lab.clear_faults()
    assert homelab("--via", via).exit_code == 0
    assert ready_members(lab) == ALL_MEMBERS


def test_wrong_existing_node_ip_leaves_vms_made_and_the_next_run_joins(lab: Lab, homelab: Homelab, via: str) -> None:
    wrong = lab.network.outside(9)

    run = homelab("--via", via, K3S_EXISTING_NODE_IP=wrong)

    assert run.exit_code == 3, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert wrong in run.err
    assert "check K3S_EXISTING_NODE_IP" in run.err
    assert homelab("--via", via).exit_code == 0
    assert ready_members(lab) == ALL_MEMBERS


def test_missing_bridge_stops_that_node_only(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.fault("bridge-missing", node="pve2")

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve3"]
    assert "bridge vmbr0 is missing" in run.err
    assert "NETWORK_IFACES_2" in run.err
    assert not [request for request in lab.writes if request.node == "pve2"]
    assert ready_members(lab) == ALL_MEMBERS - {"k3s-vm-pve2"}


def test_node_that_is_down_stops_that_node_only(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.fault("node-down", node="pve2")

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve3"]
    assert "pve2" in run.err
    assert ready_members(lab) == ALL_MEMBERS - {"k3s-vm-pve2"}


def test_join_that_fails_on_one_node_leaves_the_others_joined(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.fault("join-fails", how="k3s-crash", vm="k3s-vm-pve3")

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert ready_members(lab) == ALL_MEMBERS - {"k3s-vm-pve3"}
    assert "k3s-vm-pve3 is not joined" in run.err
