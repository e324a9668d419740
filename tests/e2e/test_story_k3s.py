"""Stories of what a VM is in the cluster: its version and role, and what k3s or its sources refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Homelab
from e2e.world import (
    ALL_MEMBERS,
    NAME,
    ONLY_PVE3,
    cluster,
    guests,
    k3s,
    password_of_another,
    ready_members,
    servers,
    take_out,
    uuids,
    vm_on,
    voters,
    when,
)
from pvelab.lab import Lab
from pvelab.spec import LabSpec
from pvelab.state import World
from support.clock import SteppingClock

# --- versions and roles ------------------------------------------------------------------------------------------


def test_k3s_newer_than_the_cluster_is_refused_before_anything_is_installed(lab: Lab, homelab: Homelab) -> None:
    run = homelab(K3S_VERSION="v1.34.1+k3s1", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert "K3S_VERSION=v1.34.1+k3s1 is newer than the cluster: the servers run v1.33.5+k3s1" in run.err
    assert "set K3S_VERSION to v1.33.5+k3s1 or remove it" in run.err
    assert ready_members(lab) == {"k3s-server"}


@pytest.mark.parametrize(("wanted", "got"), [("v1.32.9+k3s1", "v1.32.9+k3s1"), (None, "v1.33.5+k3s1")])
def test_member_gets_the_version_of_the_cluster_or_the_older_one_asked_for(
    lab: Lab, homelab: Homelab, wanted: str | None, got: str
) -> None:
    run = homelab(K3S_VERSION=wanted, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert got in lab.shell(NAME, "k3s --version")


def test_of_servers_that_differ_the_oldest_says_which_version_a_member_gets(lab: Lab, homelab: Homelab) -> None:
    lab.reset("fresh", servers=3)

    def is_older(node: Any) -> None:
        node["status"]["nodeInfo"]["kubeletVersion"] = "v1.32.9+k3s1"

    lab.look(lambda world: cluster(world).store.change("nodes", "k3s-server2", is_older))

    run = homelab(**ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert "v1.32.9+k3s1" in lab.shell(NAME, "k3s --version")


def test_roles_are_as_configured(lab: Lab, homelab: Homelab, via: str) -> None:
    run = homelab("--via", via, K3S_ROLE_1="agent", K3S_ROLE_2="server", K3S_ROLE_3="server")

    assert run.exit_code == 0, run.text
    assert servers(lab) == {"k3s-server", "k3s-vm-pve2", "k3s-vm-pve3"}
    tags = {vm["config"]["name"]: vm["config"]["tags"] for vm in lab.snapshot()["vms"].values()}
    assert tags == {
        "k3s-vm-pve1": "homelab;homelab-agent",
        "k3s-vm-pve2": "homelab;homelab-server",
        "k3s-vm-pve3": "homelab;homelab-server",
    }


def test_role_of_a_vm_whose_node_is_gone_is_read_from_its_tag(lab: Lab, homelab: Homelab, via: str) -> None:
    homelab("--via", via, K3S_ROLE_1="agent", NODE_ENABLED_2="0", NODE_ENABLED_3="0")
    take_out(lab, "k3s-vm-pve1")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == ALL_MEMBERS
    assert servers(lab) == {"k3s-server", "k3s-vm-pve2", "k3s-vm-pve3"}


def test_with_two_voters_left_because_a_server_did_not_join_the_report_says_so(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.fault("join-fails", how="k3s-crash", vm="k3s-vm-pve1")

    run = homelab("--via", via, NODE_ENABLED_3="0")

    assert run.exit_code == 3, run.text
    assert voters(lab) == ["k3s-server", "k3s-vm-pve2"]
    assert "the cluster has only two voting servers: k3s-server and k3s-vm-pve2" in run.err

    lab.clear_faults()
    again = homelab("--via", via, NODE_ENABLED_3="0")
    assert again.exit_code == 0, again.text
    assert voters(lab) == ["k3s-server", "k3s-vm-pve1", "k3s-vm-pve2"]


def has_joined(lab: Lab) -> None:
    """What k3s in the VM began with a cluster's CA is still there."""
    shown = f"curl -sk https://{lab.k3s_servers['k3s-server']}:6443/cacerts"
    folder = "/var/lib/rancher/k3s/server/tls"
    lab.shell(NAME, f"mkdir -p {folder} && {shown} > {folder}/server-ca.crt")


