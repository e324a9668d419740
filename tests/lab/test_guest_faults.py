"""Faults of single guests and of the k3s cluster show as the real trouble does: exit codes, journal, objects."""

from __future__ import annotations

import json
import socket
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from pvelab.catalogue import UnknownChoice
from pvelab.lab import Lab
from pvelab.network import SSH_PORT

NAME = "k3s-vm-pve3"
"""A VM that is there and no member yet."""
TOKEN = "/var/lib/rancher/k3s/server/token"
BOOTSTRAP = "Error: preparing server: failed to bootstrap cluster data: "


@pytest.fixture
def booted(lab: Lab) -> Lab:
    """A cluster of one server, and the VM of the last node ready to join."""
    lab.reset("unjoined")
    return lab


def join(lab: Lab, role: str = "agent", *, server: str = "", config: str = "", has_token: bool = True) -> None:
    """Install k3s in the VM and start it without waiting."""
    address = server or lab.k3s_servers["k3s-server"]
    token = lab.shell("k3s-server", f"cat {TOKEN}").strip()
    text = f"server: https://{address}:6443\\n" + (f"token: {token}\\n" if has_token else "") + config
    lab.shell(NAME, f"mkdir -p /etc/rancher/k3s; umask 077; printf '{text}' > /etc/rancher/k3s/config.yaml")
    source = f"INSTALL_K3S_ARTIFACT_URL={lab.env['K3S_ARTIFACT_URL']} INSTALL_K3S_VERSION=v1.33.5+k3s1"
    lab.shell(NAME, f"curl -sfo /root/i.sh {lab.env['K3S_INSTALL_URL']}")
    lab.shell(NAME, f"{source} INSTALL_K3S_SKIP_START=true INSTALL_K3S_EXEC={role} sh /root/i.sh")
    lab.shell(NAME, f"systemctl restart --no-block {unit(role)}")


def unit(role: str) -> str:
    return "k3s" if role == "server" else "k3s-agent"


def passes(lab: Lab, seconds: float) -> None:
    """Let the lab's time pass, in small steps."""
    end = lab.look(lambda world: world.clock.now()) + seconds
    lab.wait_until(lambda world: world.clock.now() >= end, seconds + 60)


def journal(lab: Lab, role: str = "agent", seconds: float = 20) -> str:
    """What k3s has said some time from now."""
    passes(lab, seconds)
    return lab.shell(NAME, f"journalctl -u {unit(role)} -o cat --no-pager")


def is_ready(lab: Lab, name: str = NAME) -> bool:
    node = lab.snapshot()["k3s"][0]["nodes"].get(name)
    return bool(node and node["ready"])


def test_ssh_of_a_guest_is_refused_or_hangs_over_reboots_and_its_agent_answers(lab: Lab) -> None:
    lab.reset("healthy")
    address = lab.shell(NAME, "hostname -I").split()[0]
    lab.fault("guest-ssh", machine=NAME)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, SSH_PORT), timeout=2)
    lab.shell("pve3", "qm stop 102; qm start 102")
    passes(lab, 40)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, SSH_PORT), timeout=2)
    assert json.loads(lab.shell("pve3", "qm guest exec 102 -- hostname"))["out-data"] == f"{NAME}\n"
    lab.clear_faults()
    socket.create_connection((address, SSH_PORT), timeout=2).close()
    lab.fault("guest-ssh", machine=NAME, mode="hang")
    with pytest.raises(TimeoutError):
        socket.create_connection((address, SSH_PORT), timeout=0.2)


@pytest.mark.parametrize(("mode", "code", "said"), [("drop", 28, "deadline exceeded"), ("reject", 7, "refused")])
def test_wall_keeps_a_guest_from_the_server(booted: Lab, mode: str, code: int, said: str) -> None:
    booted.fault("wall", machine=NAME, mode=mode)
    url = f"https://{booted.k3s_servers['k3s-server']}:6443/ping"
    assert booted.shell(NAME, f"curl -sk --connect-timeout 5 {url} || echo $?") == f"{code}\n"
    join(booted)
    assert said in journal(booted)
    booted.clear_faults()
    booted.wait_until(lambda _: is_ready(booted))


