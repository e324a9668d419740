"""What the API server shows of objects in a table; a client only lays it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pvelab.guest import kube_nodes
from pvelab.guest.kube_ages import age
from pvelab.guest.kube_objects import Document

Cell = str | int
_NONE, _UNKNOWN, _UNSET = "<none>", "<unknown>", "<unset>"
_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `is_wide` ones are shown by -o wide only."""

    title: str
    read: Callable[[Document, float], Cell]
    is_wide: bool = False


def _name(document: Document, _now: float) -> Cell:
    return str(document["metadata"]["name"])


def _class_name(document: Document, _now: float) -> Cell:
    return f"{document['metadata']['name']} (default)"


def _age(document: Document, now: float) -> Cell:
    return age(document["metadata"]["creationTimestamp"], now)


def _at(*path: str, otherwise: Cell = _NONE) -> Callable[[Document, float], Cell]:
    def read(document: Document, _now: float) -> Cell:
        held: Any = document
        for name in path:
            held = held.get(name) if isinstance(held, dict) else None
        return otherwise if held is None or held == "" else held if isinstance(held, int) else str(held)

    return read


def _counted(*path: str) -> Callable[[Document, float], Cell]:
    return _at(*path, otherwise=0)


def _size(field: str) -> Callable[[Document, float], Cell]:
    return lambda document, _now: len(document.get(field) or {})


def _pairs(labels: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items())) or _NONE


def _selector(*path: str) -> Callable[[Document, float], Cell]:
    def read(document: Document, _now: float) -> Cell:
        held = document["spec"]
        for name in path:
            held = held.get(name) or {}
        return _pairs(held)

    return read


def _containers(field: str) -> Callable[[Document, float], Cell]:
    return lambda document, _now: ",".join(one[field] for one in document["spec"]["template"]["spec"]["containers"])


def _node_status(document: Document, _now: float) -> Cell:
    ready = kube_nodes.condition(document, "Ready")
    state = "Unknown" if ready is None else "Ready" if ready["status"] == "True" else "NotReady"
    return state + (",SchedulingDisabled" if document["spec"].get("unschedulable") else "")


def _roles(document: Document, _now: float) -> Cell:
    prefix = "node-role.kubernetes.io/"
    roles = sorted(label.removeprefix(prefix) for label in document["metadata"]["labels"] if label.startswith(prefix))
    return ",".join(roles) or _NONE


def _address(kind: str) -> Callable[[Document, float], Cell]:
    def read(document: Document, _now: float) -> Cell:
        found = [one["address"] for one in document["status"].get("addresses", []) if one["type"] == kind]
        return str(found[0]) if found else _NONE

    return read


def _pod_ready(document: Document, _now: float) -> Cell:
    containers = document["spec"].get("containers", [])
    ready = sum(bool(one.get("ready")) for one in document.get("status", {}).get("containerStatuses", []))
    return f"{ready}/{len(containers)}"


def _pod_status(document: Document, _now: float) -> Cell:
    status = document.get("status", {})
    if "deletionTimestamp" in document["metadata"]:
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    waiting = [
        one["state"]["waiting"]["reason"] for one in status.get("containerStatuses", []) if "waiting" in one["state"]
    ]
    return waiting[-1] if waiting else str(status.get("reason") or status.get("phase") or "Pending")


def _restarts(document: Document, _now: float) -> Cell:
    statuses = document.get("status", {}).get("containerStatuses", [])
    return sum(int(one.get("restartCount", 0)) for one in statuses)


def _external(document: Document, _now: float) -> Cell:
    found = document.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    return ",".join(str(one["ip"]) for one in found) or _NONE


def _ports(document: Document, _now: float) -> Cell:
    shown = [
        f"{one['port']}" + (f":{one['nodePort']}" if "nodePort" in one else "") + f"/{one.get('protocol', 'TCP')}"
        for one in document["spec"].get("ports", [])
    ]
    return ",".join(shown) or _NONE


def _modes(document: Document, _now: float) -> Cell:
    return ",".join(_MODES.get(mode, mode) for mode in document["spec"].get("accessModes", []))


def _claim(document: Document, _now: float) -> Cell:
    claim = document["spec"].get("claimRef")
    return f"{claim['namespace']}/{claim['name']}" if claim else ""


def _deployed(document: Document, _now: float) -> Cell:
    return f"{document['status'].get('readyReplicas', 0)}/{document['spec'].get('replicas', 1)}"


def _last_seen(document: Document, now: float) -> Cell:
    seen = document.get("lastTimestamp") or document["metadata"]["creationTimestamp"]
    return age(seen, now)


def _involved(document: Document, _now: float) -> Cell:
    involved = document["involvedObject"]
    return f"{involved['kind'].lower()}/{involved['name']}"


