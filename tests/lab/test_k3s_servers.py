"""k3s servers that a seed begins with: their number, datastore and place, and how they lose and keep their quorum."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from pvelab.catalogue import UnknownChoice
from pvelab.lab import Lab
from pvelab.network import SSH_PORT

REMOVE = "etcd.k3s.cattle.io/remove=true"


def k3s(lab: Lab) -> dict[str, Any]:
    """The first cluster, as the snapshot shows it."""
    found: dict[str, Any] = lab.snapshot()["k3s"][0]
    return found


def voters(lab: Lab) -> list[str]:
    return [name.rpartition("-")[0] for name, kind in k3s(lab)["members"].items() if kind == "voter"]


def ping(lab: Lab, address: str) -> str:
    """What a server says at an address to a client that knows the cluster's CA."""
    authority = lab.folder / "k3s-ca.pem"
    authority.write_text(lab.shell("k3s-server", "cat /var/lib/rancher/k3s/server/tls/server-ca.crt"))
    return requests.get(f"https://{address}:6443/ping", verify=str(authority), timeout=5).text


@pytest.mark.parametrize("servers", [1, 2, 3, 5])
def test_so_many_servers_are_ready_voters(lab: Lab, servers: int) -> None:
    lab.reset("fresh", servers=servers)
    names = list(lab.k3s_servers)
    assert len(names) == servers and names[0] == "k3s-server"
    assert voters(lab) == names
    nodes = k3s(lab)["nodes"]
    assert all(nodes[name]["ready"] for name in names) and len({node["uuid"] for node in nodes.values()}) == servers
    assert lab.env["K3S_EXISTING_NODE_IP"] == lab.k3s_servers["k3s-server"]
    token = "cat /var/lib/rancher/k3s/server/token"
    assert len({lab.shell(name, token) for name in names}) == 1
    lines = (lab.folder / "ssh" / "known_hosts").read_text()
    assert all(f"[{address}]:{SSH_PORT} " in lines for address in lab.k3s_servers.values())


def test_sqlite_server_has_no_etcd_and_the_vms_of_a_healthy_cluster_are_agents(lab: Lab) -> None:
    lab.reset("healthy", datastore="sqlite")
    assert k3s(lab)["members"] == {}
    roles = [
        node for node, shown in k3s(lab)["nodes"].items() if "node-role.kubernetes.io/control-plane" in shown["labels"]
    ]
    assert roles == ["k3s-server"]
    assert lab.shell("k3s-server", "ls /var/lib/rancher/k3s/server/db").split() == ["state.db"]


def test_healthy_vms_are_agents_where_three_servers_are_there_already(lab: Lab) -> None:
    lab.reset("healthy", servers=3)
    assert voters(lab) == ["k3s-server", "k3s-server2", "k3s-server3"]
    assert sum(node["ready"] for node in k3s(lab)["nodes"].values()) == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"servers": 0}, "give 1 to 7"),
        ({"datastore": "postgres"}, "the lab emulates etcd and sqlite only"),
        ({"datastore": "sqlite", "servers": 2}, "SQLite has one server"),
        ({"where": "moon"}, "give outside or vm"),
        ({"vip": "yes"}, "give named or unnamed"),
        ({"flags": "flannel-backend"}, "write name=value"),
    ],
)
def test_what_the_lab_cannot_found_is_refused_by_name(lab: Lab, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownChoice, match=said):
        lab.reset("fresh", **options)


def test_flags_stand_in_every_servers_configuration(lab: Lab) -> None:
    lab.reset("fresh", servers=2, flags="flannel-backend=host-gw+disable=[servicelb]")
    for name in lab.k3s_servers:
        text = lab.shell(name, "cat /etc/rancher/k3s/config.yaml")
        assert "flannel-backend: host-gw" in text and "- servicelb" in text


def test_servers_in_vms_answer_through_the_guest_agent_where_ssh_is_refused(lab: Lab) -> None:
    lab.reset("fresh", servers=2, where="vm")
    assert lab.k3s_servers == {"k3s-server": lab.network.outside(1), "k3s-server2": lab.network.outside(2)}
    assert [vm["node"] for vm in lab.snapshot()["vms"].values()] == ["pve1", "pve2"]
    lab.fault("guest-ssh", machine="k3s-server")
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{lab.network.outside(1)}:{SSH_PORT}", timeout=2)
    said = json.loads(lab.shell("pve1", "qm guest exec 100 -- cat /var/lib/rancher/k3s/server/token"))
    assert said["out-data"] == lab.shell("k3s-server", "cat /var/lib/rancher/k3s/server/token")
    assert said["exitcode"] == 0