def test_etcd_of_a_server_that_runs_wants_a_certificate_of_whoever_asks(booted: Lab) -> None:
    asked = f"curl -sk --max-time 5 https://{booted.k3s_servers['k3s-server']}"
    assert booted.shell(NAME, f"for port in 2379 2380 2381; do {asked}:$port; echo $?; done") == "56\n56\n7\n"


def test_server_that_reaches_no_peer_stays_a_learner_and_is_taken_out(booted: Lab) -> None:
    booted.fault("wall", machine=NAME, port=2380)
    assert (
        booted.shell(NAME, f"curl -sk --max-time 5 https://{booted.k3s_servers['k3s-server']}:2380; echo $?") == "28\n"
    )
    join(booted, "server")
    assert "learner management: context deadline exceeded" in journal(booted, "server")
    assert list(booted.snapshot()["k3s"][0]["members"].values()) == ["voter", "learner"]
    booted.shell(NAME, "sleep 290")
    booted.wait_until(lambda _: len(booted.snapshot()["k3s"][0]["members"]) == 1)


def test_clock_that_is_wrong_shows_and_k3s_trusts_no_certificate_from_its_future(booted: Lab) -> None:
    booted.fault("clock-skew", machine=NAME, seconds=-30 * 86_400)
    ahead = int(booted.shell("k3s-server", "date +%s")) - int(booted.shell(NAME, "date +%s"))
    assert abs(ahead - 30 * 86_400) <= 1
    assert booted.shell(NAME, "timedatectl show -p NTPSynchronized --value") == "no\n"
    shown = booted.shell(NAME, f"curl -ski https://{booted.k3s_servers['k3s-server']}:6443/ping")
    dated = next(line.partition(": ")[2] for line in shown.splitlines() if line.startswith("Date: "))
    assert abs(parsedate_to_datetime(dated).timestamp() - int(booted.shell("k3s-server", "date +%s"))) <= 1
    join(booted)
    assert "x509: certificate has expired or is not yet valid: current time" in journal(booted)


def test_small_skew_keeps_nobody_from_an_old_cluster(booted: Lab) -> None:
    booted.fault("clock-skew", machine=NAME, seconds=-600)
    join(booted)
    booted.wait_until(lambda _: is_ready(booted))


def test_guest_without_a_default_route_has_none_and_k3s_ends(booted: Lab) -> None:
    assert booted.shell(NAME, "ip -4 route show default").startswith("default via ")
    booted.fault("no-default-route", machine=NAME)
    assert booted.shell(NAME, "ip -4 route show default") == ""
    assert "scope link" in booted.shell(NAME, "ip route")
    join(booted)
    assert 'level=fatal msg="Error: no default routes found in' in journal(booted)


def test_full_disk_takes_no_file_and_k3s_cannot_unpack_itself(booted: Lab) -> None:
    booted.fault("guest-disk-full", machine=NAME)
    assert "No space left" in booted.shell(NAME, "head -c 60000000 /dev/zero 2>&1 > /root/f || true")
    join(booted)
    assert "no space left on device" in journal(booted)
    booted.clear_faults()
    booted.wait_until(lambda _: is_ready(booted))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("memory-cgroup", 'level=fatal msg="failed to find memory cgroup (v2)"'),
        ("containerd", 'level=error msg="containerd exited: exit status 1"'),
    ],
)
def test_k3s_ends_again_and_again_where_its_machine_is_wanting(booted: Lab, kind: str, said: str) -> None:
    booted.fault("k3s-trouble", kind=kind, machine=NAME)
    join(booted)
    assert said in journal(booted)
    assert int(booted.shell(NAME, "systemctl show -p NRestarts --value k3s-agent")) >= 1
    assert not is_ready(booted)


@pytest.mark.parametrize(
    ("kind", "reason", "said"),
    [
        ("apparmor", "CreateContainerError", "get apparmor_parser version"),
        ("no-registry", "ErrImagePull", "registry-1.docker.io"),
    ],
)
def test_node_is_ready_but_its_containers_do_not_start(booted: Lab, kind: str, reason: str, said: str) -> None:
    booted.fault("k3s-trouble", kind=kind, machine=NAME)
    join(booted)
    booted.wait_until(lambda _: is_ready(booted))
    assert said in journal(booted, seconds=10)
    table = booted.shell("k3s-server", f"k3s kubectl get pods -A --field-selector spec.nodeName={NAME}")
    assert reason in table


