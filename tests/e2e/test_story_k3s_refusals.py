"""Joining k3s: what stands in the way, seen before, and read from the journal after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from e2e.conftest import Homelab
from e2e.world import (
    ALL_MEMBERS,
    NAME,
    ONLY_PVE3,
    cluster,
    guests,
    nodes_with_running_vm,
    password_of_another,
    ready_members,
    take_out,
    uuids,
)
from homelab import download
from pvelab.lab import Lab
from pvelab.state import World

# --- what k3s refuses --------------------------------------------------------------------------------------------


def other_cluster(lab: Lab) -> None:
    lab.shell("k3s-server", f"echo K10{'0' * 64}::server:canary > /var/lib/rancher/k3s/server/node-token")


def short_token(lab: Lab) -> None:
    lab.shell("k3s-server", "echo canary > /var/lib/rancher/k3s/server/node-token")


def short_agent_token(lab: Lab) -> None:
    lab.shell("k3s-server", "rm /var/lib/rancher/k3s/server/agent-token")
    lab.shell("k3s-server", "echo canary > /var/lib/rancher/k3s/server/agent-token")


def no_agent_token(lab: Lab) -> None:
    lab.shell("k3s-server", "rm /var/lib/rancher/k3s/server/agent-token")


def no_token(lab: Lab) -> None:
    lab.shell("k3s-server", "rm /var/lib/rancher/k3s/server/node-token /var/lib/rancher/k3s/server/token")


@pytest.mark.parametrize(
    ("breaks", "said", "cure"),
    [
        (other_cluster, "the k3s join token belongs to another cluster", "check K3S_EXISTING_NODE_IP"),
        (short_token, "the k3s join token is not understood", "a full token is needed"),
        (short_agent_token, "agent-token does not hold a token of the form K10", "a full token is needed"),
        (no_agent_token, "the k3s join token cannot be read", "sudo -n cat /var/lib/rancher/k3s/server/node-token"),
        (no_token, "the k3s join token cannot be read", "sudo -n cat /var/lib/rancher/k3s/server/node-token"),
    ],
)
def test_token_that_does_not_fit_is_refused_and_not_shown(
    lab: Lab, homelab: Homelab, breaks: Callable[[Lab], None], said: str, cure: str
) -> None:
    breaks(lab)

    run = homelab("-v", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert said in run.err
    assert cure in run.err
    assert "canary" not in run.text
    assert nodes_with_running_vm(lab) == ["pve3"]
    assert ready_members(lab) == {"k3s-server"}


def test_member_is_started_not_replaced_while_the_new_machine_could_not_join(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("stopped")
    other_cluster(lab)
    before = uuids(lab)

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert ready_members(lab) == ALL_MEMBERS
    assert "the k3s join token belongs to another cluster" in run.err


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("nothing", "sha256sum-amd64.txt: the server answered 404"),
        ("no-release", "k3s v1.32.9+k3s1 is not at hand"),
    ],
)
def test_member_is_started_not_replaced_while_k3s_of_its_version_is_not_at_hand(
    lab: Lab, homelab: Homelab, monkeypatch: pytest.MonkeyPatch, via: str, folder: str, said: str
) -> None:
    lab.reset("stopped")
    before = uuids(lab)
    base = lab.env["ISO_URL"].partition("/images/")[0]
    fetch_text = download.fetch_text

    def fetch(url: str, **more: Any) -> str:
        return "0" * 64 + "  k3s-arm64\n" if "/no-release/v1.32.9%2Bk3s1/" in url else fetch_text(url, **more)

    monkeypatch.setattr(download, "fetch_text", fetch)

    run = homelab("--via", via, K3S_ARTIFACT_URL=f"{base}/{folder}", K3S_VERSION="v1.32.9+k3s1")

    assert run.exit_code == 0, run.text
    assert said in run.err
    assert "nor is it there on a server of the cluster: ubuntu@" in run.err
    assert "K3S_ARTIFACT_URL" in run.err
    assert uuids(lab) == before
    assert ready_members(lab) == ALL_MEMBERS


@pytest.mark.parametrize(
    ("settings", "said", "cure"),
    [
        ({"K3S_INSTALL_URL": "{base}/k3s/nothing.sh"}, "/k3s/nothing.sh: the server answered 404", "K3S_INSTALL_URL"),
        (
            {"K3S_INSTALL_URL": "{base}/images/SHA256SUMS"},
            "the k3s install script is not understood",
            "check K3S_INSTALL_URL",
        ),
        (
            {"K3S_ARTIFACT_URL": "{base}/nothing", "K3S_VERSION": "v1.32.9+k3s1"},
            f"{NAME}: the k3s install script failed",
            "K3S_ARTIFACT_URL",
        ),
    ],
    ids=["script-missing", "no-script", "no-release"],
)
def test_what_k3s_is_installed_from_is_named_when_it_is_not_there(
    lab: Lab, homelab: Homelab, settings: dict[str, str], said: str, cure: str
) -> None:
    base = lab.env["ISO_URL"].partition("/images/")[0]

    run = homelab(**{key: text.format(base=base) for key, text in settings.items()}, **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert said in run.err
    assert cure in run.err
    assert ready_members(lab) == {"k3s-server"}


def test_server_that_only_we_can_reach_is_noticed_from_inside_the_vm(lab: Lab, homelab: Homelab) -> None:
    """A name of our own ssh_config, which no VM can resolve."""
    folder = homelab.home / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text(f"Host master\n  HostName {lab.env['K3S_EXISTING_NODE_IP']}\n")

    run = homelab(K3S_EXISTING_NODE_IP="master", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME}: the k3s server cannot be reached from the VM: https://master:6443/cacerts: its name" in run.err
    assert "check the bridge in NETWORK_IFACES_n" in run.err


@pytest.mark.parametrize(
    ("fault", "options", "said", "cure"),
    [
        ("no-default-route", {}, "the VM has no default route: k3s does not start without one", "CLOUD_IP_CONFIG_n"),
        ("clock-skew", {"seconds": -600}, "the clock of the VM is 600 s slow", "timedatectl"),
        ("wall", {"port": 6443}, "/cacerts: no answer in time", "firewalls between the VM"),
        ("wall", {"port": 2380}, ": no answer in time", "open ports 2379 and 2380 between all servers"),
    ],
)
def test_what_keeps_k3s_from_a_vm_is_seen_from_inside_before_anything_is_installed(
    lab: Lab, homelab: Homelab, fault: str, options: dict[str, Any], said: str, cure: str
) -> None:
    lab.reset("unjoined")
    lab.fault(fault, machine=NAME, **options)

    run = homelab("--via", "api", K3S_ROLE_3="server", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME} is not joined: {NAME}: " in run.err
    assert said in run.err
    assert cure in run.err
    assert lab.shell(NAME, "ls /etc/rancher /usr/local/bin/k3s 2>/dev/null || true") == ""


def test_server_whose_etcd_the_others_could_not_reach_is_not_begun(lab: Lab, homelab: Homelab) -> None:
    lab.reset("unjoined")
    lab.fault("wall", machine="k3s-server", port=2380)

    run = homelab("--via", "api", K3S_ROLE_3="server", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME} is not joined: {NAME}: its etcd could not be reached from the other servers" in run.err
    assert lab.shell(NAME, "ls /etc/rancher /usr/local/bin/k3s 2>/dev/null || true") == ""


def test_vm_that_calls_itself_otherwise_is_not_joined_under_a_wrong_name(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)
    lab.look(lambda world: setattr(guests(world).machine_in(world.vms[102]), "hostname", "ubuntu"))

    run = homelab()

    assert run.exit_code == 3, run.text
    assert f"{NAME}: the VM calls itself ubuntu" in run.err
    assert f"sudo hostnamectl set-hostname {NAME}" in run.err
    assert ready_members(lab) == ALL_MEMBERS - {NAME}


def test_server_whose_node_was_deleted_while_it_was_off_is_told_to_be_made_anew(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    lab.shell("k3s-vm-pve2", "systemctl disable --now k3s")
    lab.shell("k3s-server", "kubectl delete node k3s-vm-pve2")
    before = uuids(lab)

    run = homelab()

    assert run.exit_code == 3, run.text
    assert "k3s-vm-pve2 does not join: it was a member of etcd, and was taken out" in run.err
    assert "make it anew: scripts/delete_vm.py" in run.err
    assert uuids(lab) == before


def member_of_another(world: World) -> None:
    etcd = cluster(world).etcd
    etcd.promote(etcd.add_learner(f"{NAME}-deadbeef", "192.0.2.7"))


def other_settings(world: World) -> None:
    cluster(world).critical["cluster-cidr"] = "10.52.0.0/16"


def rotated(world: World) -> None:
    cluster(world).tokens.server_password = "rotated"


@pytest.mark.parametrize(
    ("happens", "said", "cure"),
    [
        (other_settings, "this server's settings differ from those of the others", "compare /etc/rancher"),
        (rotated, "the server refuses the token", "was it rotated?"),
    ],
)
def test_refusal_of_k3s_is_read_from_the_journal_and_named_with_its_cure(
    lab: Lab, homelab: Homelab, happens: Callable[[World], Any], said: str, cure: str
) -> None:
    lab.look(happens)

    run = homelab(K3S_ROLE_3="server", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME} is not joined: {NAME} does not join: {said}" in run.err
    assert cure in run.err
    assert ready_members(lab) == {"k3s-server"}


def test_password_that_an_earlier_machine_left_behind_is_removed(lab: Lab, homelab: Homelab) -> None:
    lab.look(password_of_another)

    run = homelab(K3S_ROLE_3="agent", **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", NAME}


@pytest.mark.parametrize("role", ["agent", "server"])
def test_member_of_etcd_without_a_node_keeps_further_servers_out(lab: Lab, homelab: Homelab, role: str) -> None:
    lab.look(member_of_another)

    run = homelab(K3S_ROLE_3=role, **ONLY_PVE3)

    refused = f"{NAME} is not joined: etcd has a member without a Node: {NAME}-deadbeef"
    assert (run.exit_code, refused in run.err) == ((3, True) if role == "server" else (0, False)), run.text
    assert "remove the member with etcdctl" in run.err or role == "agent"
    assert ready_members(lab) == {"k3s-server", *([NAME] if role == "agent" else [])}
