"""A cluster that is not at its best: no quorum, no /etc/pve, statistics that lag behind, ids that nobody reserved."""

from __future__ import annotations

import pytest
import requests
from proxmoxer import ProxmoxAPI, ResourceException

from lab.lab_clients import address, api, ended, ssh
from pvelab.lab import Lab

NODES = ("pve1", "pve2", "pve3")


@pytest.fixture
def pve(lab: Lab) -> ProxmoxAPI:
    return api(lab)


def make(lab: Lab, vmid: int = 100, **options: str) -> None:
    assert ended(lab, api(lab).nodes("pve1").qemu.post(vmid=vmid, **options)) == "OK"


def refusal(call: object, **params: object) -> str:
    with pytest.raises(ResourceException) as refused:
        call(**params)  # type: ignore[operator]
    return str(refused.value.content)


def on_node(lab: Lab, command: str, node: str = "pve1") -> tuple[int, str, str]:
    done = ssh(lab, f"root@{address(lab, node)}", command)
    return done.returncode, done.stdout, done.stderr


def wait_s(lab: Lab, seconds: float) -> None:
    due = lab.look(lambda world: world.clock.now()) + seconds
    lab.wait_until(lambda world: world.clock.now() >= due, timeout_s=seconds + 60)


def shown(pve: ProxmoxAPI, vmid: int = 100) -> dict[str, object]:
    """A VM among the cluster's resources."""
    [vm] = (one for one in pve.cluster.resources.get(type="vm") if one["vmid"] == vmid)
    return dict(vm)


# --- without a majority ---


def test_without_quorum_each_member_sees_itself_alone(lab: Lab, pve: ProxmoxAPI) -> None:
    lab.fault("no-quorum")
    head, *members = pve.cluster.status.get()
    assert (head["quorate"], {one["name"]: one["online"] for one in members}) == (0, {"pve1": 1, "pve2": 0, "pve3": 0})
    states = {one["node"]: one["status"] for one in api(lab, "pve2").nodes.get()}
    assert states == {"pve1": "offline", "pve2": "online", "pve3": "offline"}
    shown_by_pvecm = on_node(lab, "pvecm status")[1]
    assert "Quorate:          No" in shown_by_pvecm and "Total votes:      1" in shown_by_pvecm


def test_without_quorum_everything_that_writes_is_refused_in_its_own_way(lab: Lab, pve: ProxmoxAPI) -> None:
    make(lab, scsi0="local-lvm:1")
    before = lab.snapshot()
    lab.fault("no-quorum")
    vm = pve.nodes("pve1").qemu(100)
    read_only = r"unable to open file '/etc/pve/nodes/pve1/qemu-server/100.conf.tmp."
    assert refusal(pve.nodes("pve1").qemu.post, vmid=101) == "cluster not ready - no quorum?"
    assert refusal(vm.status.start.post) == "cluster not ready - no quorum?"
    assert refusal(vm.config.put, onboot=1).startswith(read_only)
    assert refusal(pve.pools.post, poolid="lock") == "create pool failed: cfs-lock 'file-user_cfg' error: no quorum!"
    said = refusal(pve.storage("local").put, content="iso")
    assert said == "update storage failed: cfs-lock 'file-storage_cfg' error: no quorum!"
    assert lab.snapshot() == before
    code, _, said = on_node(lab, "qm set 100 --onboot 1")
    assert code != 0 and said.startswith(read_only) and said.endswith("- Permission denied\n")


def test_without_quorum_a_vm_loses_its_disks_and_stays(lab: Lab, pve: ProxmoxAPI) -> None:
    make(lab, scsi0="local-lvm:1")
    lab.fault("no-quorum")
    outcome = ended(lab, pve.nodes("pve1").qemu(100).delete())
    assert outcome.startswith("unable to open file") and outcome.endswith("Permission denied")
    assert pve.nodes("pve1").storage("local-lvm").content.get() == []
    assert pve.nodes("pve1").qemu(100).config.get()["scsi0"].startswith("local-lvm:vm-100-disk-0")


def test_without_quorum_a_disk_grows_and_the_configuration_does_not_know(lab: Lab, pve: ProxmoxAPI) -> None:
    make(lab, scsi0="local-lvm:1")
    lab.fault("no-quorum")
    assert "Permission denied" in ended(lab, pve.nodes("pve1").qemu(100).resize.put(disk="scsi0", size="2G"))
    [volume] = pve.nodes("pve1").storage("local-lvm").content.get()
    assert (volume["size"], pve.nodes("pve1").qemu(100).config.get()["scsi0"][-2:]) == (2 << 30, "1G")


def test_two_of_three_members_are_a_majority_one_is_not(lab: Lab, pve: ProxmoxAPI) -> None:
    lab.fault("node-down", node="pve3")
    make(lab, 100)
    lab.fault("node-down", node="pve2")
    assert refusal(pve.nodes("pve1").qemu.post, vmid=101) == "cluster not ready - no quorum?"


# --- without the cluster file system ---


def test_an_empty_etc_pve_leaves_nobody_to_ask(lab: Lab, pve: ProxmoxAPI) -> None:
    make(lab)
    lab.fault("config-missing", node="pve1")
    assert on_node(lab, "ls /etc/pve") == (0, "", "")
    ipc = "".join(f"ipcc_send_rec[{number}] failed: Connection refused\n" for number in (1, 2, 3))
    broken = (111, "", f"{ipc}Unable to load access control list: Connection refused\n")
    for command in ("qm list", "pvesm status", "pvesh get /version"):
        assert on_node(lab, command) == broken
    said = "RPCEnvironment init request failed: Unable to load access control list: Connection refused"
    assert refusal(pve.version.get) == said
    assert refusal(api(lab, "pve2").nodes("pve1").qemu.get) == said