def test_images_that_were_pushed_make_a_registry_needless(booted: Lab) -> None:
    booted.fault("k3s-trouble", kind="no-registry", machine=NAME)
    folder, name = "/var/lib/rancher/k3s/agent/images", "k3s-airgap-images-amd64.tar.zst"
    url = f"{booted.env['K3S_ARTIFACT_URL']}/v1.33.5%2Bk3s1/{name}"
    booted.shell(NAME, f"mkdir -p {folder} && curl -sfo {folder}/{name} {url}")
    join(booted)
    booted.wait_until(lambda _: is_ready(booted))
    assert f"Imported images from {folder}/{name}" in journal(booted)
    pods = json.loads(
        booted.shell("k3s-server", f"k3s kubectl get pods -A -o json --field-selector spec.nodeName={NAME}")
    )
    assert [pod["status"]["phase"] for pod in pods["items"]] == ["Running"]


def test_archive_of_another_release_is_no_help(booted: Lab) -> None:
    booted.fault("k3s-trouble", kind="no-registry", machine=NAME)
    booted.shell(NAME, "mkdir -p /var/lib/rancher/k3s/agent/images")
    booted.shell(NAME, "echo half > /var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst")
    join(booted)
    assert "Error encountered while importing" in journal(booted)


def test_node_that_was_ready_is_not_for_a_while(booted: Lab) -> None:
    booted.fault("node-flaps", machine=NAME, after=10, seconds=30)
    join(booted)
    booted.wait_until(lambda _: is_ready(booted))
    booted.wait_until(lambda _: not is_ready(booted), 15)
    shown = booted.shell("k3s-server", f"k3s kubectl get node {NAME} -o json")
    assert "container runtime is down" in shown and "node.kubernetes.io/not-ready" in shown
    booted.wait_until(lambda _: is_ready(booted), 40)


@pytest.mark.parametrize(("how", "code"), [("error", 1), ("degraded", 2), ("hang", 124)])
def test_cloud_init_of_the_next_boot_ends_so(lab: Lab, how: str, code: int) -> None:
    lab.reset("half-built")
    lab.fault("cloud-init", machine=NAME, how=how)
    lab.shell("pve3", "qm start 102")
    passes(lab, 60)
    assert lab.shell(NAME, "timeout 20 cloud-init status --wait > /root/said; echo $?") == f"{code}\n"


def test_lock_of_apt_stops_apt_get_and_the_packages_of_cloud_init(lab: Lab) -> None:
    lab.reset("half-built")
    lab.fault("apt-lock", machine=NAME)
    lab.shell("pve3", "qm set 102 --cicustom vendor=local:snippets/guest-agent.yaml; qm start 102")
    passes(lab, 60)
    assert "Could not get apt lock" in lab.shell(NAME, "cloud-init status --long; true")
    line = "apt-get -y -o DPkg::Lock::Timeout=3 install curl 2>&1 || echo $?"
    assert "Could not get lock /var/lib/dpkg/lock-frontend" in lab.shell(NAME, line)
    lab.clear_faults()
    lab.shell(NAME, "apt-get -y install qemu-guest-agent")
    assert "100" in lab.shell(NAME, "apt-get install nonsense 2>/dev/null || echo $?")
    lab.shell("pve3", "qm agent 102 ping")


def test_guest_boots_with_a_name_that_is_not_its_own(lab: Lab) -> None:
    lab.reset("half-built")
    lab.fault("guest-hostname", machine=NAME)
    lab.shell("pve3", "qm start 102")
    passes(lab, 60)
    assert lab.shell(NAME, "hostname") == "ubuntu\n"


def test_offload_of_checksums_can_be_seen_and_ended(booted: Lab) -> None:
    assert booted.shell(NAME, "ethtool -k flannel.1 2>&1 || echo $?").endswith("75\n")
    join(booted)
    booted.wait_until(lambda _: is_ready(booted))
    assert "tx-checksum-ip-generic: on" in booted.shell(NAME, "ethtool -k flannel.1")
    booted.shell(NAME, "ethtool -K flannel.1 tx-checksum-ip-generic off")
    assert "tx-checksum-ip-generic: off" in booted.shell(NAME, "ethtool -k flannel.1")