def test_self_founded_cluster_has_no_server_that_is_not_ours(lab: Lab) -> None:
    lab.reset("self-founded")
    assert voters(lab) == ["k3s-vm-pve1", "k3s-vm-pve2", "k3s-vm-pve3"]
    assert lab.env["K3S_EXISTING_NODE_IP"] == lab.k3s_servers["k3s-vm-pve1"]
    assert "cluster-init" in lab.shell("k3s-vm-pve1", "cat /etc/systemd/system/k3s.service")
    key = lab.shell("k3s-vm-pve1", "cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    lines = (lab.folder / "ssh" / "known_hosts").read_text()
    assert f"[{lab.k3s_servers['k3s-vm-pve1']}]:{SSH_PORT} ssh-ed25519 {key}" in lines
    lab.reset("fresh")
    assert key not in (lab.folder / "ssh" / "known_hosts").read_text()


def test_three_servers_go_on_without_one_and_answer_nothing_without_two(lab: Lab) -> None:
    lab.reset("fresh", servers=3)
    lab.fault("server-off", machine="k3s-server2")
    assert "k3s-server3" in lab.shell("k3s-server", "k3s kubectl get nodes")
    lab.fault("server-off", machine="k3s-server3")
    line = "k3s kubectl --request-timeout=5s get nodes || true"
    assert lab.shell("k3s-server", line) == ""
    assert ping(lab, lab.network.outside(1)) == "pong"
    assert "failed to get etcd MemberList" in lab.shell("k3s-server", "curl -sk https://127.0.0.1:6443/db/info")
    lab.clear_faults()
    lab.wait_until(lambda _: all(node["ready"] for node in k3s(lab)["nodes"].values()))


def test_removed_member_is_named_in_its_node_and_the_node_goes_then(lab: Lab) -> None:
    lab.reset("fresh", servers=3)
    lab.shell("k3s-server", f"k3s kubectl annotate node k3s-server3 {REMOVE}")
    lab.wait_until(lambda _: "k3s-server3" not in voters(lab))
    node = json.loads(lab.shell("k3s-server", "k3s kubectl get node k3s-server3 -o json"))
    annotations = node["metadata"]["annotations"]
    assert annotations["etcd.k3s.cattle.io/removed-node-name"].startswith("k3s-server3-")
    assert "etcd.k3s.cattle.io/node-name" not in annotations
    assert node["metadata"]["labels"]["node-role.kubernetes.io/etcd"] == "true"
    said = lab.shell("k3s-server3", "journalctl -u k3s -o cat --no-pager")
    assert "the member has been permanently removed from the cluster" in said
    lab.shell("k3s-server", "k3s kubectl delete node k3s-server3 --timeout=60s")
    assert voters(lab) == ["k3s-server", "k3s-server2"]


def test_etcdctl_is_not_shipped_and_snapshots_are_taken_by_k3s(lab: Lab) -> None:
    assert lab.shell("k3s-server", "etcdctl member list || echo $?") == "127\n"
    lab.shell("k3s-server", "k3s etcd-snapshot save")
    assert "on-demand-k3s-server-" in lab.shell("k3s-server", "k3s etcd-snapshot ls")


def test_first_server_on_a_new_disk_founds_a_second_cluster_unless_told_to_join(lab: Lab) -> None:
    lab.reset("self-founded")
    first = lab.k3s_servers["k3s-vm-pve2"]
    token = lab.shell("k3s-vm-pve2", "cat /var/lib/rancher/k3s/server/token")
    for line in ("systemctl disable --now k3s", "rm -rf /var/lib/rancher/k3s /etc/rancher/node"):
        lab.shell("k3s-vm-pve1", line)
    lab.shell("k3s-vm-pve2", "k3s kubectl delete node k3s-vm-pve1 --timeout=60s")
    lab.shell("k3s-vm-pve1", "systemctl enable --now k3s")
    assert len(lab.snapshot()["k3s"]) == 2
    assert voters(lab) == ["k3s-vm-pve2", "k3s-vm-pve3"]
    for line in ("systemctl stop k3s", "rm -rf /var/lib/rancher/k3s", "mkdir -p /etc/rancher/k3s"):
        lab.shell("k3s-vm-pve1", line)
    config = f"server: https://{first}:6443\\ntoken: {token.strip()}\\n"
    lab.shell("k3s-vm-pve1", f"printf '{config}' > /etc/rancher/k3s/config.yaml && systemctl start k3s")
    lab.wait_until(lambda _: "k3s-vm-pve1" in voters(lab))


def test_virtual_address_leads_to_a_server_that_lives(lab: Lab) -> None:
    lab.reset("fresh", servers=2, vip="named")
    assert ping(lab, lab.network.virtual) == "pong"
    lab.fault("kubernetes-api", machine="k3s-server")
    with pytest.raises(requests.ConnectionError):
        ping(lab, lab.network.outside(1))
    assert ping(lab, lab.network.virtual) == "pong"
    lab.fault("server-off", machine="k3s-server2")
    with pytest.raises(requests.ConnectionError):
        ping(lab, lab.network.virtual)


def test_virtual_address_that_is_in_no_certificate_is_not_trusted(lab: Lab) -> None:
    lab.reset("fresh", vip="unnamed")
    with pytest.raises(requests.exceptions.SSLError, match="IP address mismatch"):
        ping(lab, lab.network.virtual)
