"""Stories of members that go: emptied first, kept where data would be lost, never against etcd's quorum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.conftest import Homelab
from e2e.interruptions import Meanwhile, killed
from e2e.world import (
    ALL_MEMBERS,
    cluster,
    k3s,
    nodes_with_running_vm,
    ready_members,
    uuids,
    voters,
)
from pvelab.guest.kube_nodes import ETCD_LABEL, is_ready
from pvelab.guest.kube_objects import Document
from pvelab.interception import Arrival
from pvelab.lab import Lab
from pvelab.rules import power
from pvelab.state import World

AGENT = "k3s-vm-pve3"
LOOKED_AT_EVERY_S = 1
"""How often `when` looks."""


def plant(lab: Lab, resource: str, document: Document) -> None:
    """An object that somebody has made in the cluster."""
    lab.look(lambda world: cluster(world).store.create(resource, document))


def a_pod(name: str, node: str = AGENT, **spec: Any) -> Document:
    """A pod without controller that runs on a Node."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": name, "image": "busybox"}], **spec},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def a_replica(name: str) -> Document:
    """A pod that a ReplicaSet would start elsewhere."""
    document = a_pod(name)
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{name}-set", "uid": "1", "controller": True}
    document["metadata"]["ownerReferences"] = [owner]
    return document


def a_volume(node: str = AGENT) -> Document:
    """A bound volume of the local-path provisioner on a Node's disk."""
    fits = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "pvc-4711"},
        "spec": {
            "storageClassName": "local-path",
            "claimRef": {"namespace": "media", "name": "photos"},
            "hostPath": {"path": "/var/lib/rancher/k3s/storage/pvc-4711", "type": "DirectoryOrCreate"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [fits]}},
        },
        "status": {"phase": "Bound"},
    }


@dataclass(frozen=True, slots=True)
class Each:
    """Notes something whenever a request of a kind comes in."""

    lab: Lab
    fits: Callable[[Arrival], bool]
    happens: Callable[[World], None]

    def take(self, arrival: Arrival) -> None:
        if self.fits(arrival):
            self.lab.look(self.happens)


def commands(lab: Lab) -> str:
    """The commands run on the k3s server, one a line."""
    return "\n".join(one.what for one in lab.requests if one.node == "k3s-server")


def is_cordoned(lab: Lab, name: str = AGENT) -> bool:
    node = lab.look(lambda world: cluster(world).store.get("nodes", name))
    return bool(node["spec"].get("unschedulable"))


# --- drained ------------------------------------------------------------------------------------------------------


