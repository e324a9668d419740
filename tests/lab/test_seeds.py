"""Each seed is the situation that it is named after, seen by clients of the API and of k3s."""

from __future__ import annotations

from typing import Any

import pytest

from lab.lab_clients import api, ssh
from pvelab.catalogue import UnknownChoice
from pvelab.lab import Lab
from pvelab.spec import NoSuchNode

DAY_S = 86_400


def vms(lab: Lab) -> dict[str, dict[str, Any]]:
    """Each VM's status/current by name, with its node and configuration."""
    found: dict[str, dict[str, Any]] = {}
    for node in api(lab).nodes.get():
        for listed in api(lab).nodes(node["node"]).qemu.get():
            one = api(lab).nodes(node["node"]).qemu(listed["vmid"])
            found[listed["name"]] = one.status.current.get() | {"node": node["node"], "config": one.config.get()}
    return found


def states(lab: Lab) -> dict[str, str]:
    """Each VM's qmpstatus."""
    return {name: vm["qmpstatus"] for name, vm in vms(lab).items()}


def ready(lab: Lab) -> dict[str, bool]:
    """Each Kubernetes Node's readiness."""
    return {name: node["ready"] for name, node in lab.snapshot()["k3s"][0]["nodes"].items()}


ALL_RUN = {"k3s-vm-pve1": "running", "k3s-vm-pve2": "running", "k3s-vm-pve3": "running"}


def test_fresh_has_no_vm_and_one_server_outside(lab: Lab) -> None:
    assert vms(lab) == {}
    assert ready(lab) == {"k3s-server": True}


def test_healthy_has_two_servers_and_an_agent_all_ready(lab: Lab) -> None:
    lab.reset("healthy")
    assert states(lab) == ALL_RUN
    assert ready(lab) == dict.fromkeys(("k3s-server", *ALL_RUN), True)
    members = lab.snapshot()["k3s"][0]["members"]
    assert {name.rpartition("-")[0]: kind for name, kind in members.items()} == {
        "k3s-server": "voter",
        "k3s-vm-pve1": "voter",
        "k3s-vm-pve2": "voter",
    }


def test_healthy_vms_are_ordinary_cloud_init_vms_and_their_nodes_are_really_they(lab: Lab) -> None:
    lab.reset("healthy")
    nodes = lab.snapshot()["k3s"][0]["nodes"]
    for name, vm in vms(lab).items():
        config = vm["config"]
        assert (config["tags"], config["onboot"], config["agent"]) == ("homelab", 1, "1")
        assert "size=20G" in config["scsi0"]
        assert "cicustom" not in config
        assert config["smbios1"] == f"uuid={nodes[name]['uuid']}"


def test_healthy_guests_take_the_persons_key_and_answer_through_the_agent(lab: Lab) -> None:
    lab.reset("healthy")
    found = api(lab).nodes("pve3").qemu(102).agent("network-get-interfaces").get()
    address = found["result"][1]["ip-addresses"][0]["ip-address"]
    hostname = lab.look(lambda world: world.guests.agent(world.vms[102], "get-host-name", {}))
    assert address.startswith(lab.network.guest_prefix)
    assert hostname["host-name"] == "k3s-vm-pve3"


def test_healthy_was_built_three_days_ago_and_nothing_runs_any_more(lab: Lab) -> None:
    lab.reset("healthy")
    now = lab.look(lambda world: world.clock.now())
    tasks = api(lab).nodes("pve1").tasks.get()
    assert {task["type"] for task in tasks} == {"qmcreate", "resize", "qmstart"}
    assert all(2.9 * DAY_S < now - task["endtime"] < 3 * DAY_S for task in tasks)
    assert 2.9 * DAY_S < vms(lab)["k3s-vm-pve1"]["uptime"] < 3 * DAY_S
    assert api(lab).nodes("pve1").status.get()["uptime"] == 30 * DAY_S


def test_healthy_leaves_neither_image_nor_snippet_on_the_nodes(lab: Lab) -> None:
    lab.reset("healthy")
    assert lab.snapshot()["files"] == {"pve1": {}, "pve2": {}, "pve3": {}}
    assert lab.requests == []


def test_healthy_can_leave_nodes_out(lab: Lab) -> None:
    lab.reset("healthy", without="pve1+pve3")
    assert states(lab) == {"k3s-vm-pve2": "running"}
    assert ready(lab) == {"k3s-server": True, "k3s-vm-pve2": True}


@pytest.mark.parametrize(("by", "newest_task"), [("crash", "qmstart"), ("stop", "qmstop")])
def test_stopped_is_healthy_but_for_the_agent_vm(lab: Lab, by: str, newest_task: str) -> None:
    lab.reset("stopped", by=by)
    assert states(lab) == ALL_RUN | {"k3s-vm-pve3": "stopped"}
    assert ready(lab)["k3s-vm-pve3"] is False
    assert api(lab).nodes("pve3").tasks.get(vmid=102)[0]["type"] == newest_task


