"""Members that are ill, and what machines that are gone have left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.conftest import Homelab
from e2e.world import (
    ALL_MEMBERS,
    NAME,
    cluster,
    guests,
    k3s,
    ready_members,
    take_out,
    uuid_of,
    uuids,
    vm_on,
    voters,
)
from homelab.proxmox.client import Proxmox
from pvelab.guest import kube_nodes
from pvelab.lab import Lab
from pvelab.state import World

# --- members that are ill, and ghosts ----------------------------------------------------------------------------


def is_not_ready(name: str) -> Callable[[World], bool]:
    def look(world: World) -> bool:
        node = cluster(world).store.find("nodes", name)
        return node is not None and not kube_nodes.is_ready(node)

    return look


@pytest.mark.parametrize(("name", "unit"), [(NAME, "k3s-agent"), ("k3s-vm-pve1", "k3s")])
def test_member_whose_service_was_stopped_is_ready_again(lab: Lab, homelab: Homelab, name: str, unit: str) -> None:
    lab.reset("healthy")
    before = uuids(lab)
    lab.shell(name, f"systemctl stop {unit}")
    lab.wait_until(is_not_ready(name))

    run = homelab()

    assert run.exit_code == 0, run.text
    assert f"{name} is Ready again" in run.out
    assert ready_members(lab) == ALL_MEMBERS
    assert uuids(lab) == before
    assert lab.shell(name, f"systemctl is-enabled {unit}") == "enabled\n"


def test_ghost_of_an_earlier_machine_is_removed_and_the_new_one_joins(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    lab.shell("pve1", "qm stop 100 && qm destroy 100")
    lab.wait_until(is_not_ready("k3s-vm-pve1"))

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == ALL_MEMBERS
    _, vm = vm_on(lab, "pve1")
    assert k3s(lab)["nodes"]["k3s-vm-pve1"]["uuid"] == uuid_of(vm)
    assert voters(lab) == ["k3s-server", "k3s-vm-pve1", "k3s-vm-pve2"]


def test_node_that_is_not_ready_stays_while_its_machine_is_still_a_vm(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    lab.shell("pve1", "qm set 100 --name parked && qm stop 100")
    lab.wait_until(is_not_ready("k3s-vm-pve1"))
    before = k3s(lab)

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert "the Node k3s-vm-pve1 is that of another VM, which is still there: VM 100 on pve1" in run.err
    assert "scripts/delete_vm.py pve1 100" in run.err
    assert (k3s(lab)["nodes"], k3s(lab)["members"]) == (before["nodes"], before["members"])


def test_token_that_does_not_see_all_vms_proves_no_machine_gone(
    lab: Lab, homelab: Homelab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.reset("healthy")
    lab.shell("pve1", "qm stop 100 && qm destroy 100")
    lab.wait_until(is_not_ready("k3s-vm-pve1"))
    answers = iter([True])
    monkeypatch.setattr(Proxmox, "sees_all_vms", lambda _: next(answers, False))

    run = homelab("--via", "api")

    assert run.exit_code == 3, run.text
    assert "the Node k3s-vm-pve1 of another machine is not Ready, and cannot be removed" in run.err
    assert "k3s-vm-pve1" in k3s(lab)["nodes"]


def test_vm_that_is_a_member_under_another_name_is_not_joined_again(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    before = k3s(lab)
    lab.shell("pve3", "qm set 102 --name worker")

    run = homelab("--via", via, VM_NAME_3="worker")

    assert run.exit_code == 3, run.text
    assert f"worker is not joined: the VM is in the cluster already, under the name {NAME}" in run.err
    assert k3s(lab)["nodes"] == before["nodes"]
    assert ready_members(lab) == ALL_MEMBERS


def test_name_of_a_ready_member_is_not_taken_from_it(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)
    lab.shell("pve3", "qm set 102 --name k3s-server")
    before = k3s(lab)["nodes"]["k3s-server"]

    run = homelab(VM_NAME_3="k3s-server")

    assert run.exit_code == 3, run.text
    assert "k3s-server is not joined: another machine is a Ready member under the name k3s-server" in run.err
    assert "rename one of the two (VM_NAME_n)" in run.err
    assert k3s(lab)["nodes"]["k3s-server"] == before


def test_vm_under_the_name_of_a_ready_member_is_started_and_not_deleted(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    lab.look(lambda world: world.vms[vmid].config.update(name="k3s-server"))
    before = uuids(lab)

    run = homelab("--via", via, VM_NAME_3="k3s-server")

    assert run.exit_code == 3, run.text
    assert uuids(lab) == before
    assert "another machine is a Ready member under the name k3s-server" in run.out


def test_existing_server_is_asked_again_while_it_boots_after_a_power_cut(lab: Lab, homelab: Homelab) -> None:
    lab.reset("power-cut")
    before = uuids(lab)

    def cut(world: World) -> None:
        def comes_back() -> None:
            guests(world).existing_on()

        guests(world).existing_off()
        world.clock.after(100.0, comes_back)

    lab.look(cut)

    run = homelab()

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    lab.wait_until(lambda world: all(map(kube_nodes.is_ready, cluster(world).store.list("nodes"))))


def test_role_that_a_killed_run_did_not_write_on_the_vm_is_written_by_the_next(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    assert homelab().exit_code == 0
    assert lab.writes == []
    vmid, _ = vm_on(lab, "pve3")
    lab.shell("pve3", f"qm set {vmid} --tags 'homelab;homelab-unfinished'")

    run = homelab()

    assert run.exit_code == 0, run.text
    assert f"{NAME} already in cluster, skipping" in run.out
    assert vm_on(lab, "pve3")[1]["config"]["tags"] == "homelab;homelab-agent"
    before = len(lab.writes)
    assert homelab().exit_code == 0
    assert len(lab.writes) == before
