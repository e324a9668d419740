"""Machines without a way to the internet get k3s from here, and its images too where that is wished."""

from __future__ import annotations

import pytest

from e2e.conftest import Homelab
from e2e.world import NAME, ONLY_PVE3, ready_members
from pvelab.lab import Lab

IMAGES = "k3s-airgap-images-amd64.tar.zst"
VERSION = "v1.33.5%2Bk3s1"


def fetched(lab: Lab, file: str) -> int:
    """How often a file of a release was downloaded, by whomever."""
    return sum(one.what.endswith(f"/{file}") for one in lab.requests)


@pytest.mark.parametrize("how", ["wall", "k3s-airgap"])
def test_k3s_is_fetched_once_and_brought_to_vms_that_cannot_download_it(lab: Lab, homelab: Homelab, how: str) -> None:
    lab.fault("wall", machine="all", port=8080, to=lab.network.sources)
    has_images = how == "k3s-airgap"
    if has_images:
        lab.fault("k3s-trouble", kind="no-registry", machine="all")

    run = homelab("--via", "api", NODE_ENABLED_1="0", K3S_AIRGAP_IMAGES=str(int(has_images)))

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", "k3s-vm-pve2", NAME}
    assert (fetched(lab, "k3s"), fetched(lab, IMAGES)) == (1, int(has_images))
    for name in ("k3s-vm-pve2", NAME):
        assert run.err.count(f"{name}: k3s of v1.33.5+k3s1 is brought to it") == 1
        images = lab.shell(name, f"ls /var/lib/rancher/k3s/agent/images/{IMAGES} 2>/dev/null || true")
        assert bool(images) == has_images


@pytest.mark.parametrize("how", ["missing", "wrong-checksum"])
def test_release_that_cannot_be_had_here_either_is_taken_from_a_server(lab: Lab, homelab: Homelab, how: str) -> None:
    lab.fault("k3s-download", how=how, file="k3s")

    run = homelab("--via", "api", **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert "k3s v1.33.5+k3s1 is taken from ubuntu@" in run.err
    assert ", as published: download of" in run.err
    assert ready_members(lab) == {"k3s-server", NAME}


def test_release_that_is_not_to_be_had_anywhere_is_told_with_all_reasons(lab: Lab, homelab: Homelab) -> None:
    lab.fault("k3s-download", how="missing", file="k3s")

    run = homelab("--via", "api", K3S_VERSION="v1.32.9+k3s1", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME}: the k3s install script failed: exit code 1" in run.err
    assert "nor can k3s be brought from here: download of" in run.err
    assert "nor is it there on a server of the cluster: ubuntu@" in run.err
    assert ready_members(lab) == {"k3s-server"}


def test_without_a_way_to_the_internet_a_vm_joins_with_what_the_cluster_and_an_earlier_run_had(
    lab: Lab, homelab: Homelab
) -> None:
    lab.reset("unjoined")
    lab.fault("no-default-route", machine=NAME)
    assert homelab("--via", "api", **ONLY_PVE3).exit_code == 3
    lab.clear_faults()
    lab.fault("wall", machine="all", port=8080, to=lab.network.sources)
    settings = lab.write_env(homelab.home / "offline.env", **ONLY_PVE3)

    run = homelab.with_file(settings, {"http_proxy": "http://127.0.0.1:9"}, "--via", "api")

    assert run.exit_code == 0, run.text
    assert "the k3s install script that an earlier run fetched is used: download of" in run.err
    assert "with no published one to compare: download of" in run.err
    assert NAME in ready_members(lab)


def test_settings_of_the_vm_s_environment_do_not_get_into_k3s(lab: Lab, homelab: Homelab) -> None:
    lab.reset("unjoined")
    lab.shell(
        NAME, "printf 'K3S_URL=https://192.0.2.9:6443\\nHTTPS_PROXY=http://192.0.2.9:3128\\n' >> /etc/environment"
    )

    run = homelab("--via", "api", **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert "192.0.2.9" not in lab.shell(NAME, "cat /etc/systemd/system/k3s-agent.service.env")