def test_stopped_server_is_healthy_but_for_one_server(lab: Lab) -> None:
    lab.reset("stopped-server")
    assert states(lab) == ALL_RUN | {"k3s-vm-pve1": "stopped"}
    assert ready(lab) == {"k3s-server": True, "k3s-vm-pve1": False, "k3s-vm-pve2": True, "k3s-vm-pve3": True}


def test_a_paused_vm_is_running_for_the_api_and_paused_for_qemu(lab: Lab) -> None:
    lab.reset("paused")
    vm = vms(lab)["k3s-vm-pve3"]
    assert (vm["status"], vm["qmpstatus"]) == ("running", "paused")
    assert ready(lab)["k3s-vm-pve3"] is False


@pytest.mark.parametrize("uptime_s", [1200, 300])
def test_after_a_power_cut_the_hosts_are_up_and_their_vms_are_not(lab: Lab, uptime_s: int) -> None:
    lab.reset("power-cut", host_uptime_s=uptime_s)
    assert set(states(lab).values()) == {"stopped"}
    assert {api(lab).nodes(node).status.get()["uptime"] for node in ("pve1", "pve2", "pve3")} == {uptime_s}
    started = api(lab).nodes("pve2").tasks.get(vmid=101, typefilter="qmstart")[0]["starttime"]
    assert started < lab.look(lambda world: world.nodes["pve2"].booted_at)


def test_a_power_cut_leaves_etcd_without_its_quorum(lab: Lab) -> None:
    lab.reset("power-cut")
    server = f"ubuntu@{lab.env['K3S_EXISTING_NODE_IP']}"
    assert ssh(lab, server, "sudo -n k3s kubectl get nodes --request-timeout=5s").returncode != 0


@pytest.mark.parametrize("state", ["io-error", "internal-error", "guest-panicked", "prelaunch"])
def test_unknown_is_a_state_of_qemu_that_one_cannot_judge(lab: Lab, state: str) -> None:
    lab.reset("unknown", state=state)
    vm = vms(lab)["k3s-vm-pve3"]
    assert (vm["status"], vm["qmpstatus"]) == ("running", state)


def test_unknown_can_also_be_a_lock(lab: Lab) -> None:
    lab.reset("unknown", lock="backup")
    assert vms(lab)["k3s-vm-pve3"]["lock"] == "backup"
    text = ssh(lab, f"root@{lab.network.node(1)}", "cat /etc/pve/nodes/pve3/qemu-server/102.conf").stdout
    assert "lock: backup\n" in text


def test_half_built_has_a_vm_that_was_never_finished(lab: Lab) -> None:
    lab.reset("half-built")
    vm = vms(lab)["k3s-vm-pve3"]
    assert (vm["status"], vm["config"]["tags"]) == ("stopped", "homelab;homelab-unfinished")
    assert "size=3584M" in vm["config"]["scsi0"]
    assert [task["type"] for task in api(lab).nodes("pve3").tasks.get(vmid=102)] == ["qmcreate"]


def test_old_env_has_the_nodes_of_the_older_scripts_example(lab: Lab) -> None:
    lab.reset("old-env")
    assert {name: lab.env[name] for name in ("NODE_1", "NODE_2", "IMG_STORAGE_2")} == {
        "NODE_1": "pve",
        "NODE_2": "fun-bedbug",
        "IMG_STORAGE_2": "local-zfs",
    }
    bridges = {
        node: [one["iface"] for one in api(lab).nodes(node).network.get(type="bridge")]
        for node in ("pve", "fun-bedbug")
    }
    assert bridges == {"pve": ["vmbr0", "vmbr1"], "fun-bedbug": ["vmbr0"]}
    lab.reset()
    assert lab.env["NODE_1"] == "pve1"


@pytest.mark.parametrize(
    ("seed", "options", "said"),
    [
        ("healthy", {"without": "nobody"}, "no node 'nobody'"),
        ("stopped", {"by": "magic"}, "by=magic: give crash or stop"),
        ("unknown", {"state": "fine"}, "state=fine: give io-error"),
        ("fresh", {"extra": "1"}, "seed fresh has no option 'extra'"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(lab: Lab, seed: str, options: dict[str, str], said: str) -> None:
    with pytest.raises((UnknownChoice, NoSuchNode), match=said):
        lab.reset(seed, **options)


def test_a_seed_is_the_same_every_time_but_for_secrets(lab: Lab) -> None:
    lab.reset("healthy")
    first = lab.snapshot()["vms"]
    lab.reset("healthy")
    assert lab.snapshot()["vms"] == first