def test_guest_that_gets_a_new_lease_is_the_same_machine_at_another_address(lab: Lab) -> None:
    lab.reset("healthy")
    before = lab.shell(NAME, "hostname -I")
    lab.fault("new-address", machine=NAME)
    passes(lab, 60)
    after = lab.shell(NAME, "hostname -I")
    assert after != before
    shown = lab.shell("k3s-server", f"k3s kubectl get node {NAME} -o wide --no-headers").split()
    assert shown[1] == "Ready" and shown[5] == after.strip()


@pytest.mark.parametrize(("servers", "is_left"), [(1, False), (3, True)])
def test_server_with_a_new_address_is_no_member_of_its_etcd(lab: Lab, servers: int, is_left: bool) -> None:
    lab.reset("fresh", servers=servers)
    first = list(lab.k3s_servers)[-1]
    lab.fault("new-address", machine=first)
    passes(lab, 30)
    assert "this server is a not a member of the etcd cluster. Found [" in lab.shell(
        first, "journalctl -u k3s -o cat --no-pager"
    )
    assert lab.shell(first, "systemctl is-active k3s || true") == "activating\n"
    if is_left:
        assert "NotReady" not in lab.shell("k3s-server", "k3s kubectl get nodes k3s-server2")


def test_sqlite_server_with_a_new_address_goes_on_there(lab: Lab) -> None:
    lab.reset("fresh", datastore="sqlite")
    lab.fault("new-address", machine="k3s-server")
    passes(lab, 30)
    shown = lab.shell("k3s-server", "k3s kubectl get node k3s-server -o wide --no-headers").split()
    assert (shown[1], shown[5]) == ("Ready", lab.network.moved(1))


@pytest.mark.parametrize(
    ("how", "said"), [("missing", "Download failed"), ("wrong-checksum", "Download sha256 does not match")]
)
def test_release_that_cannot_be_had_whole_is_not_installed(booted: Lab, how: str, said: str) -> None:
    booted.fault("k3s-download", how=how)
    source = f"INSTALL_K3S_ARTIFACT_URL={booted.env['K3S_ARTIFACT_URL']} INSTALL_K3S_VERSION=v1.33.5+k3s1"
    booted.shell(NAME, f"curl -sfo /root/i.sh {booted.env['K3S_INSTALL_URL']}")
    line = f"{source} INSTALL_K3S_EXEC=agent sh /root/i.sh 2>&1 || true"
    assert said in booted.shell(NAME, line)


# --- what is as k3s has it, with no fault -------------------------------------------------------------------------


def test_labels_of_the_configuration_are_those_of_the_new_node(booted: Lab) -> None:
    join(booted, config="node-label: [topology.kubernetes.io/zone=pve3, rack=a]\\n")
    booted.wait_until(lambda _: is_ready(booted))
    labels = booted.snapshot()["k3s"][0]["nodes"][NAME]["labels"]
    assert (labels["topology.kubernetes.io/zone"], labels["rack"]) == ("pve3", "a")


@pytest.mark.parametrize(("role", "said"), [("agent", ""), ("server", "/v1-k3s/server-bootstrap: 403 Forbidden")])
def test_token_for_agents_joins_agents_only(lab: Lab, role: str, said: str) -> None:
    lab.reset("unjoined", flags="agent-token=for-agents")
    assert "::node:for-agents" in lab.shell("k3s-server", "cat /var/lib/rancher/k3s/server/agent-token")
    join(lab, role, config="token: for-agents\\n", has_token=False)
    if said:
        assert said in journal(lab, role)
    else:
        lab.wait_until(lambda _: is_ready(lab))


def test_rotated_token_is_old_in_the_files_of_the_other_servers(lab: Lab) -> None:
    lab.reset("unjoined", servers=2)
    lab.shell("k3s-server2", "k3s token rotate --new-token another")
    assert "::server:another" in lab.shell("k3s-server2", f"cat {TOKEN}")
    assert "::server:another" not in lab.shell("k3s-server", f"cat {TOKEN}")
    assert lab.shell("k3s-server", "k3s token rotate 2>&1 || echo $?").endswith("1\n")
    join(lab)
    assert "401 Unauthorized" in journal(lab)


