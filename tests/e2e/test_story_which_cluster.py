"""Which cluster it is: one that was made anew, and servers of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.conftest import Homelab
from e2e.world import (
    ALL_MEMBERS,
    NAME,
    ONLY_PVE3,
    ready_members,
    server_of,
    take_out,
    trusting,
)
from homelab.k3s_manager import authority
from homelab.kubernetes import served_authority
from pvelab.lab import Lab

OUTSIDE = "k3s-server"


# --- another cluster ---------------------------------------------------------------------------------------------


def memory_of(homelab: Homelab) -> Path:
    return homelab.state_folder() / "k3s.json"


@pytest.mark.parametrize("has_kubeconfig", [True, False])
def test_server_that_was_made_anew_and_founded_a_cluster_of_its_own_is_not_believed(
    lab: Lab, homelab: Homelab, has_kubeconfig: bool
) -> None:
    lab.reset("healthy")
    assert homelab().exit_code == 0
    take_out(lab, NAME)
    lab.fault("other-cluster")
    other = lab.network.outside(90)
    trusting(homelab.home)
    settings = {"SSH_KNOWN_HOSTS": None, **({} if has_kubeconfig else {"KUBECONFIG": None})}

    run = homelab(K3S_EXISTING_NODE_IP=other, **settings)

    assert run.exit_code == 3, run.text
    assert f"the k3s server at {other} is of another cluster than before" in run.err
    assert f"if the new one is right, remove {memory_of(homelab)}" in run.err
    assert not any(NAME in cluster["nodes"] for cluster in lab.snapshot()["k3s"])

    memory_of(homelab).unlink()
    again = homelab(K3S_EXISTING_NODE_IP=other, **settings)
    assert "is of another cluster than before" not in again.err


def test_kubeconfig_of_another_cluster_than_the_one_that_was_joined_is_not_believed_either(
    lab: Lab, homelab: Homelab
) -> None:
    lab.reset("healthy")
    assert homelab().exit_code == 0
    take_out(lab, NAME)
    lab.fault("other-cluster")
    joined = lab.network.outside(90)
    shown = authority.fingerprints(served_authority(f"https://{joined}:6443"))
    servers = [{"name": "k3s-other", "uuid": "", "addresses": [joined]}]
    memory_of(homelab).write_text(json.dumps({"authorities": sorted(shown), "servers": servers}))

    run = homelab()

    asked = lab.env["K3S_EXISTING_NODE_IP"]
    assert run.exit_code == 3, run.text
    assert f"the k3s server at {asked} is of another cluster than before: {joined} still shows the CA" in run.err
    assert "; the cluster is asked over SSH" in run.err
    assert not any(NAME in cluster["nodes"] for cluster in lab.snapshot()["k3s"])


@pytest.mark.parametrize("has_kubeconfig", [True, False])
def test_cluster_that_was_made_anew_as_a_whole_is_joined_with_a_warning(
    lab: Lab, homelab: Homelab, has_kubeconfig: bool
) -> None:
    lab.reset("healthy")
    assert homelab().exit_code == 0
    lab.reset("fresh")
    settings = {} if has_kubeconfig else {"KUBECONFIG": None}

    run = homelab(**settings, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert f"the k3s cluster was made anew: {lab.env['K3S_EXISTING_NODE_IP']} shows another CA" in run.err
    assert ready_members(lab) == {OUTSIDE, NAME}
    assert "made anew" not in homelab(**settings, **ONLY_PVE3).err


def test_while_it_cannot_be_told_which_cluster_was_joined_none_is(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)
    memory_of(homelab).write_text('{"servers": ')

    run = homelab()

    assert run.exit_code == 3, run.text
    assert f"which k3s cluster was seen last cannot be told: {memory_of(homelab)}: it is not what" in run.err
    assert f"rm {memory_of(homelab)}" in run.err
    assert NAME not in ready_members(lab)
    memory_of(homelab).unlink()
    assert homelab().exit_code == 0
    assert ready_members(lab) == ALL_MEMBERS


def test_cluster_is_remembered_without_anything_secret_and_not_by_a_dry_run(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    homelab("--dry-run")
    assert not memory_of(homelab).exists()

    homelab()

    known = json.loads(memory_of(homelab).read_text())
    assert {server["name"] for server in known["servers"]} == {OUTSIDE, "k3s-vm-pve1", "k3s-vm-pve2"}
    assert len(known["authorities"]) == 1
    written_at = memory_of(homelab).stat().st_mtime_ns
    homelab()
    assert memory_of(homelab).stat().st_mtime_ns == written_at


def test_shared_address_that_leads_to_another_cluster_is_not_joined(lab: Lab, homelab: Homelab) -> None:
    lab.reset("unjoined")
    lab.fault("other-cluster")
    shared = f"https://{lab.network.outside(90)}:6443"

    run = homelab("--via", "api", K3S_SERVER_URL=shared, **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME}: another cluster answers in the VM at {shared}: the CA that it shows there is not that" in run.err
    assert lab.shell(NAME, "ls /etc/rancher /usr/local/bin/k3s 2>/dev/null || true") == ""


def test_servers_of_two_clusters_are_not_mixed(lab: Lab, homelab: Homelab) -> None:
    lab.fault("other-cluster")
    ours, other = lab.env["K3S_EXISTING_NODE_IP"], lab.network.outside(90)
    trusting(homelab.home)

    run = homelab(K3S_EXISTING_NODE_IP=f"{ours},{other}", SSH_KNOWN_HOSTS=None, **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert "the addresses in K3S_EXISTING_NODE_IP lead to different clusters" in run.err
    assert f"{ours} and {other} show different CAs" in run.err
    assert lab.shell(NAME, "ls /etc/rancher 2>/dev/null || true") == ""


@pytest.mark.parametrize("is_first", [True, False])
def test_server_of_another_cluster_is_passed_over_once_it_is_known_which_one_is_right(
    lab: Lab, homelab: Homelab, is_first: bool
) -> None:
    lab.reset("healthy")
    trusting(homelab.home)
    assert homelab(SSH_KNOWN_HOSTS=None).exit_code == 0
    take_out(lab, NAME)
    lab.fault("other-cluster")
    ours, other = lab.env["K3S_EXISTING_NODE_IP"], lab.network.outside(90)

    run = homelab(K3S_EXISTING_NODE_IP=f"{other},{ours}" if is_first else f"{ours},{other}", SSH_KNOWN_HOSTS=None)

    assert run.exit_code == 0, run.text
    assert run.err.count(f"K3S_EXISTING_NODE_IP: {other} cannot be asked (") == 1
    assert f"{OUTSIDE} is asked, at {ours}" in run.err
    assert server_of(lab, NAME) == f"https://{ours}:6443"
    assert not any(NAME in one["nodes"] for one in lab.snapshot()["k3s"] if OUTSIDE not in one["nodes"])
