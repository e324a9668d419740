"""Pods of somebody's, which stand in the way of a node's leaving: the fault `pod-on`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pvelab.catalogue import UnknownChoice
from pvelab.guest.kube_objects import Document
from pvelab.guest.timestamps import timestamp

if TYPE_CHECKING:
    from pvelab.guest.kube_objects import ObjectStore
    from pvelab.site import Site

NAMESPACE = "default"
IMAGE = "docker.io/library/nginx:1.27"
KINDS = ("plain", "bare", "scratch", "budget", "local-path", "stuck")
_BYTES = "5Gi"
_GOOD = ("Initialized", "PodScheduled", "Ready", "ContainersReady")
_OWNERS = {"local-path": "StatefulSet"}


def pod_on(site: Site, node: str, kind: str = "plain", pod: str = "web-0") -> None:
    """A pod of somebody's runs on a node, in the namespace default.

    kind: plain (of a ReplicaSet), bare (of nobody: drain needs --force), scratch (with an emptyDir), budget (a
    disruption budget forbids its eviction), local-path (of a StatefulSet, with a volume on the node's own disk,
    POD-data), stuck (a finalizer keeps it for ever).
    """
    if kind not in KINDS:
        raise UnknownChoice(f"kind={kind}: give {', '.join(KINDS)}")
    store = site.first_cluster().store
    found = store.find("nodes", node)
    if found is None:
        raise UnknownChoice(f"no Node {node!r}; there are: {', '.join(_names(store))}")
    if kind == "local-path":
        _claim(store, node, f"{pod}-data")
    if kind == "budget":
        _budget(store, pod)
    address = found["status"]["addresses"][0]["address"]
    store.create("pods", _pod(node, kind, pod, {"hostIP": address, "startTime": timestamp(site.clock.now())}))


def _names(store: ObjectStore) -> list[str]:
    return [str(one["metadata"]["name"]) for one in store.list("nodes")]


def _pod(node: str, kind: str, name: str, status: dict[str, Any]) -> Document:
    metadata: Document = {"name": name, "namespace": NAMESPACE, "labels": {"app": name}}
    if kind != "bare":
        owner = {"apiVersion": "apps/v1", "controller": True, "blockOwnerDeletion": True, "name": f"{name}-owner"}
        metadata["ownerReferences"] = [owner | {"kind": _OWNERS.get(kind, "ReplicaSet"), "uid": f"owner-of-{name}"}]
    if kind == "stuck":
        metadata["finalizers"] = ["example.com/hold"]
    volumes = {
        "scratch": [{"name": "scratch", "emptyDir": {}}],
        "local-path": [{"name": "data", "persistentVolumeClaim": {"claimName": f"{name}-data"}}],
    }
    started = {"running": {"startedAt": status["startTime"]}}
    container = {"name": "main", "image": IMAGE, "ready": True, "restartCount": 0, "started": True, "state": started}
    conditions = [{"type": one, "status": "True", "lastTransitionTime": status["startTime"]} for one in _GOOD]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "nodeName": node,
            "containers": [{"name": "main", "image": IMAGE}],
            "terminationGracePeriodSeconds": 30,
            "volumes": volumes.get(kind, []),
        },
        "status": {"phase": "Running", "conditions": conditions, "containerStatuses": [container]} | status,
    }


def _budget(store: ObjectStore, name: str) -> None:
    document = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}},
    }
    store.create("poddisruptionbudgets", document)


def _claim(store: ObjectStore, node: str, name: str) -> None:
    """What local-path-provisioner makes of a claim: a volume in a folder of the node, bound to it by its name."""
    volume = f"pvc-{name}"
    path = f"/var/lib/rancher/k3s/storage/{volume}_{NAMESPACE}_{name}"
    shared = {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path", "volumeMode": "Filesystem"}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "annotations": {"volume.kubernetes.io/selected-node": node},
        },
        "spec": shared | {"resources": {"requests": {"storage": _BYTES}}, "volumeName": volume},
        "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": _BYTES}},
    }
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    persistent = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": volume,
            "annotations": {"pv.kubernetes.io/provisioned-by": "rancher.io/local-path"},
        },
        "spec": shared
        | {
            "capacity": {"storage": _BYTES},
            "claimRef": {"kind": "PersistentVolumeClaim", "namespace": NAMESPACE, "name": name},
            "hostPath": {"path": path, "type": "DirectoryOrCreate"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            "persistentVolumeReclaimPolicy": "Delete",
        },
        "status": {"phase": "Bound"},
    }
    store.create("persistentvolumeclaims", claim)
    store.create("persistentvolumes", persistent)