def silent_until_given_up(lab: Lab, late: str, failing: str) -> None:
    """The agent of one VM does not answer until nobody has looked at another one's log for a while."""
    lab.fault("agent-missing", vm=late)
    looks: list[int] = []

    def check(world: World) -> None:
        looks.append(sum(asked.node == failing and "journalctl" in asked.what for asked in lab.requests))
        if looks[-1] > 1 and looks[-20:] == 20 * looks[-1:]:
            guests(world).silent.discard(late)
        else:
            world.clock.after(5.0, lambda: check(world))

    lab.look(check)


def test_place_of_a_server_that_did_not_join_goes_to_a_node_that_has_not_begun(lab: Lab, homelab: Homelab) -> None:
    lab.fault("join-fails", how="k3s-crash", vm="k3s-vm-pve1")
    silent_until_given_up(lab, late=NAME, failing="k3s-vm-pve1")

    run = homelab(VM_START_TIMEOUT="3000")

    assert run.exit_code == 3, run.text
    assert f"{NAME}: becomes a server in place of pve1" in run.err
    assert lab.shell("k3s-vm-pve1", "systemctl is-enabled k3s || true") == "disabled\n"
    assert voters(lab) == ["k3s-server", "k3s-vm-pve2", NAME]
    assert "two voting servers" not in run.text


def test_vm_that_did_not_become_a_server_becomes_an_agent_with_one_service(lab: Lab, homelab: Homelab) -> None:
    lab.fault("join-fails", how="k3s-crash", vm=NAME)
    assert homelab(K3S_ROLE_3="server", **ONLY_PVE3).exit_code == 3
    lab.clear_faults()
    has_joined(lab)

    run = homelab(K3S_ROLE_3="agent", **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", NAME}
    there = set(lab.shell(NAME, "ls /etc/systemd/system").split())
    assert not there & {"k3s.service", "k3s.service.env"}


def test_server_that_may_be_in_the_cluster_is_not_kept_from_it_when_nobody_can_be_asked(
    lab: Lab, homelab: Homelab
) -> None:
    when(lab, lambda world: bool(cluster(world).etcd.of_node(NAME)), lambda world: guests(world).existing_off())

    run = homelab(K3S_ROLE_3="server", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME} is not joined: {NAME} did not become Ready" in run.err
    assert lab.shell(NAME, "systemctl is-enabled k3s") == "enabled\n"


def test_server_that_votes_in_etcd_without_a_node_is_not_stopped_and_joins_the_next_time(
    lab: Lab, homelab: Homelab
) -> None:
    when(lab, lambda world: bool(cluster(world).etcd.of_node(NAME)), password_of_another)

    run = homelab(K3S_ROLE_3="server", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME} does not join: " in run.err
    assert lab.look(lambda world: cluster(world).etcd.has_quorum)
    assert lab.shell(NAME, "systemctl is-enabled k3s") == "enabled\n"

    again = homelab(K3S_ROLE_3="agent", **ONLY_PVE3)

    assert f"{NAME} joined cluster again as server" in again.out
    assert f"{NAME} stays what it is in the cluster (server)" in again.text
    assert voters(lab) == ["k3s-server", NAME]


@pytest.fixture
def sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[Lab, Homelab]]:
    """A lab whose k3s keeps its data in SQLite, and the tool in it."""
    clock = SteppingClock()
    with Lab(LabSpec(datastore="sqlite"), tmp_path / "lab", clock) as lab:
        yield lab, Homelab(lab, clock, tmp_path, capsys)


def test_cluster_without_etcd_takes_agents_only(sqlite: tuple[Lab, Homelab]) -> None:
    lab, homelab = sqlite

    run = homelab()

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == ALL_MEMBERS
    assert servers(lab) == {"k3s-server"}


