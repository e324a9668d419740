"""Stories: fresh, healthy, new-node, no-join."""

from __future__ import annotations

from e2e.conftest import Homelab
from e2e.world import ALL_MEMBERS, ready_members, servers, voters
from pvelab.lab import Lab


def test_fresh_cluster_gets_a_joined_vm_on_every_node(lab: Lab, homelab: Homelab, via: str) -> None:
    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    vms = lab.snapshot()["vms"]
    assert [vms[vmid]["node"] for vmid in sorted(vms)] == ["pve1", "pve2", "pve3"], "VMIDs follow the order of n"
    for vm in vms.values():
        assert vm["status"] == "running"
        assert_made_as_promised(vm["config"])
    assert ready_members(lab) == ALL_MEMBERS
    assert servers(lab) == {"k3s-server", "k3s-vm-pve1", "k3s-vm-pve2"}
    assert voters(lab) == ["k3s-server", "k3s-vm-pve1", "k3s-vm-pve2"]
    assert sum("node-token" in one.what for one in lab.requests) == 1, "it is read once for all of them"


def assert_made_as_promised(config: dict[str, str]) -> None:
    """What every new VM has, on either wire."""
    assert config["scsihw"].startswith("virtio-scsi")
    assert "size=20G" in config["scsi0"]
    assert "cloudinit" in config["ide2"]
    assert config["boot"] == "order=scsi0"
    assert config["serial0"] == "socket"
    assert config["agent"].startswith("1")
    assert config["onboot"] == "1"
    assert config["ciuser"] == "ubuntu"
    assert config["sshkeys"].startswith("ssh-ed25519%20")
    assert config["ipconfig0"] == "ip=dhcp"
    assert config["ciupgrade"] == "0"
    assert "homelab" in config["tags"].split(";")
    assert "homelab-unfinished" not in config["tags"]
    assert not {"cicustom", "cipassword"} & config.keys()


def test_nics_follow_network_ifaces_of_the_node(lab: Lab, homelab: Homelab, via: str) -> None:
    homelab("--via", via, K3S_EXISTING_NODE_IP=None)

    configs = {vm["node"]: vm["config"] for vm in lab.snapshot()["vms"].values()}
    assert "bridge=vmbr0" in configs["pve1"]["net0"]
    assert "bridge=vmbr1" in configs["pve1"]["net1"]
    assert "net1" not in configs["pve2"]


def test_second_run_changes_nothing(lab: Lab, homelab: Homelab, via: str) -> None:
    homelab("--via", via)
    before, writes = lab.snapshot(), len(lab.writes)

    run = homelab("--via", via)

    assert run.exit_code == 0
    assert lab.snapshot() == before
    assert lab.writes[writes:] == []


def test_dry_run_names_what_would_be_made_and_writes_nothing(lab: Lab, homelab: Homelab, via: str) -> None:
    before = lab.snapshot()

    run = homelab("--via", via, "--dry-run")

    assert run.exit_code == 0
    assert run.out.count("create") == 3
    assert lab.snapshot() == before
    assert lab.writes == []


def test_healthy_cluster_is_skipped_without_a_write_or_download(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert run.out.count("is healthy, skipping.") == 3
    assert run.out.count("already in cluster, skipping") == 3
    assert lab.writes == []
    assert not [request for request in lab.requests if request.via == "http"]


def test_new_node_of_four_lines_gets_a_joined_vm_and_the_others_are_untouched(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("healthy", without="pve3")
    before = lab.snapshot()
    four_lines = {"NODE_3": "pve3", "STORAGE_3": "local", "CPU_RATIO_3": "0.8", "MEMORY_RATIO_3": "0.6"}
    optional = {"NETWORK_IFACES_3": None, "IMG_STORAGE_3": None}

    run = homelab("--via", via, **four_lines, **optional)

    assert run.exit_code == 0, run.text
    after = lab.snapshot()
    made = {vmid: vm for vmid, vm in after["vms"].items() if vmid not in before["vms"]}
    assert [vm["node"] for vm in made.values()] == ["pve3"]
    assert {vmid: after["vms"][vmid] for vmid in before["vms"]} == before["vms"]
    assert ready_members(lab) == ALL_MEMBERS
    assert servers(lab) == {"k3s-server", "k3s-vm-pve1", "k3s-vm-pve2"}


def test_without_existing_node_ip_vms_are_made_and_the_join_is_skipped(lab: Lab, homelab: Homelab, via: str) -> None:
    before = lab.snapshot()["k3s"]

    run = homelab("--via", via, K3S_EXISTING_NODE_IP=None)

    assert run.exit_code == 0, run.text
    assert "K3S_EXISTING_NODE_IP not set, skipping k3s join" in run.text
    assert len(lab.snapshot()["vms"]) == 3
    assert lab.snapshot()["k3s"] == before
