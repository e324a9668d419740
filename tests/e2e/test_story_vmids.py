"""VMIDs that others take, and such as have volumes left."""

from __future__ import annotations

from e2e.conftest import Homelab
from e2e.world import NO_JOIN, before_call
from pvelab.lab import Lab
from pvelab.rules import configs
from pvelab.state import Vm, World

# --- VMIDs -------------------------------------------------------------------------------------------------------


def test_vmid_taken_by_somebody_else_at_the_last_moment_is_left_to_them(lab: Lab, homelab: Homelab, via: str) -> None:
    def take(world: World) -> None:
        if 100 not in world.vms:
            configs.add(world, Vm(100, "pve2", {"name": "theirs", "memory": "512"}, world.clock.now()))

    before_call(lab, "POST", "/nodes/pve1/qemu", take)

    run = homelab("--via", via, NODE_ENABLED_2="0", NODE_ENABLED_3="0", **NO_JOIN)

    assert run.exit_code == 0, run.text
    vms = lab.snapshot()["vms"]
    assert {vmid: vm["config"]["name"] for vmid, vm in vms.items()} == {100: "theirs", 101: "k3s-vm-pve1"}


def test_where_the_configured_vmid_is_taken_meanwhile_no_other_is_used(lab: Lab, homelab: Homelab, via: str) -> None:
    def take(world: World) -> None:
        if 300 not in world.vms:
            configs.add(world, Vm(300, "pve2", {"name": "theirs", "memory": "512"}, world.clock.now()))

    before_call(lab, "POST", "/nodes/pve1/qemu", take)

    run = homelab("--via", via, VMID_1="300", NODE_ENABLED_2="0", NODE_ENABLED_3="0", **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert "VM 300 already exists" in run.err
    assert [vm["config"]["name"] for vm in lab.snapshot()["vms"].values()] == ["theirs"]


def test_where_every_vmid_is_taken_first_the_node_gives_up(lab: Lab, homelab: Homelab, via: str) -> None:
    def take(world: World) -> None:
        vmid = max(world.vms, default=99) + 1
        configs.add(world, Vm(vmid, "pve2", {"name": f"theirs-{vmid}", "memory": "512"}, world.clock.now()))

    before_call(lab, "POST", "/nodes/pve1/qemu", take)

    run = homelab("--via", via, NODE_ENABLED_2="0", NODE_ENABLED_3="0", **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert "pve1: no VMID could be taken" in run.err
    assert "k3s-vm-pve1" not in {vm["config"]["name"] for vm in lab.snapshot()["vms"].values()}


def test_vmid_with_leftover_volumes_is_passed_over(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.shell("pve1", "pvesm alloc local-lvm 100 vm-100-disk-7 1G")

    run = homelab("--via", via, NODE_ENABLED_2="0", NODE_ENABLED_3="0", **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert list(lab.snapshot()["vms"]) == [101]
    assert "local-lvm:vm-100-disk-7" in lab.snapshot()["volumes"]["pve1/local-lvm"]


def test_where_no_vmid_is_free_of_leftovers_the_storage_is_named(lab: Lab, homelab: Homelab, via: str) -> None:
    for vmid in range(100, 122):
        lab.shell("pve1", f"pvesm alloc local-lvm {vmid} vm-{vmid}-disk-7 1G")

    run = homelab("--via", via, NODE_ENABLED_2="0", NODE_ENABLED_3="0", **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert "pve1: no VMID is free of leftovers: volumes of deleted VMs are left on local-lvm, from 100 on" in run.err
    assert "pvesm free VOLUME" in run.err
    assert lab.snapshot()["vms"] == {}