def test_server_is_not_joined_to_a_cluster_without_etcd(sqlite: tuple[Lab, Homelab]) -> None:
    lab, homelab = sqlite

    run = homelab(K3S_ROLE_3="server", **ONLY_PVE3)

    assert run.exit_code == 1
    assert f"{NAME} cannot become a k3s server: the cluster keeps its data in SQLite, and takes agents only" in run.err
    assert "set K3S_ROLE_3=agent" in run.err
    assert lab.writes == []
    assert ready_members(lab) == {"k3s-server"}


def test_vm_that_is_there_is_not_made_a_server_of_a_cluster_without_etcd(sqlite: tuple[Lab, Homelab]) -> None:
    lab, homelab = sqlite
    homelab(K3S_EXISTING_NODE_IP=None, **ONLY_PVE3)

    run = homelab(K3S_ROLE_3="server", **ONLY_PVE3)

    assert run.exit_code == 3
    assert f"{NAME} is not joined: {NAME} cannot become a k3s server: the cluster keeps its data in SQLite" in run.err
    assert lab.shell(NAME, "ls /etc/rancher 2>&1 || true").startswith("ls: cannot access")


def test_server_of_a_cluster_without_etcd_is_left_as_it_is(sqlite: tuple[Lab, Homelab]) -> None:
    """It may be the one that has the data, whose Node somebody deleted."""
    lab, homelab = sqlite
    homelab(K3S_EXISTING_NODE_IP=None, **ONLY_PVE3)
    unit = "/etc/systemd/system/k3s.service"
    lab.shell(NAME, f"touch {unit}")
    has_joined(lab)

    run = homelab(**ONLY_PVE3)

    assert run.exit_code == 3
    assert f"{NAME} is not joined: {NAME} cannot become a k3s server: the cluster keeps its data in SQLite" in run.err
    assert lab.shell(NAME, f"ls {unit}")


SHARED_SETTINGS = {"flannel-backend": "host-gw", "disable-network-policy": "true"}