def test_the_other_members_hold_a_node_without_it_for_offline_and_go_on(lab: Lab) -> None:
    make(lab)
    lab.fault("config-missing", node="pve1")
    other = api(lab, "pve2")
    assert {one["node"]: one["status"] for one in other.nodes.get()}["pve1"] == "offline"
    assert on_node(lab, "cat /etc/pve/nodes/pve1/qemu-server/100.conf", "pve2")[0] == 0
    assert ended(lab, other.nodes("pve2").qemu.post(vmid=101)) == "OK"
    lab.clear_faults()
    assert [vm["vmid"] for vm in api(lab).nodes("pve1").qemu.get()] == [100]


# --- statistics ---


def test_a_new_vm_has_neither_name_nor_state_until_the_daemon_has_looked(lab: Lab, pve: ProxmoxAPI) -> None:
    make(lab, name="web", tags="a")
    expected = {"id": "qemu/100", "node": "pve1", "type": "qemu", "vmid": 100, "tags": "a", "status": "unknown"}
    assert shown(pve) == expected
    wait_s(lab, 10)
    assert (shown(pve)["name"], shown(pve)["status"]) == ("web", "stopped")


def test_a_power_change_shows_there_some_seconds_late(lab: Lab, pve: ProxmoxAPI) -> None:
    make(lab, name="web")
    wait_s(lab, 20)
    ended(lab, pve.nodes("pve1").qemu(100).status.start.post())
    assert pve.nodes("pve1").qemu(100).status.current.get()["status"] == "running"
    assert (shown(pve)["status"], shown(pve)["uptime"]) == ("stopped", 0)
    wait_s(lab, 10)
    assert shown(pve)["status"] == "running"
    ended(lab, pve.nodes("pve1").qemu(100).status.stop.post())
    assert shown(pve)["status"] == "running"
    wait_s(lab, 10)
    assert shown(pve)["status"] == "stopped"


def test_a_removed_vm_is_gone_from_there_at_once(lab: Lab, pve: ProxmoxAPI) -> None:
    make(lab)
    ended(lab, pve.nodes("pve1").qemu(100).delete())
    assert pve.cluster.resources.get(type="vm") == []


def test_vms_of_a_lost_node_seem_to_run_for_five_minutes(lab: Lab, pve: ProxmoxAPI) -> None:
    assert ended(lab, pve.nodes("pve3").qemu.post(vmid=100, name="web", start="1")) == "OK"
    wait_s(lab, 30)
    lab.fault("node-down", node="pve3")
    assert (shown(pve)["status"], shown(pve)["name"]) == ("running", "web")
    [lost] = (one for one in pve.nodes.get() if one["node"] == "pve3")
    assert (lost["status"], "maxmem" in lost, "uptime" in lost) == ("offline", True, False)
    wait_s(lab, 300)
    assert shown(pve) == {"id": "qemu/100", "node": "pve3", "type": "qemu", "vmid": 100, "status": "unknown"}
    [lost] = (one for one in pve.nodes.get() if one["node"] == "pve3")
    assert "maxmem" not in lost


# --- ids ---


def test_nextid_reserves_nothing(lab: Lab, pve: ProxmoxAPI) -> None:
    assert [pve.cluster.nextid.get() for _ in range(2)] == ["100", "100"]
    upid = pve.nodes("pve1").qemu.post(vmid=100)
    assert pve.cluster.nextid.get() == "101"
    said = refusal(api(lab, "pve2").nodes("pve2").qemu.post, vmid=100)
    assert said == "unable to create VM 100 - VM 100 already exists on node 'pve1'"
    assert ended(lab, upid) == "OK"


def test_a_request_for_a_lost_node_is_answered_by_the_one_that_took_it(lab: Lab, pve: ProxmoxAPI) -> None:
    assert ended(lab, pve.nodes("pve3").qemu.post(vmid=100)) == "OK"
    lab.fault("node-down", node="pve3")
    assert refusal(pve.nodes("pve3").qemu.get) == "No route to host"
    assert pve.nodes("pve3").qemu(100).firewall.rules.get() == []
    lab.clear_faults()
    lab.fault("api-down", node="pve3")
    assert refusal(pve.nodes("pve3").qemu.get) == "Connection refused"
    lab.clear_faults()
    lab.fault("api-down", node="pve3", mode="hang")
    assert refusal(pve.nodes("pve3").qemu.get) == "Connection timed out"


def test_an_upload_for_a_lost_node_is_refused_by_the_one_that_took_it(lab: Lab) -> None:
    lab.fault("node-down", node="pve3")
    answer = requests.post(
        f"https://{address(lab)}:{lab.env['PROXMOX_PORT']}/api2/json/nodes/pve3/storage/local/upload",
        data={"content": "iso"},
        files={"filename": ("a.iso", b"iso")},
        headers={"Authorization": f"PVEAPIToken={lab.env['API_TOKEN']}"},
        verify=lab.env["PROXMOX_CA_BUNDLE"],
        timeout=5,
    )
    assert answer.status_code == 500
    assert answer.reason.startswith("can't activate storage 'local' on node 'pve3': command '/usr/bin/ssh ")
    assert on_node(lab, "ls /var/tmp") == (0, "", "")
