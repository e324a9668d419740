"""What k3s itself runs in kube-system: the objects that its packaged manifests and their controllers make."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from pvelab.guest.kube_objects import Document

SYSTEM = "kube-system"
_CLUSTER_SERVICE = "kubernetes.io/cluster-service"


@dataclass(frozen=True, slots=True)
class Workload:
    """One thing that runs; `scratch` are its emptyDir volumes, `requests` what its first container asks for."""

    name: str
    image: str
    labels: tuple[tuple[str, str], ...]
    containers: tuple[str, ...]
    scratch: tuple[str, ...] = ()
    requests: tuple[tuple[str, str], ...] = ()
    grace_s: int = 30

    @property
    def digest(self) -> str:
        """What its generated names carry, the same every time."""
        return hashlib.sha256(f"{self.name} {self.image}".encode()).hexdigest()[:10]

    def template(self) -> Document:
        """The pod as its owner describes it."""
        containers: list[Document] = [
            {"name": name, "image": self.image, "imagePullPolicy": "IfNotPresent"} for name in self.containers
        ]
        if self.requests:
            containers[0]["resources"] = {"requests": dict(self.requests)}
        spec: Document = {
            "containers": containers,
            "dnsPolicy": "ClusterFirst",
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "terminationGracePeriodSeconds": self.grace_s,
        }
        if self.scratch:
            spec["volumes"] = [{"name": name, "emptyDir": {}} for name in self.scratch]
        return {"metadata": {"labels": dict(self.labels)}, "spec": spec}


_SMALL = (("cpu", "100m"), ("memory", "70Mi"))
DEPLOYED = (
    Workload(
        "coredns", "rancher/mirrored-coredns-coredns:1.12.3", (("k8s-app", "kube-dns"),), ("coredns",), (), _SMALL
    ),
    Workload(
        "local-path-provisioner",
        "rancher/local-path-provisioner:v0.0.31",
        (("app", "local-path-provisioner"),),
        ("local-path-provisioner",),
    ),
    Workload(
        "metrics-server",
        "rancher/mirrored-metrics-server:v0.8.0",
        (("k8s-app", "metrics-server"),),
        ("metrics-server",),
        ("tmp-dir",),
        _SMALL,
    ),
    Workload(
        "traefik",
        "rancher/mirrored-library-traefik:3.3.6",
        (("app.kubernetes.io/instance", "traefik-kube-system"), ("app.kubernetes.io/name", "traefik")),
        ("traefik",),
        ("data", "tmp"),
        (),
        60,
    ),
)
EVERYWHERE = Workload(
    "svclb-traefik", "rancher/klipper-lb:v0.4.13", (("app", "svclb-traefik"),), ("lb-tcp-80", "lb-tcp-443")
)


def deployment(workload: Workload) -> Document:
    """The Deployment of one replica."""
    return _object("apps/v1", "Deployment", workload.name, dict(workload.labels)) | {
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": dict(workload.labels)},
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}, "type": "RollingUpdate"},
            "template": workload.template(),
        },
        "status": {},
    }


def replica_set(workload: Workload, owner: Document) -> Document:
    """The ReplicaSet that the Deployment's controller makes."""
    labels = dict(workload.labels) | {"pod-template-hash": workload.digest}
    document = _object("apps/v1", "ReplicaSet", f"{workload.name}-{workload.digest}", labels, owner)
    template = workload.template()
    template["metadata"]["labels"] = labels
    return document | {"spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}, "status": {}}


def daemon_set(workload: Workload) -> Document:
    """The DaemonSet that the service load balancer makes for Traefik."""
    labels = dict(workload.labels)
    return _object("apps/v1", "DaemonSet", f"{workload.name}-{workload.digest[:8]}", labels) | {
        "spec": {
            "selector": {"matchLabels": labels},
            "template": workload.template(),
            "updateStrategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}, "type": "RollingUpdate"},
        },
        "status": {},
    }


def services() -> list[Document]:
    """The services of a new cluster."""
    dns = _service(
        SYSTEM, "kube-dns", "10.43.0.10", [("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"), ("metrics", 9153, "TCP")]
    )
    dns["metadata"]["labels"] = {"k8s-app": "kube-dns", _CLUSTER_SERVICE: "true", "kubernetes.io/name": "CoreDNS"}
    dns["spec"]["selector"] = {"k8s-app": "kube-dns"}
    metrics = _service(SYSTEM, "metrics-server", "10.43.117.12", [("https", 443, "TCP")])
    metrics["metadata"]["labels"] = {_CLUSTER_SERVICE: "true", "kubernetes.io/name": "Metrics-server"}
    metrics["spec"]["selector"] = {"k8s-app": "metrics-server"}
    traefik = _service(SYSTEM, "traefik", "10.43.171.60", [("web", 80, "TCP"), ("websecure", 443, "TCP")])
    traefik["spec"] |= {"type": "LoadBalancer", "selector": dict(DEPLOYED[-1].labels)}
    for port, node_port in zip(traefik["spec"]["ports"], (31340, 30716), strict=True):
        port["nodePort"] = node_port
    kubernetes = _service("default", "kubernetes", "10.43.0.1", [("https", 443, "TCP")])
    kubernetes["metadata"]["labels"] = {"component": "apiserver", "provider": "kubernetes"}
    return [kubernetes, dns, metrics, traefik]


def storage_class() -> Document:
    """The only one, which keeps volumes on the node's own disk."""
    document = _object("storage.k8s.io/v1", "StorageClass", "local-path", {})
    document["metadata"].pop("namespace", None)
    document["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    return document | {
        "provisioner": "rancher.io/local-path",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def owner_reference(owner: Document) -> Document:
    """How an object says who controls it."""
    return {
        "apiVersion": owner["apiVersion"],
        "blockOwnerDeletion": True,
        "controller": True,
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }


def _object(api_version: str, kind: str, name: str, labels: dict[str, str], owner: Document | None = None) -> Document:
    metadata: Document = {"name": name, "namespace": SYSTEM, "labels": labels}
    if owner:
        metadata["ownerReferences"] = [owner_reference(owner)]
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _service(namespace: str, name: str, address: str, ports: list[tuple[str, int, str]]) -> Document:
    spec: dict[str, Any] = {
        "clusterIP": address,
        "clusterIPs": [address],
        "ports": [
            {"name": title, "port": port, "protocol": protocol, "targetPort": port} for title, port, protocol in ports
        ],
        "sessionAffinity": "None",
        "type": "ClusterIP",
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}
