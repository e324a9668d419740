"""What would be lost with a machine: which volumes and host paths count as its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homelab.errors import Misunderstood
from homelab.k3s_manager.data import bound_to, parse_items

HOST = "kubernetes.io/hostname"
NODES = {"a": {HOST: "a", "zone": "pve1"}, "b": {HOST: "b", "zone": "pve2"}, "c": {HOST: "c", "zone": "pve2"}}


def affinity(*expressions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": list(expressions), **more}]}}


def on(*hosts: str) -> dict[str, Any]:
    return affinity({"key": HOST, "operator": "In", "values": list(hosts)})


def volume(name: str = "pvc-1", phase: str = "Bound", **spec: Any) -> dict[str, Any]:
    claim = {"namespace": "default", "name": f"data-{name}"}
    spec = {"storageClassName": "local-path", "claimRef": claim, **spec}
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": phase}}


def pod(*volumes: dict[str, Any], owner: str = "ReplicaSet", phase: str = "Running") -> dict[str, Any]:
    owners = [{"kind": owner}] if owner else []
    metadata = {"name": "db", "namespace": "default", "ownerReferences": owners}
    return {"metadata": metadata, "spec": {"volumes": list(volumes)}, "status": {"phase": phase}}


def at(path: str) -> dict[str, Any]:
    return {"name": "files", "hostPath": {"path": path}}


CLAIM = {"name": "data", "persistentVolumeClaim": {"claimName": "data-pvc-1"}}


def test_volume_that_only_this_node_can_give_is_named_by_its_claim() -> None:
    found = bound_to("a", NODES, [volume(nodeAffinity=on("a")), volume("pvc-2", nodeAffinity=on("b"))], [])

    assert found == ("default/data-pvc-1 (volume pvc-1, local-path)",)


@pytest.mark.parametrize(
    ("terms", "is_bound"),
    [
        (on("a"), True),
        (on("a", "b"), False),
        (affinity({"key": "zone", "operator": "In", "values": ["pve1"]}), True),
        (affinity({"key": "zone", "operator": "In", "values": ["pve2"]}), False),
        (affinity({"key": "zone", "operator": "NotIn", "values": ["pve2"]}), True),
        (affinity({"key": "zone", "operator": "Exists"}), False),
        (affinity({"key": "gpu", "operator": "DoesNotExist"}), False),
        (affinity(matchFields=[{"key": "metadata.name", "operator": "In", "values": ["a"]}]), True),
        (affinity(matchFields=[{"key": "metadata.name", "operator": "In", "values": ["b"]}]), False),
        ({}, False),
    ],
)
def test_volume_is_bound_where_no_other_node_fits_its_affinity(terms: dict[str, Any], is_bound: bool) -> None:
    assert bool(bound_to("a", NODES, [volume(nodeAffinity=terms)], [])) is is_bound


@pytest.mark.parametrize(
    ("phase", "counts"), [("Bound", True), ("Released", True), ("Failed", True), ("Available", False)]
)
def test_volume_counts_as_long_as_somebody_has_had_it(phase: str, counts: bool) -> None:
    assert bool(bound_to("a", NODES, [volume(phase=phase, nodeAffinity=on("a"))], [])) is counts


def test_volume_of_nobody_is_named_by_itself() -> None:
    found = bound_to("a", NODES, [volume(nodeAffinity=on("a"), claimRef=None, storageClassName="")], [])

    assert found == ("volume pvc-1 (no storage class)",)


def test_of_a_node_that_is_gone_the_host_name_is_known() -> None:
    assert bound_to("gone", NODES, [volume(nodeAffinity=on("gone"))], []) != ()


def test_volume_on_a_host_s_disk_without_affinity_is_where_the_pod_with_its_claim_runs() -> None:
    anywhere = volume(hostPath={"path": "/srv/db"})

    assert bound_to("a", NODES, [anywhere], [pod(CLAIM)]) == ("default/data-pvc-1 (volume pvc-1, local-path)",)
    assert bound_to("a", NODES, [anywhere], [pod()]) == ()
    assert bound_to("a", NODES, [volume(nfs={"path": "/srv"})], [pod(CLAIM)]) == ()


@pytest.mark.parametrize(
    ("path", "counts"),
    [("/srv/media", True), ("/", False), ("/dev/dri", False), ("/var/log/pods", False), ("/etc/localtime", False)],
)
def test_folder_of_the_host_that_a_pod_has_counts_unless_it_is_the_system_s(path: str, counts: bool) -> None:
    assert bound_to("a", NODES, [], [pod(at(path))]) == ((f"host path {path} (pod default/db)",) if counts else ())


@pytest.mark.parametrize(
    ("owner", "phase", "counts"),
    [("", "Running", True), ("DaemonSet", "Running", False), ("Node", "Running", False), ("Job", "Succeeded", False)],
)
def test_pods_that_every_node_has_and_those_that_have_ended_do_not_count(owner: str, phase: str, counts: bool) -> None:
    assert bool(bound_to("a", NODES, [], [pod(at("/srv"), owner=owner, phase=phase)])) is counts


@pytest.mark.parametrize(
    "broken",
    [
        {"metadata": {"name": "x"}},
        volume(nodeAffinity=affinity({"key": "zone", "operator": "Gt", "values": ["1"]})),
        volume(nodeAffinity=affinity({"operator": "In"})),
    ],
)
def test_what_is_not_understood_is_never_left_out(broken: dict[str, Any]) -> None:
    with pytest.raises(Misunderstood, match="a: what is bound to it is not understood"):
        bound_to("a", NODES, [broken], [])


def test_lists_are_read_by_their_items() -> None:
    assert parse_items(json.dumps({"items": [{"kind": "Pod"}]}), "192.0.2.10") == [{"kind": "Pod"}]
    for text in ("", "{}", "[]", '{"items": [1]}'):
        with pytest.raises(Misunderstood, match=r"192\.0\.2\.10"):
            parse_items(text, "192.0.2.10")