_NAME, _AGE = Column("Name", _name), Column("Age", _age)
_PLAIN = (_NAME, _AGE)
_WORKLOAD = (
    Column("Containers", _containers("name"), is_wide=True),
    Column("Images", _containers("image"), is_wide=True),
    Column("Selector", _selector("selector", "matchLabels"), is_wide=True),
)
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "configmaps": (_NAME, Column("Data", _size("data")), _AGE),
    "daemonsets": (
        _NAME,
        Column("Desired", _counted("status", "desiredNumberScheduled")),
        Column("Current", _counted("status", "currentNumberScheduled")),
        Column("Ready", _counted("status", "numberReady")),
        Column("Up-to-date", _counted("status", "updatedNumberScheduled")),
        Column("Available", _counted("status", "numberAvailable")),
        Column("Node Selector", _selector("template", "spec", "nodeSelector")),
        _AGE,
        *_WORKLOAD,
    ),
    "deployments": (
        _NAME,
        Column("Ready", _deployed),
        Column("Up-to-date", _counted("status", "updatedReplicas")),
        Column("Available", _counted("status", "availableReplicas")),
        _AGE,
        *_WORKLOAD,
    ),
    "events": (
        Column("Last Seen", _last_seen),
        Column("Type", _at("type")),
        Column("Reason", _at("reason")),
        Column("Object", _involved),
        Column("Message", _at("message")),
    ),
    "namespaces": (_NAME, Column("Status", _at("status", "phase")), _AGE),
    "nodes": (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", _roles),
        _AGE,
        Column("Version", _at("status", "nodeInfo", "kubeletVersion")),
        Column("Internal-IP", _address("InternalIP"), is_wide=True),
        Column("External-IP", _address("ExternalIP"), is_wide=True),
        Column("OS-Image", _at("status", "nodeInfo", "osImage", otherwise=_UNKNOWN), is_wide=True),
        Column("Kernel-Version", _at("status", "nodeInfo", "kernelVersion", otherwise=_UNKNOWN), is_wide=True),
        Column(
            "Container-Runtime",
            _at("status", "nodeInfo", "containerRuntimeVersion", otherwise=_UNKNOWN),
            is_wide=True,
        ),
    ),
    "persistentvolumeclaims": (
        _NAME,
        Column("Status", _at("status", "phase")),
        Column("Volume", _at("spec", "volumeName", otherwise="")),
        Column("Capacity", _at("status", "capacity", "storage", otherwise="")),
        Column("Access Modes", _modes),
        Column("StorageClass", _at("spec", "storageClassName", otherwise="")),
        Column("VolumeAttributesClass", _at("spec", "volumeAttributesClassName", otherwise=_UNSET)),
        _AGE,
        Column("VolumeMode", _at("spec", "volumeMode", otherwise=_UNSET), is_wide=True),
    ),
    "persistentvolumes": (
        _NAME,
        Column("Capacity", _at("spec", "capacity", "storage", otherwise="")),
        Column("Access Modes", _modes),
        Column("Reclaim Policy", _at("spec", "persistentVolumeReclaimPolicy", otherwise="")),
        Column("Status", _at("status", "phase", otherwise="")),
        Column("Claim", _claim),
        Column("StorageClass", _at("spec", "storageClassName", otherwise="")),
        Column("VolumeAttributesClass", _at("spec", "volumeAttributesClassName", otherwise=_UNSET)),
        Column("Reason", _at("status", "reason", otherwise="")),
        _AGE,
        Column("VolumeMode", _at("spec", "volumeMode", otherwise=_UNSET), is_wide=True),
    ),
    "poddisruptionbudgets": (
        _NAME,
        Column("Min Available", _at("spec", "minAvailable", otherwise="N/A")),
        Column("Max Unavailable", _at("spec", "maxUnavailable", otherwise="N/A")),
        Column("Allowed Disruptions", _counted("status", "disruptionsAllowed")),
        _AGE,
    ),
    "pods": (
        _NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _restarts),
        _AGE,
        Column("IP", _at("status", "podIP"), is_wide=True),
        Column("Node", _at("spec", "nodeName"), is_wide=True),
        Column("Nominated Node", _at("status", "nominatedNodeName"), is_wide=True),
        Column("Readiness Gates", lambda _document, _now: _NONE, is_wide=True),
    ),
    "replicasets": (
        _NAME,
        Column("Desired", _counted("spec", "replicas")),
        Column("Current", _counted("status", "replicas")),
        Column("Ready", _counted("status", "readyReplicas")),
        _AGE,
        *_WORKLOAD,
    ),
    "leases": (_NAME, Column("Holder", _at("spec", "holderIdentity")), _AGE),
    "storageclasses": (
        Column("Name", _class_name),
        Column("Provisioner", _at("provisioner")),
        Column("ReclaimPolicy", _at("reclaimPolicy")),
        Column("VolumeBindingMode", _at("volumeBindingMode")),
        Column("AllowVolumeExpansion", lambda document, _now: bool(document.get("allowVolumeExpansion"))),
        _AGE,
    ),
    "secrets": (_NAME, Column("Type", _at("type")), Column("Data", _size("data")), _AGE),
    "services": (
        _NAME,
        Column("Type", _at("spec", "type")),
        Column("Cluster-IP", _at("spec", "clusterIP")),
        Column("External-IP", _external),
        Column("Port(s)", _ports),
        _AGE,
        Column("Selector", _selector("selector"), is_wide=True),
    ),
}


def columns_of(resource: str) -> Sequence[Column]:
    """The columns of a resource's table, the wide ones too."""
    return _COLUMNS.get(resource, _PLAIN)


def cells_of(document: Document, resource: str, now: float) -> list[Cell]:
    """One object's cells, in the order of the columns."""
    return [column.read(document, now) for column in columns_of(resource)]


def table_document(documents: Sequence[Document], resource: str, now: float, shown: str = "Metadata") -> Document:
    """A meta.k8s.io/v1 Table; `shown` says what of each object goes with its row: None, Metadata or Object."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": [
            {
                "name": column.title,
                "type": "string",
                "format": "name" if column.title == "Name" else "",
                "description": "",
                "priority": int(column.is_wide),
            }
            for column in columns_of(resource)
        ],
        "rows": [
            {"cells": cells_of(document, resource, now), "object": _carried(document, shown)} for document in documents
        ],
    }


def _carried(document: Document, shown: str) -> Document | None:
    if shown == "None":
        return None
    if shown == "Object":
        return document
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": document["metadata"]}