def test_binary_that_was_pushed_is_checked_installed_and_started_in_the_background(booted: Lab) -> None:
    url = f"{booted.env['K3S_ARTIFACT_URL']}/v1.33.5%2Bk3s1"
    booted.shell(NAME, f"curl -sfo /root/k3s {url}/k3s && curl -sfo /root/sums {url}/sha256sum-amd64.txt")
    assert booted.shell(NAME, "cd /root && grep ' k3s$' sums | sha256sum -c -") == "k3s: OK\n"
    booted.shell(NAME, "cat /root/k3s > /usr/local/bin/.k3s.new && chmod 755 /usr/local/bin/.k3s.new")
    booted.shell(NAME, "mv -f /usr/local/bin/.k3s.new /usr/local/bin/k3s && touch /usr/local/bin/kubectl")
    assert booted.shell(NAME, "k3s --version").startswith("k3s version v1.33.5+k3s1 (")
    booted.shell(NAME, f"curl -sfo /root/i.sh {booted.env['K3S_INSTALL_URL']}")
    script = "INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_ENABLE=true INSTALL_K3S_SYMLINK=force"
    said = booted.shell(NAME, f"{script} INSTALL_K3S_EXEC=agent sh /root/i.sh")
    assert "Skipping k3s download and verify" in said and "Creating /usr/local/bin/kubectl symlink to k3s" in said
    assert booted.shell(NAME, "systemctl is-enabled k3s-agent || true") == "disabled\n"
    booted.shell(NAME, "systemctl start --no-block k3s-agent")
    assert "Error: --server is required" in journal(booted)


# --- the cluster -------------------------------------------------------------------------------------------------


def test_password_of_a_node_that_is_gone_rejects_its_successor(booted: Lab) -> None:
    booted.fault("node-password", node=NAME)
    join(booted)
    assert "Node password rejected, duplicate hostname" in journal(booted)
    booted.shell("k3s-server", f"k3s kubectl -n kube-system delete secret {NAME}.node-password.k3s")
    booted.wait_until(lambda _: is_ready(booted))


def test_ghost_in_etcd_makes_the_successor_a_duplicate(lab: Lab) -> None:
    lab.reset("unjoined", servers=3)
    lab.fault("ghost-member", node=NAME)
    join(lab, "server")
    assert "duplicate node name found, please use a unique name for this node" in journal(lab, "server")


def test_ghost_of_another_name_makes_etcd_unhealthy_for_every_newcomer(lab: Lab) -> None:
    lab.reset("unjoined", servers=3)
    lab.fault("ghost-member", node="long-gone")
    join(lab, "server")
    assert "Waiting for other members to finish joining etcd cluster: etcdserver: unhealthy cluster" in journal(
        lab, "server"
    )


def test_learner_that_makes_no_progress_is_in_the_way_for_five_minutes(booted: Lab) -> None:
    booted.fault("learner")
    join(booted, "server")
    assert "etcdserver: too many learner members in cluster" in journal(booted, "server")
    booted.shell(NAME, "sleep 290")
    booted.wait_until(lambda _: is_ready(booted))


@pytest.mark.parametrize(
    ("how", "said"),
    [("foreign", "token CA hash does not match the Cluster CA certificate hash"), ("rotated", "401 Unauthorized")],
)
def test_token_file_of_a_server_is_of_no_use(booted: Lab, how: str, said: str) -> None:
    booted.fault("server-token", how=how)
    join(booted)
    assert said in journal(booted)


def test_token_file_of_a_server_is_gone_until_it_is_repaired(booted: Lab) -> None:
    booted.fault("server-token", how="missing")
    assert booted.shell("k3s-server", f"test -e {TOKEN} || echo none") == "none\n"
    booted.clear_faults()
    booted.shell("k3s-server", f"grep K10 {TOKEN}")


def test_server_whose_flags_differ_names_them_and_ends(lab: Lab) -> None:
    lab.reset("unjoined", flags="flannel-backend=host-gw+disable=[servicelb]")
    join(lab, "server")
    said = journal(lab, "server")
    for name in ("flannel-backend", "disable-service-lb"):
        assert f'level=warning msg="critical configuration mismatched: {name}"' in said
    end = "failed to validate server configuration: critical configuration value mismatch between servers"
    assert f'level=fatal msg="{BOOTSTRAP}{end}"' in said