def test_running_member_is_emptied_before_it_is_replaced(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    plant(lab, "pods", a_replica("web"))
    before = uuids(lab)

    run = homelab("--via", via, "--replace", "pve3")

    assert run.exit_code == 0, run.text
    assert uuids(lab)[102] != before[102]
    assert ready_members(lab) == ALL_MEMBERS
    assert not is_cordoned(lab)
    told = commands(lab)
    assert told.index(f"kubectl drain {AGENT}") < told.index(f"kubectl delete node {AGENT}")
    assert "moving its pods away, 300 s at most" in run.err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_member_that_a_killed_run_had_drained_takes_pods_again(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")
    with killed("POST", r"/nodes/pve3/qemu/102/status/stop"):
        homelab("--via", via, "--replace", "pve3")
    assert is_cordoned(lab)
    lab.fault("on", do="error", command="k3s kubectl uncordon", node="k3s-server", status=1, text="Error: forbidden")

    again = homelab("--via", via)

    assert f"{AGENT} is cordoned" in again.out
    lab.clear_faults()
    last = homelab("--via", via)
    assert last.exit_code == 0, last.text
    assert f"{AGENT} takes pods again: an earlier run had drained it" in last.out
    assert not is_cordoned(lab)


@pytest.mark.parametrize(
    ("wire", "kind", "said", "cure"),
    [
        ("api", "budget", "a disruption budget keeps default/web-0", "kubectl get pdb -A"),
        ("ssh", "stuck", "default/web-0 did not end within 300 s", f"--field-selector spec.nodeName={AGENT}; end"),
    ],
)
def test_member_whose_pods_do_not_go_in_time_is_kept_and_the_pod_is_named(
    lab: Lab, homelab: Homelab, wire: str, kind: str, said: str, cure: str
) -> None:
    lab.reset("healthy")
    lab.fault("pod-on", node=AGENT, kind=kind)
    before, began = uuids(lab), lab.look(lambda world: world.clock.now())

    run = homelab("--via", wire, "--replace", "pve3")

    assert run.exit_code == 3, run.text
    assert 300 <= lab.look(lambda world: world.clock.now()) - began < 330
    assert f"{AGENT} already in cluster, skipping" in run.out
    assert f"{AGENT} cannot be drained: {said}" in run.err
    assert cure in run.err
    assert uuids(lab) == before
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert ready_members(lab) == ALL_MEMBERS
    assert not is_cordoned(lab)
    assert homelab("--via", wire).exit_code == 0


def test_what_has_come_to_speak_against_it_while_it_was_emptied_counts(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    before = uuids(lab)

    def claims(world: World) -> None:
        cluster(world).store.create("persistentvolumes", a_volume())

    Meanwhile(lab, lambda arrival: "kubectl drain" in arrival.command_line, claims)

    run = homelab("--replace", "pve3")

    assert run.exit_code == 3, run.text
    assert f"VM {AGENT} (vmid=102) is not deleted: data that only this machine has would be lost" in run.err
    assert uuids(lab) == before
    assert ready_members(lab) == ALL_MEMBERS
    assert not is_cordoned(lab)


def test_pod_that_nobody_would_start_again_is_not_ended(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    plant(lab, "pods", a_pod("alone"))
    lab.shell("k3s-server", f"kubectl cordon {AGENT}")

    run = homelab.delete("pve3", "102", "--yes")

    assert run.exit_code == 1, run.text
    assert f"{AGENT} cannot be drained: nothing would start default/alone elsewhere" in run.err
    assert is_cordoned(lab)
    assert 102 in lab.snapshot()["vms"]


def test_member_that_is_not_ready_is_not_drained_in_vain(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    lab.shell(AGENT, "systemctl stop k3s-agent")
    lab.shell("k3s-server", "sleep 60")

    run = homelab("--replace", "pve3")

    assert run.exit_code == 0, run.text
    assert "drain" not in commands(lab)
    assert ready_members(lab) == ALL_MEMBERS


# --- data ---------------------------------------------------------------------------------------------------------


def test_vm_with_data_of_its_own_is_started_until_a_person_gives_the_data_up(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.reset("stopped")
    plant(lab, "persistentvolumes", a_volume())
    before = uuids(lab)

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert ready_members(lab) == ALL_MEMBERS
    lost = "data that only this machine has would be lost: media/photos (volume pvc-4711, local-path)"
    assert f"VM {AGENT} (vmid=102) started (VM is stopped, but {lost}" in run.out
    assert f"--allow-data-loss {AGENT}" in run.err

    lab.look(lambda world: power.switch_off(world, world.vms[102]))
    lab.shell("k3s-server", "sleep 120")
    allowed = homelab("--via", via, "--allow-data-loss", "pve3")

    assert allowed.exit_code == 0, allowed.text
    assert uuids(lab)[102] != before[102]
    assert f"deleted (VM is stopped, although {lost}" in allowed.out


@pytest.mark.parametrize("option", ["--replace", "--force-replace"])
def test_data_is_given_up_by_no_other_option(lab: Lab, homelab: Homelab, option: str) -> None:
    lab.reset("healthy")
    document = a_replica("plex")
    document["spec"]["volumes"] = [{"name": "library", "hostPath": {"path": "/srv/library"}}]
    plant(lab, "pods", document)
    before = uuids(lab)

    run = homelab(option, "pve3")

    assert run.exit_code == 3, run.text
    assert f"VM {AGENT} (vmid=102) is not replaced: data that only this machine has" in run.err
    assert "host path /srv/library (pod default/plex)" in run.err
    assert uuids(lab) == before


def test_deleting_by_hand_needs_the_same_word(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    plant(lab, "persistentvolumes", a_volume())

    refused = homelab.delete("pve3", "102", "--yes", "--force")
    assert refused.exit_code == 1
    assert "media/photos" in refused.err
    other = homelab.delete("pve3", "102", "--yes", "--allow-data-loss", "pve2")
    assert other.exit_code == 1
    unknown = homelab.delete("pve3", "102", "--yes", "--allow-data-loss", "pve9")
    assert unknown.exit_code == 2
    assert "--allow-data-loss pve9 names no configured node and no VM of one" in unknown.err

    assert homelab.delete("pve3", "102", "--yes", "--allow-data-loss", AGENT).exit_code == 0
    assert 102 not in lab.snapshot()["vms"]


def test_data_that_cannot_be_read_is_not_taken_for_none(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")
    odd = a_volume()
    odd["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["operator"] = "Near"
    plant(lab, "persistentvolumes", odd)

    run = homelab("--replace", "pve3")

    assert run.exit_code == 3, run.text
    assert "what data is bound to its Node cannot be read" in run.err


# --- etcd ---------------------------------------------------------------------------------------------------------


def test_server_is_started_not_deleted_when_etcd_cannot_be_saved(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped-server")
    before = uuids(lab)
    text = "level=fatal msg=no space left on device"
    lab.fault("on", do="error", command="k3s etcd-snapshot", node="k3s-server", status=1, text=text)

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert uuids(lab) == before
    assert ready_members(lab) == ALL_MEMBERS
    assert "VM k3s-vm-pve1 (vmid=100) started (etcd cannot be saved before a server is taken out: " in run.out
    assert "no space left on device" in run.out
    assert "sudo k3s etcd-snapshot save" in run.err


def stop_another(world: World) -> None:
    """The k3s of the other server VM ends."""
    (vm,) = (vm for vm in world.vms.values() if vm.node == "pve2")
    power.switch_off(world, vm)


def is_fence(arrival: Arrival) -> bool:
    return arrival.path.endswith("/status/stop") or arrival.command_line.startswith("qm stop")


def test_server_that_the_others_turn_out_to_need_is_started_again(lab: Lab, homelab: Homelab, via: str) -> None:
    """Another server goes down just as this one has been switched off."""
    lab.reset("healthy")
    before = uuids(lab)
    Meanwhile(lab, is_fence, stop_another)

    run = homelab("--via", via, "--replace", "pve1")

    assert run.exit_code == 3, run.text
    assert uuids(lab) == before
    assert "pve1" in nodes_with_running_vm(lab)
    assert "k3s-vm-pve1" in k3s(lab)["nodes"]
    lab.shell("pve2", "qm start 101")
    again = homelab("--via", via)
    assert again.exit_code == 0, again.text
    assert ready_members(lab) == ALL_MEMBERS


def test_ghost_in_etcd_keeps_a_server_from_being_taken_out(lab: Lab, homelab: Homelab) -> None:
    lab.reset("stopped-server")

    def add(world: World) -> None:
        etcd = cluster(world).etcd
        etcd.members.append(type(etcd.members[0])(4711, "gone-deadbeef", "192.0.2.7", is_up=True))

    lab.look(add)
    before = uuids(lab)

    run = homelab()

    assert uuids(lab) == before
    assert "etcd counts a member that has no Node (gone-deadbeef)" in run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]


def test_vm_is_not_deleted_while_its_member_is_still_in_etcd(lab: Lab, homelab: Homelab) -> None:
    """The removal is lost again, as k3s may lose it where another server restarts right after it."""
    lab.reset("stopped-server")
    before = uuids(lab)
    name = "k3s-vm-pve1"

    def looks_after_the_removal(arrival: Arrival) -> bool:
        return "/db/info" in arrival.command_line and name not in k3s(lab)["nodes"]

    def is_back(world: World) -> None:
        etcd = cluster(world).etcd
        etcd.members.append(type(etcd.members[0])(4711, f"{name}-deadbeef", "192.0.2.7", is_up=False))

    Meanwhile(lab, looks_after_the_removal, is_back)

    run = homelab()

    assert run.exit_code == 3, run.text
    assert f"{name}: its etcd member is still there" in run.err
    assert "curl -sk https://127.0.0.1:6443/db/info" in run.err
    assert uuids(lab) == before


def test_second_new_server_begins_when_the_first_has_its_vote_and_has_settled(lab: Lab, homelab: Homelab) -> None:
    begun: list[tuple[float, list[str]]] = []
    well_since: list[float] = []

    def note(world: World) -> None:
        votes = [member.name for member in cluster(world).etcd.voters]
        begun.append((world.clock.now(), votes))

    def look(world: World) -> None:
        """As the tool sees it: time goes on in leaps, and what becomes of the first server in one shows at its end."""
        joined = [node for node in cluster(world).store.list("nodes") if ETCD_LABEL in node["metadata"]["labels"]]
        if len(joined) == len(cluster(world).etcd.voters) == 2 and all(map(is_ready, joined)):
            well_since.append(world.clock.now())

    lab.trap(Each(lab, lambda arrival: "get nodes" in arrival.command_line, look))
    lab.trap(Each(lab, lambda arrival: "INSTALL_K3S_EXEC=server" in arrival.command_line, note))

    run = homelab()

    assert run.exit_code == 0, run.text
    assert voters(lab) == ["k3s-server", "k3s-vm-pve1", "k3s-vm-pve2"]
    _, (second_at, votes) = begun
    assert len(votes) == 2
    assert second_at - well_since[0] >= 15 - LOOKED_AT_EVERY_S
