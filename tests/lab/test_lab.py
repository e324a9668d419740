"""The lab as others use it: started, reset, looked into, written down."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

import dotenv
import pytest
import requests

from lab.lab_clients import api, ssh, version
from pvelab import network
from pvelab.admin import SeedFailed
from pvelab.catalogue import UnknownChoice
from pvelab.lab import Lab, LabBroken, NotSettled
from pvelab.spec import LabSpec, nodes_called
from support.clock import SteppingClock


def test_every_node_answers_over_https_under_its_own_certificate(lab: Lab) -> None:
    for node in ("pve1", "pve2", "pve3"):
        assert version(lab, node).json()["data"]["version"] == "9.2.11"
    assert sorted(one["node"] for one in api(lab).nodes.get()) == ["pve1", "pve2", "pve3"]


def test_nodes_and_the_server_outside_are_reached_by_openssh_with_checked_host_keys(lab: Lab) -> None:
    nodes = [ssh(lab, f"root@{lab.network.node(number)}", "hostname").stdout for number in (1, 2, 3)]
    server = ssh(lab, f"ubuntu@{lab.env['K3S_EXISTING_NODE_IP']}", "sudo -n k3s kubectl get nodes --no-headers")
    assert nodes == ["pve1\n", "pve2\n", "pve3\n"]
    assert server.stdout.split()[:2] == ["k3s-server", "Ready"]


def test_cluster_files_are_the_same_on_every_node(lab: Lab) -> None:
    texts = {
        ssh(
            lab, f"root@{lab.network.node(number)}", "cat /etc/pve/pve-root-ca.pem /etc/pve/nodes/*/ssh_known_hosts"
        ).stdout
        for number in (1, 3)
    }
    assert len(texts) == 1
    assert Path(lab.env["PROXMOX_CA_BUNDLE"]).read_text() in texts.pop()


def test_storages_lie_on_the_nodes_that_have_them(lab: Lab) -> None:
    found = {
        node: {one["storage"]: one["type"] for one in api(lab).nodes(node).storage.get()}
        for node in ("pve1", "pve2", "pve3")
    }
    assert found == {
        "pve1": {"local": "dir", "local-lvm": "lvmthin"},
        "pve2": {"local": "dir", "local-zfs": "zfspool"},
        "pve3": {"local": "dir"},
    }


def test_hosts_have_been_up_for_thirty_days(lab: Lab) -> None:
    assert api(lab).nodes("pve2").status.get()["uptime"] == 30 * 86_400


def test_what_is_published_can_be_exchanged_and_withdrawn_until_the_next_reset(lab: Lab) -> None:
    url = lab.env["ISO_URL"].rpartition("/")[0] + "/SHA256SUMS"
    before = requests.get(url, timeout=5).text
    lab.publish("/images/SHA256SUMS", b"nothing\n")
    assert requests.get(url, timeout=5).text == "nothing\n"
    lab.publish("/images/SHA256SUMS", None)
    assert requests.get(url, timeout=5).status_code == 404
    lab.reset()
    assert requests.get(url, timeout=5).text == before


def test_a_person_at_a_machine_types_as_root_without_being_listed(lab: Lab) -> None:
    lab.reset("healthy")
    machines = ("pve2", "k3s-vm-pve3", "k3s-server")
    assert [lab.shell(name, "hostname; whoami") for name in machines] == [f"{name}\nroot\n" for name in machines]
    assert "protection: 1" in lab.shell("pve3", "qm set 102 --protection 1 && qm config 102")
    assert lab.requests == []
    with pytest.raises(SeedFailed, match="qm start 999"):
        lab.shell("pve1", "qm start 999")
    lab.shell("pve3", "qm stop 102")
    with pytest.raises(KeyError):
        lab.shell("k3s-vm-pve3", "hostname")


def test_requests_are_listed_and_only_changes_count_as_writes(lab: Lab) -> None:
    api(lab).nodes("pve1").qemu.get()
    api(lab).pools.post(poolid="mine")
    ssh(lab, f"root@{lab.network.node(2)}", "cat /etc/hostname; echo x > /root/x")
    seen = [(one.via, one.node, one.what, one.is_write, one.status) for one in lab.requests]
    assert seen == [
        ("api", "pve1", "GET /nodes/pve1/qemu", False, 200),
        ("api", "pve1", "POST /pools", True, 200),
        ("ssh", "pve2", "cat /etc/hostname; echo x > /root/x", True, 0),
    ]
    assert [one.what for one in lab.writes] == ["POST /pools", "cat /etc/hostname; echo x > /root/x"]


def test_a_reset_forgets_what_was_made_and_asked_but_keeps_keys_and_addresses(lab: Lab) -> None:
    before, env = lab.snapshot(), lab.env
    api(lab).pools.post(poolid="mine")
    api(lab).nodes("pve1").qemu.post(vmid=100, name="made")
    assert lab.snapshot() != before
    lab.reset()
    after = lab.snapshot()
    assert (after["vms"], after["pools"]) == ({}, {})
    assert lab.requests == []
    assert lab.env == env
    assert version(lab).ok


def test_a_reset_costs_less_than_three_tenths_of_a_second(lab: Lab) -> None:
    lab.reset("healthy")
    began = time.process_time()
    lab.reset("healthy")
    assert time.process_time() - began < 0.3


def test_a_lab_starts_for_less_than_a_second_of_work_and_leaves_nothing_behind() -> None:
    began = time.process_time()
    with Lab() as lab:
        took_s = time.process_time() - began
        folder = lab.folder
        assert version(lab).ok
    assert took_s < 1.0
    assert not folder.exists()


def test_two_labs_do_not_meet(lab: Lab) -> None:
    with Lab() as other:
        api(other).pools.post(poolid="theirs")
        assert [pool["poolid"] for pool in api(lab).pools.get()] == []


def test_the_written_file_has_the_variables_less_those_left_out(lab: Lab, tmp_path: Path) -> None:
    path = lab.write_env(tmp_path / ".env", K3S_EXISTING_NODE_IP=None, CLOUD_USER="me")
    read = dotenv.dotenv_values(path)
    assert read == {name: value for name, value in lab.env.items() if name != "K3S_EXISTING_NODE_IP"} | {
        "CLOUD_USER": "me"
    }


def test_everything_the_lab_writes_is_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with Lab(folder=tmp_path / "lab") as lab:
        paths = [value for value in lab.env.values() if value.startswith("/")]
        assert all(Path(path).is_relative_to(tmp_path / "lab") for path in paths)
    assert [path.name for path in tmp_path.iterdir()] == ["lab"]


def test_waiting_lets_the_labs_time_pass(lab: Lab) -> None:
    due = lab.look(lambda world: world.clock.now() + 30)
    lab.wait_until(lambda world: world.clock.now() >= due)
    with pytest.raises(NotSettled, match="not so after 2 s"):
        lab.wait_until(lambda _: False, timeout_s=2)


def test_what_is_waited_for_may_look_into_the_lab(lab: Lab) -> None:
    lab.wait_until(lambda _: lab.snapshot()["vms"] == {}, timeout_s=1)


def test_waiting_also_works_in_real_time() -> None:
    with Lab(pace=0.01) as lab:
        api(lab).nodes("pve1").qemu.post(vmid=100, name="made")
        lab.wait_until(lambda world: 100 in world.vms, timeout_s=20)


def test_a_lab_has_the_nodes_it_is_given() -> None:
    with Lab(LabSpec(nodes=nodes_called("alpha,beta,gamma,delta"))) as lab:
        assert lab.env["NODE_4"] == "delta"
        assert version(lab, "delta").ok


def test_an_unknown_seed_is_refused_and_nothing_is_left_running(lab: Lab) -> None:
    with pytest.raises(UnknownChoice, match="no seed 'nonsense'"):
        lab.reset("nonsense")
    assert version(lab).ok
    other = Lab()
    with pytest.raises(UnknownChoice):
        other.start("nonsense")
    assert not other.folder.exists()


def test_a_lab_that_finds_no_network_says_so_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_LAST_OCTET", 0)
    lab = Lab()
    with pytest.raises(network.NoNetworkFree):
        lab.start()
    assert not lab.folder.exists()


def test_the_release_of_proxmox_and_the_datastore_of_k3s_can_be_chosen() -> None:
    with Lab(LabSpec(pve_version="8.4", datastore="sqlite")) as lab:
        assert version(lab).json()["data"]["release"] == "8.4"
        assert lab.snapshot()["k3s"][0]["members"] == {}


def test_guests_are_neighbours_of_the_nodes_and_forgotten_when_they_are_off(lab: Lab) -> None:
    lab.reset("stopped")
    heard = ssh(lab, f"root@{lab.network.node(1)}", "ip neigh").stdout
    macs = [vm["config"]["net0"].split(",")[0].split("=")[1].lower() for vm in lab.snapshot()["vms"].values()]
    assert [mac in heard for mac in macs] == [True, True, False]


@pytest.mark.parametrize("is_shared", [True, False])
def test_what_fails_inside_the_lab_is_said_at_the_next_reset(is_shared: bool) -> None:
    with Lab(clock=SteppingClock() if is_shared else None) as lab:
        lab.look(lambda world: world.clock.after(1.0, lambda: world.nodes.__delitem__("nobody")))
        due = lab.look(lambda world: world.clock.now()) + (1.0 if is_shared else 0.05)
        with contextlib.suppress(KeyError):
            lab.wait_until(lambda world: world.clock.now() >= due)
        with pytest.raises(LabBroken, match="KeyError"):
            lab.reset()
        lab.reset()