def test_server_that_starts_again_with_another_token_finds_its_data_locked(lab: Lab) -> None:
    lab.shell("k3s-server", "mkdir -p /etc/rancher/k3s; echo 'token: another' > /etc/rancher/k3s/config.yaml")
    lab.shell("k3s-server", "systemctl restart --no-block k3s")
    passes(lab, 10)
    said = lab.shell("k3s-server", "journalctl -u k3s -o cat --no-pager")
    assert "bootstrap data already found and encrypted with different token" in said


def test_two_clusters_have_two_authorities(booted: Lab) -> None:
    booted.fault("other-cluster")
    join(booted, server=booted.network.outside(90))
    assert "token CA hash does not match" in journal(booted)
    booted.clear_faults()
    assert "connection refused" in journal(booted)


def test_virtual_address_in_no_certificate_stops_a_join(lab: Lab) -> None:
    lab.reset("unjoined", vip="unnamed")
    join(lab, server=lab.network.virtual)
    assert f"x509: certificate is valid for 127.0.0.1, 10.43.0.1, {lab.network.outside(1)}, not" in journal(lab)


def test_member_joins_by_a_virtual_address(lab: Lab) -> None:
    lab.reset("unjoined", servers=3, vip="named")
    lab.fault("server-off", machine="k3s-server")
    passes(lab, 5)
    text = f"server: https://{lab.network.virtual}:6443\\ntoken: {lab.shell('k3s-server2', f'cat {TOKEN}').strip()}\\n"
    lab.shell(NAME, f"mkdir -p /etc/rancher/k3s; printf '{text}' > /etc/rancher/k3s/config.yaml")
    source = f"INSTALL_K3S_ARTIFACT_URL={lab.env['K3S_ARTIFACT_URL']} INSTALL_K3S_VERSION=v1.33.5+k3s1"
    lab.shell(NAME, f"curl -sfo /root/i.sh {lab.env['K3S_INSTALL_URL']}; {source} INSTALL_K3S_EXEC=agent sh /root/i.sh")
    lab.wait_until(lambda _: is_ready(lab))


def test_removal_of_a_member_is_lost_where_a_server_stops_too_soon(lab: Lab) -> None:
    lab.reset("fresh", servers=3)
    lab.fault("lost-removal")
    lab.shell("k3s-server", "k3s kubectl delete node k3s-server3 --timeout=60s; systemctl restart k3s")
    members = lab.snapshot()["k3s"][0]["members"]
    assert [name.rpartition("-")[0] for name in members] == ["k3s-server", "k3s-server2", "k3s-server3"]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("guest-ssh", {"machine": "nobody"}, "no machine 'nobody'"),
        ("guest-ssh", {"mode": "slow"}, "give refused or hang"),
        ("server-off", {"machine": NAME}, "no k3s server"),
        ("wall", {"mode": "melt"}, "give drop or reject"),
        ("guest-disk-full", {"machine": NAME}, "is not on"),
        ("k3s-trouble", {"kind": "toothache"}, "give memory-cgroup"),
        ("cloud-init", {"how": "sad"}, "give error"),
        ("new-address", {"machine": NAME}, "is not on"),
        ("k3s-download", {"how": "late"}, "give truncated"),
        ("k3s-download", {"how": "missing", "file": "nothing"}, "file=nothing: give k3s"),
        ("server-token", {"how": "blue"}, "give foreign"),
        ("server-token", {"how": "missing", "machine": NAME}, "no k3s server"),
        ("kubernetes-api", {"mode": "slow"}, "give refused or hang"),
        ("node-password", {"node": "k3s-server"}, "there is a Node k3s-server"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(lab: Lab, name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownChoice, match=said):
        lab.fault(name, **options)


def test_etcd_of_a_cluster_on_sqlite_has_no_ghosts(lab: Lab) -> None:
    lab.reset("fresh", datastore="sqlite")
    with pytest.raises(UnknownChoice, match="has no etcd"):
        lab.fault("ghost-member", node=NAME)
