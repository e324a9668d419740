"""Stories of the way into the cluster: reaching the VM, its first boot, ghosts, versions, roles, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from e2e.conftest import Homelab
from e2e.world import (
    ALL_MEMBERS,
    before_call,
    cluster,
    guests,
    k3s,
    nodes_with_running_vm,
    ready_members,
    servers,
    take_out,
    uuid_of,
    uuids,
    vm_on,
    voters,
)
from pvelab.guest import kube_nodes
from pvelab.lab import Lab
from pvelab.state import World
from support.clock import SteppingClock

ONLY_PVE3 = {"NODE_ENABLED_1": "0", "NODE_ENABLED_2": "0"}
"""One VM is enough for the story."""
NAME = "k3s-vm-pve3"


def static(lab: Lab, number: int = 77) -> dict[str, str]:
    return {"CLOUD_IP_CONFIG_3": f"ip={lab.network.guest(number)}/16,gw={lab.network.guest(254)}"}


# --- reaching the VM ---------------------------------------------------------------------------------------------


def test_vm_with_a_static_address_joins_without_agent_and_its_host_key_is_learned_once_and_said(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.fault("agent-missing")

    run = homelab("--via", via, **ONLY_PVE3, **static(lab))

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", NAME}
    address = lab.network.guest(77)
    assert run.err.count(f"learned the SSH host key of the new VM at {address}:") == 1
    assert lab.snapshot()["vms"][100]["config"]["ipconfig0"].startswith(f"ip={address}/16")


@pytest.mark.parametrize("fault", ["agent-missing", "stuck-boot"])
def test_vm_that_never_answers_is_reported_within_bounded_time_and_left_as_it_is(
    lab: Lab, homelab: Homelab, shared_clock: SteppingClock, via: str, fault: str
) -> None:
    lab.fault(fault)
    began = shared_clock.now()

    run = homelab("--via", via, VM_START_TIMEOUT="30", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"VM {NAME} (vmid=100) is running, not responding" in run.err
    assert "the guest agent gives no address" in run.err
    assert "qm terminal 100 on pve3" in run.err
    assert "scripts/delete_vm.py pve3 100" in run.err
    assert nodes_with_running_vm(lab) == ["pve3"]
    assert shared_clock.now() - began < 600


def test_vm_made_earlier_whose_host_key_nobody_vouches_for_is_not_logged_in_to(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)
    lab.fault("agent-missing")

    run = homelab("--via", via, **static(lab, 3))

    assert run.exit_code == 3, run.text
    assert f"VM {NAME} (vmid=102): its SSH host key cannot be checked" in run.err
    assert "install and start qemu-guest-agent in the VM" in run.err
    assert ready_members(lab) == ALL_MEMBERS - {NAME}


def test_address_of_another_vm_is_noticed_by_its_host_key(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)

    run = homelab("--via", via, **static(lab, 1))

    assert run.exit_code == 3, run.text
    assert "is pinned" in run.err
    assert ready_members(lab) == ALL_MEMBERS - {NAME}


def test_static_address_at_which_nobody_answers_is_running_not_responding(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)

    run = homelab("--via", via, VM_START_TIMEOUT="10", **static(lab, 99))

    assert run.exit_code == 3, run.text
    assert f"VM {NAME} (vmid=102) is running, not responding: SSH does not answer" in run.err
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]


# --- the first boot ----------------------------------------------------------------------------------------------


def with_vendor_data(lab: Lab, text: str) -> None:
    """The VM on pve3 boots with other vendor data than it was to have."""

    def replace(world: World) -> None:
        files = world.nodes["pve3"].files
        folder = "/var/lib/vz/snippets"
        for name in files.names(folder):
            files.provide(f"{folder}/{name}", text.encode())

    before_call(lab, "POST", r"/nodes/pve3/qemu/\d+/status/start", replace)


def test_failed_first_boot_is_reported_and_the_vm_not_joined(lab: Lab, homelab: Homelab, via: str) -> None:
    with_vendor_data(lab, "#cloud-config\npackages: [qemu-guest-agent, curl]\nruncmd: [[cat, /nowhere]]\n")

    run = homelab("--via", via, **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"VM {NAME}: cloud-init failed" in run.err
    assert "/nowhere" in run.err
    assert "cloud-init status --long" in run.err
    assert ready_members(lab) == {"k3s-server"}


def test_first_boot_with_errors_it_got_over_joins_and_is_noted(lab: Lab, homelab: Homelab, via: str) -> None:
    with_vendor_data(lab, "#cloud-config\npackages: [qemu-guest-agent, curl]\nnonsense: true\n")

    run = homelab("--via", via, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == {"k3s-server", NAME}
    assert f"VM {NAME}: cloud-init had errors it could get over" in run.out


# --- members that are ill, and ghosts ----------------------------------------------------------------------------


def is_not_ready(name: str) -> Callable[[World], bool]:
    def look(world: World) -> bool:
        node = cluster(world).store.find("nodes", name)
        return node is not None and not kube_nodes.is_ready(node)

    return look


@pytest.mark.parametrize(("name", "unit"), [(NAME, "k3s-agent"), ("k3s-vm-pve1", "k3s")])
@pytest.mark.parametrize("verb", ["stop", "disable --now"])
def test_member_whose_service_was_stopped_is_ready_again(
    lab: Lab, homelab: Homelab, via: str, name: str, unit: str, verb: str
) -> None:
    lab.reset("healthy")
    before = uuids(lab)
    lab.shell(name, f"systemctl {verb} {unit}")
    lab.wait_until(is_not_ready(name))

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert f"{name} is Ready again" in run.out
    assert ready_members(lab) == ALL_MEMBERS
    assert uuids(lab) == before
    assert lab.shell(name, f"systemctl is-enabled {unit}") == "enabled\n"


def test_ghost_of_an_earlier_machine_is_removed_and_the_new_one_joins(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    lab.shell("pve1", "qm stop 100 && qm destroy 100")
    lab.wait_until(is_not_ready("k3s-vm-pve1"))

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert ready_members(lab) == ALL_MEMBERS
    _, vm = vm_on(lab, "pve1")
    assert k3s(lab)["nodes"]["k3s-vm-pve1"]["uuid"] == uuid_of(vm)
    assert voters(lab) == ["k3s-server", "k3s-vm-pve1", "k3s-vm-pve2"]


def test_name_of_a_ready_member_is_not_taken_from_it(lab: Lab, homelab: Homelab, via: str) -> None:
    before = k3s(lab)["nodes"]["k3s-server"]

    run = homelab("--via", via, VM_NAME_3="k3s-server", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert "k3s-server is not joined: another machine is a Ready member under the name k3s-server" in run.err
    assert "rename one of the two (VM_NAME_n)" in run.err
    assert k3s(lab)["nodes"]["k3s-server"] == before


def test_vm_under_the_name_of_a_ready_member_is_started_and_not_deleted(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    vmid, _ = vm_on(lab, "pve3")
    lab.look(lambda world: world.vms[vmid].config.update(name="k3s-server"))
    before = uuids(lab)

    run = homelab("--via", via, VM_NAME_3="k3s-server")

    assert run.exit_code == 3, run.text
    assert uuids(lab) == before
    assert "another machine is a Ready member under the name k3s-server" in run.out


def test_existing_server_is_asked_again_while_it_boots_after_a_power_cut(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("power-cut")
    before = uuids(lab)

    def cut(world: World) -> None:
        def comes_back() -> None:
            guests(world).existing_on()

        guests(world).existing_off()
        world.clock.after(100.0, comes_back)

    lab.look(cut)

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    lab.wait_until(lambda world: all(map(kube_nodes.is_ready, cluster(world).store.list("nodes"))))


# --- versions and roles ------------------------------------------------------------------------------------------


def test_k3s_newer_than_the_cluster_is_refused_before_anything_is_installed(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    run = homelab("--via", via, K3S_VERSION="v1.34.1+k3s1", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert "K3S_VERSION=v1.34.1+k3s1 is newer than the cluster: the servers run v1.33.5+k3s1" in run.err
    assert "set K3S_VERSION to v1.33.5+k3s1 or remove it" in run.err
    assert ready_members(lab) == {"k3s-server"}


@pytest.mark.parametrize(("wanted", "got"), [("v1.32.9+k3s1", "v1.32.9+k3s1"), (None, "v1.33.5+k3s1")])
def test_member_gets_the_version_of_the_cluster_or_the_older_one_asked_for(
    lab: Lab, homelab: Homelab, via: str, wanted: str | None, got: str
) -> None:
    run = homelab("--via", via, K3S_VERSION=wanted, **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert got in lab.shell(NAME, "k3s --version")


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


# --- what k3s refuses --------------------------------------------------------------------------------------------


def other_cluster(lab: Lab) -> None:
    lab.shell("k3s-server", f"echo K10{'0' * 64}::server:canary > /var/lib/rancher/k3s/server/node-token")


def short_token(lab: Lab) -> None:
    lab.shell("k3s-server", "echo canary > /var/lib/rancher/k3s/server/node-token")


def no_token(lab: Lab) -> None:
    lab.shell("k3s-server", "rm /var/lib/rancher/k3s/server/node-token /var/lib/rancher/k3s/server/token")


@pytest.mark.parametrize(
    ("breaks", "said", "cure"),
    [
        (other_cluster, "the k3s join token belongs to another cluster", "check K3S_EXISTING_NODE_IP"),
        (short_token, "the k3s join token is not understood", "a full token is needed"),
        (no_token, "the k3s join token cannot be read", "sudo -n cat /var/lib/rancher/k3s/server/node-token"),
    ],
)
def test_token_that_does_not_fit_is_refused_and_not_shown(
    lab: Lab, homelab: Homelab, via: str, breaks: Callable[[Lab], None], said: str, cure: str
) -> None:
    breaks(lab)

    run = homelab("-v", "--via", via, **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert said in run.err
    assert cure in run.err
    assert "canary" not in run.text
    assert nodes_with_running_vm(lab) == ["pve3"]
    assert ready_members(lab) == {"k3s-server"}


def test_member_is_not_replaced_while_the_new_machine_could_not_join(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")
    other_cluster(lab)
    before = uuids(lab)

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert uuids(lab) == before
    assert "the k3s join token belongs to another cluster" in run.err


@pytest.mark.parametrize(
    ("settings", "said", "cure"),
    [
        ({"K3S_INSTALL_URL": "{base}/k3s/nothing.sh"}, "/k3s/nothing.sh: the server answered 404", "K3S_INSTALL_URL"),
        (
            {"K3S_INSTALL_URL": "{base}/images/SHA256SUMS"},
            "the k3s install script is not understood",
            "check K3S_INSTALL_URL",
        ),
        ({"K3S_ARTIFACT_URL": "{base}/nothing"}, f"{NAME}: the k3s install script failed", "K3S_ARTIFACT_URL"),
    ],
    ids=["script-missing", "no-script", "no-release"],
)
def test_what_k3s_is_installed_from_is_named_when_it_is_not_there(
    lab: Lab, homelab: Homelab, via: str, settings: dict[str, str], said: str, cure: str
) -> None:
    base = lab.env["ISO_URL"].partition("/images/")[0]

    run = homelab("--via", via, **{key: text.format(base=base) for key, text in settings.items()}, **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert said in run.err
    assert cure in run.err
    assert ready_members(lab) == {"k3s-server"}


def test_server_that_only_we_can_reach_is_noticed_from_inside_the_vm(lab: Lab, homelab: Homelab, via: str) -> None:
    """A name of our own ssh_config, which no VM can resolve."""
    folder = homelab.home / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text(f"Host master\n  HostName {lab.env['K3S_EXISTING_NODE_IP']}\n")

    run = homelab("--via", via, K3S_EXISTING_NODE_IP="master", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME}: the k3s server cannot be reached from the VM: https://master:6443/ping" in run.err
    assert "check the bridge in NETWORK_IFACES_n" in run.err


def test_vm_that_calls_itself_otherwise_is_not_joined_under_a_wrong_name(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    take_out(lab, NAME)
    lab.look(lambda world: setattr(guests(world).machine_in(world.vms[102]), "hostname", "ubuntu"))

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert f"{NAME}: the VM calls itself ubuntu" in run.err
    assert f"sudo hostnamectl set-hostname {NAME}" in run.err
    assert ready_members(lab) == ALL_MEMBERS - {NAME}


def test_server_whose_node_was_deleted_while_it_was_off_is_told_to_be_made_anew(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("healthy")
    lab.shell("k3s-vm-pve2", "systemctl disable --now k3s")
    lab.shell("k3s-server", "kubectl delete node k3s-vm-pve2")
    before = uuids(lab)

    run = homelab("--via", via)

    assert run.exit_code == 3, run.text
    assert "k3s-vm-pve2 does not join: it was a member of etcd, and was taken out" in run.err
    assert "make it anew: scripts/delete_vm.py" in run.err
    assert uuids(lab) == before


def password_of_another(world: World) -> None:
    cluster(world).store.create("secrets", kube_nodes.password_secret(NAME, "of another machine"))


def member_of_another(world: World) -> None:
    etcd = cluster(world).etcd
    etcd.promote(etcd.add_learner(f"{NAME}-deadbeef", "192.0.2.7"))


def other_settings(world: World) -> None:
    cluster(world).critical["cluster-cidr"] = "10.52.0.0/16"


def rotated(world: World) -> None:
    cluster(world).tokens.server_password = "rotated"


@pytest.mark.parametrize(
    ("happens", "role", "said", "cure"),
    [
        (
            password_of_another,
            "agent",
            "the cluster still holds the password of an earlier machine of this name",
            f"delete secret {NAME}.node-password.k3s",
        ),
        (member_of_another, "server", "etcd still has a member of an earlier machine", f"delete node {NAME}"),
        (other_settings, "server", "this server's settings differ from those of the others", "compare /etc/rancher"),
        (rotated, "agent", "the server refuses the token", "was it rotated?"),
    ],
)
def test_refusal_of_k3s_is_read_from_the_journal_and_named_with_its_cure(
    lab: Lab, homelab: Homelab, via: str, happens: Callable[[World], Any], role: str, said: str, cure: str
) -> None:
    lab.look(happens)

    run = homelab("--via", via, K3S_ROLE_3=role, **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert f"{NAME} is not joined: {NAME} does not join: {said}" in run.err
    assert cure in run.err
    assert ready_members(lab) == {"k3s-server"}