def test_server_gets_the_settings_that_the_others_have_in_unit_and_drop_ins(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    drop_in, unit = "/etc/rancher/k3s/config.yaml.d/net.yaml", "/etc/systemd/system/k3s.service"
    lab.shell("k3s-server", "mkdir -p /etc/rancher/k3s/config.yaml.d")
    lab.shell("k3s-server", f"echo 'flannel-backend: host-gw' > {drop_in}")
    lab.shell("k3s-server", f"echo 'ExecStart=/usr/local/bin/k3s server --disable-network-policy' >> {unit}")
    lab.look(lambda world: cluster(world).critical.update(SHARED_SETTINGS))

    run = homelab("--via", via, K3S_ROLE_3="server", **ONLY_PVE3)

    config = lab.shell(NAME, "cat /etc/rancher/k3s/config.yaml")
    assert "flannel-backend: host-gw" in config, run.text
    assert "disable-network-policy: true" in config
    assert ready_members(lab) == {"k3s-server", NAME}


ZONE = "topology.kubernetes.io/zone"


def labels_of(lab: Lab, name: str) -> dict[str, str]:
    return dict(k3s(lab)["nodes"][name]["labels"])


def test_node_says_where_its_vm_stands_and_bears_the_labels_asked_for(lab: Lab, homelab: Homelab, via: str) -> None:
    run = homelab("--via", via, K3S_LABELS_3="disk=ssd,example.com/rack=2", K3S_LABELS_2=f"{ZONE}=attic")

    assert run.exit_code == 0, run.text
    assert [labels_of(lab, f"k3s-vm-pve{n}")[ZONE] for n in (1, 2, 3)] == ["pve1", "attic", "pve3"]
    assert {"disk": "ssd", "example.com/rack": "2"}.items() <= labels_of(lab, NAME).items()


def test_member_is_given_the_labels_that_it_lacks_once(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")

    run = homelab(K3S_LABELS_3="disk=ssd,gpu=")
    assert run.exit_code == 0, run.text
    assert f"{NAME} has the labels disk=ssd, gpu= now" in run.out
    assert {"disk": "ssd", "gpu": ""}.items() <= labels_of(lab, NAME).items()
    assert ZONE not in labels_of(lab, NAME)

    assert "has the labels" not in homelab(K3S_LABELS_3="disk=ssd,gpu=").out


def test_member_that_cannot_be_labelled_is_a_member_all_the_same(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    lab.fault("on", do="error", command="k3s kubectl label", node="k3s-server", status=1, text="Error: forbidden")

    run = homelab(K3S_LABELS_3="disk=ssd")

    assert run.exit_code == 3, run.text
    assert f"{NAME} does not bear the labels disk=ssd" in run.out


@pytest.mark.parametrize(("nodes", "count"), [(ONLY_PVE3, 2), ({}, 4)], ids=["one-more", "three-more"])
def test_an_even_number_of_servers_is_warned_about_first_and_in_the_end(
    lab: Lab, homelab: Homelab, nodes: dict[str, str], count: int
) -> None:
    roles = {f"K3S_ROLE_{n}": "server" for n in (1, 2, 3)}

    run = homelab(**roles, **nodes)

    assert len(voters(lab)) == count
    assert run.exit_code == (3 if count == 2 else 0), run.text
    assert f"the cluster will have {count} voting servers" in run.err
    last = "the cluster has only two voting servers" if count == 2 else f"the cluster has {count} voting servers"
    assert last in run.text


def test_member_keeps_its_role_until_it_is_made_anew_whatever_is_configured_now(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")

    run = homelab(K3S_ROLE_3="server")

    assert run.exit_code == 0, run.text
    assert f"{NAME} stays what it is in the cluster (agent): K3S_ROLE_3=server, and a member keeps the role" in run.out
    assert f"to make it anew as server: --replace {NAME}" in run.err
    assert "4 voting servers" not in run.text
    assert lab.writes == []


def test_running_member_stays_and_is_told_to_run_where_its_replacement_could_not_join(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("healthy")
    before = uuids(lab)

    run = homelab("--via", via, "--replace", "pve3", K3S_VERSION="v1.34.1+k3s1")

    assert run.exit_code == 3, run.text
    assert f"VM {NAME} (vmid=102) is not replaced: K3S_VERSION=v1.34.1+k3s1 is newer than the cluster" in run.out
    assert f"{NAME} already in cluster, skipping" in run.out
    assert "3 nodes, 3 with their VM running" in run.out
    assert uuids(lab) == before


# --- the server that the token comes from ------------------------------------------------------------------------


def test_vm_that_holds_k3s_existing_node_ip_is_not_deleted(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    vmid, _ = vm_on(lab, "pve1")
    folder = homelab.home / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text("Host *\n  StrictHostKeyChecking accept-new\n")
    address = lab.look(lambda world: guests(world).machine_in(world.vms[vmid]).address)

    run = homelab.delete("pve1", str(vmid), "--yes", "--via", via, K3S_EXISTING_NODE_IP=address, SSH_KNOWN_HOSTS=None)

    assert run.exit_code == 1, run.text
    assert f"it holds K3S_EXISTING_NODE_IP ({address}), where the token comes from" in run.err
    assert "set K3S_EXISTING_NODE_IP to another Ready server" in run.err
    assert vmid in lab.snapshot()["vms"]


def test_vm_that_answers_under_the_name_in_k3s_existing_node_ip_is_not_deleted(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("healthy")
    vmid, _ = vm_on(lab, "pve1")
    address = lab.look(lambda world: guests(world).machine_in(world.vms[vmid]).address)
    folder = homelab.home / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text(f"Host master\n  HostName {address}\nHost *\n  StrictHostKeyChecking accept-new\n")

    run = homelab.delete("pve1", str(vmid), "--yes", "--via", via, K3S_EXISTING_NODE_IP="master", SSH_KNOWN_HOSTS=None)

    assert run.exit_code == 1, run.text
    assert "it holds K3S_EXISTING_NODE_IP (master), where the token comes from" in run.err
    assert vmid in lab.snapshot()["vms"]
