"""What would be lost with a machine: volumes that no other Node can give, and what pods keep on its disk. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from homelab import json_text
from homelab.errors import Misunderstood

HOST_NAME = "kubernetes.io/hostname"
EMPTY_PHASES = frozenset({"Available", "Pending"})
ENDED_PHASES = frozenset({"Succeeded", "Failed"})
OF_THE_SYSTEM = ("/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sys", "/tmp", "/usr", "/var/log", "/var/run")
OF_KUBERNETES = ("/opt/cni", "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet", "/var/lib/rancher/k3s/agent")
Labels = Mapping[str, str]
Document = Mapping[str, Any]


def parse_items(text: str | bytes, where: str) -> list[Document]:
    """The items of `kubectl get ... -o json`."""
    try:
        return [dict(item) for item in json_text.read(text)["items"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Misunderstood(f"{where}: the list of objects is not understood", str(error)) from error


def bound_to(
    name: str, nodes: Mapping[str, Labels], volumes: Sequence[Document], pods: Sequence[Document]
) -> tuple[str, ...]:
    """What is bound to the Node of that name, each as one phrase. Raises Misunderstood rather than leave something out.

    `nodes` are the labels of all Nodes; one that is not among them has only its host name. `pods` are those on it.
    """
    own = nodes.get(name, {HOST_NAME: name})
    others = [labels for other, labels in nodes.items() if other != name]
    try:
        staying = [pod for pod in pods if _stays(pod)]
        claimed = {claim for pod in staying for claim in _claims(pod)}
        found = [_volume(one) for one in volumes if _is_bound(one, (name, own), others, claimed)]
        return (*found, *(phrase for pod in staying for phrase in _host_paths(pod)))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Misunderstood(
            f"{name}: what is bound to it is not understood", f"{type(error).__name__}: {error}"
        ) from error


def _is_bound(
    volume: Document, own: tuple[str, Labels], others: Sequence[Labels], claimed: set[tuple[str, str]]
) -> bool:
    """Can only this Node give the volume? One of the host's disk without affinity is where the pod that has it runs."""
    spec = volume["spec"]
    if volume.get("status", {}).get("phase", "") in EMPTY_PHASES:
        return False
    terms = spec.get("nodeAffinity", {}).get("required", {}).get("nodeSelectorTerms", [])
    if terms:
        name, labels = own
        return _fits(terms, labels, name) and not any(_fits(terms, one, one.get(HOST_NAME, "")) for one in others)
    claim = spec.get("claimRef") or {}
    return "hostPath" in spec and (claim.get("namespace", ""), claim.get("name", "")) in claimed


def _fits(terms: Sequence[Document], labels: Labels, name: str) -> bool:
    """Does a Node with these labels satisfy one of the terms?"""
    return any(
        all(_holds(one, labels) for one in term.get("matchExpressions", []))
        and all(_holds(one, {"metadata.name": name}) for one in term.get("matchFields", []))
        for term in terms
    )


def _holds(requirement: Document, labels: Labels) -> bool:
    key, values = requirement["key"], requirement.get("values", [])
    match requirement["operator"]:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case operator:
            raise ValueError(f"node selector operator {operator}")


def _volume(volume: Document) -> str:
    name, spec = volume["metadata"]["name"], volume["spec"]
    claim = spec.get("claimRef")
    kind = spec.get("storageClassName") or "no storage class"
    return f"{claim['namespace']}/{claim['name']} (volume {name}, {kind})" if claim else f"volume {name} ({kind})"


def _stays(pod: Document) -> bool:
    """Is it a pod that works, and none of those that every Node has?"""
    owners = {owner["kind"] for owner in pod["metadata"].get("ownerReferences", [])}
    return not owners & {"DaemonSet", "Node"} and pod.get("status", {}).get("phase", "") not in ENDED_PHASES


def _claims(pod: Document) -> Iterator[tuple[str, str]]:
    for volume in pod["spec"].get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield pod["metadata"]["namespace"], volume["persistentVolumeClaim"]["claimName"]


def _host_paths(pod: Document) -> Iterator[str]:
    """Folders and files of the host's own disk that a pod has, other than the system's."""
    for volume in pod["spec"].get("volumes", []):
        path = volume.get("hostPath", {}).get("path", "/")
        if not _is_system(path):
            yield f"host path {path} (pod {pod['metadata']['namespace']}/{pod['metadata']['name']})"


def _is_system(path: str) -> bool:
    return path == "/" or any(PurePosixPath(path).is_relative_to(one) for one in (*OF_THE_SYSTEM, *OF_KUBERNETES))
