"""Node objects as k3s's kubelets and controllers write them."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from pvelab.guest.k3s_release import kubernetes_minor
from pvelab.guest.kube_objects import Document
from pvelab.guest.timestamps import timestamp

SECRETS = "kube-system"
"""The namespace of the Secrets that hold node passwords."""
ETCD_FINALIZER = "wrangler.cattle.io/managed-etcd-controller"
NODE_FINALIZER = "wrangler.cattle.io/node"
ETCD_LABEL = "node-role.kubernetes.io/etcd"
CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"
MASTER_LABEL = "node-role.kubernetes.io/master"
MEMBER_NAME = "etcd.k3s.cattle.io/node-name"
MEMBER_ADDRESS = "etcd.k3s.cattle.io/node-address"
REMOVE_MEMBER = "etcd.k3s.cattle.io/remove"
REMOVED_MEMBER = "etcd.k3s.cattle.io/removed-node-name"
NOT_READY_TAINT = "node.kubernetes.io/not-ready"
UNREACHABLE_TAINT = "node.kubernetes.io/unreachable"
UNSCHEDULABLE_TAINT = "node.kubernetes.io/unschedulable"
_FIRST_MINOR_WITHOUT_MASTER = (1, 34)
_STOPPED = "Kubelet stopped posting node status."
_KUBELET_CONDITIONS = {
    "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
}


@dataclass(frozen=True, slots=True)
class Host:
    """What a kubelet tells of the machine it runs on."""

    hostname: str
    address: str
    machine_id: str
    system_uuid: str
    boot_id: str
    cpus: int = 2
    memory_kib: int = 4_000_000
    disk_kib: int = 20_000_000
    kernel: str = "6.8.0-86-generic"
    os_image: str = "Ubuntu 24.04.3 LTS"


@dataclass(frozen=True, slots=True)
class Kubelet:
    """One start of k3s on a host, as far as its Node shows it."""

    node_name: str
    host: Host
    version: str
    is_server: bool = False
    node_args: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    container_trouble: tuple[str, str] | None = None
    """Reason and message, where no container can be started."""

    @property
    def node_info(self) -> Document:
        """status.nodeInfo."""
        return {
            "architecture": "amd64",
            "bootID": self.host.boot_id,
            "containerRuntimeVersion": "containerd://2.1.4-k3s1",
            "kernelVersion": self.host.kernel,
            "kubeProxyVersion": "" if kubernetes_minor(self.version) >= (1, 33) else self.version,
            "kubeletVersion": self.version,
            "machineID": self.host.machine_id,
            "operatingSystem": "linux",
            "osImage": self.host.os_image,
            "systemUUID": self.host.system_uuid,
        }


def new_node(kubelet: Kubelet, pod_number: int, now: float) -> Document:
    """The Node that a kubelet registers, not ready yet."""
    taints = [parse_taint(text) for text in kubelet.taints]
    taints.append({"key": NOT_READY_TAINT, "effect": "NoSchedule", "timeAdded": timestamp(now)})
    document: Document = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
            "finalizers": [NODE_FINALIZER],
            "labels": _labels(kubelet) | dict(kubelet.labels),
            "name": kubelet.node_name,
        },
        "spec": {
            "podCIDR": f"10.42.{pod_number}.0/24",
            "podCIDRs": [f"10.42.{pod_number}.0/24"],
            "providerID": f"k3s://{kubelet.node_name}",
            "taints": taints,
        },
        "status": {},
    }
    report(document, kubelet, now)
    return document


def report(document: Document, kubelet: Kubelet, now: float) -> None:
    """Write into the Node what its kubelet knows: addresses, capacity, nodeInfo, annotations."""
    host = kubelet.host
    capacity = {
        "cpu": str(host.cpus),
        "ephemeral-storage": f"{host.disk_kib}Ki",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "memory": f"{host.memory_kib}Ki",
        "pods": "110",
    }
    document["metadata"]["annotations"].update(_annotations(kubelet))
    document["metadata"]["labels"].update(_labels(kubelet))
    status = document["status"]
    status["addresses"] = [
        {"address": host.address, "type": "InternalIP"},
        {"address": host.hostname, "type": "Hostname"},
    ]
    status["allocatable"] = capacity | {"ephemeral-storage": str(host.disk_kib * 1024 * 95 // 100)}
    status["capacity"] = capacity
    status.setdefault("conditions", [])
    for kind, texts in _KUBELET_CONDITIONS.items():
        set_condition(document, kind, texts, now)
    if condition(document, "Ready") is None:
        not_ready = ("False", "KubeletNotReady", "container runtime network not ready: NetworkReady=false")
        set_condition(document, "Ready", not_ready, now)
    status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": 10250}}
    status["images"] = []
    status["nodeInfo"] = kubelet.node_info


def mark_ready(document: Document, now: float) -> None:
    """The kubelet is ready: pods may come."""
    set_condition(document, "Ready", ("True", "KubeletReady", "kubelet is posting ready status"), now)
    remove_taints(document, NOT_READY_TAINT, UNREACHABLE_TAINT)


def mark_not_ready(document: Document, texts: tuple[str, str, str], now: float) -> None:
    """The kubelet is not ready: no pods may come."""
    set_condition(document, "Ready", texts, now)
    remove_taints(document, NOT_READY_TAINT)
    taint = {"effect": "NoSchedule", "key": NOT_READY_TAINT, "timeAdded": timestamp(now)}
    document["spec"].setdefault("taints", []).append(taint)


def mark_unreachable(document: Document, now: float) -> None:
    """The node lifecycle controller has not heard of the kubelet for its grace period."""
    for kind in (*_KUBELET_CONDITIONS, "Ready"):
        set_condition(document, kind, ("Unknown", "NodeStatusUnknown", _STOPPED), now)
    remove_taints(document, NOT_READY_TAINT, UNREACHABLE_TAINT)
    for effect in ("NoSchedule", "NoExecute"):
        taint = {"effect": effect, "key": UNREACHABLE_TAINT, "timeAdded": timestamp(now)}
        document["spec"].setdefault("taints", []).append(taint)


def keep_unschedulable_taint(document: Document, now: float) -> None:
    """The node lifecycle controller's taint for a cordoned node: there while, and only while, it is cordoned."""
    held = [taint for taint in document["spec"].get("taints", []) if taint["key"] == UNSCHEDULABLE_TAINT]
    if not document["spec"].get("unschedulable"):
        document["spec"].pop("unschedulable", None)
        remove_taints(document, UNSCHEDULABLE_TAINT)
    elif not held:
        taint = {"effect": "NoSchedule", "key": UNSCHEDULABLE_TAINT, "timeAdded": timestamp(now)}
        document["spec"].setdefault("taints", []).append(taint)


def mark_voter(document: Document, texts: tuple[str, str, str], now: float) -> None:
    """The etcd leader's word on whether this node's member votes."""
    set_condition(document, "EtcdIsVoter", texts, now)


def condition(document: Document, kind: str) -> Document | None:
    """The condition of that type."""
    found: list[Document] = [one for one in document["status"].get("conditions", []) if one["type"] == kind]
    return found[0] if found else None


def is_ready(document: Document) -> bool:
    """Does the Node's condition Ready say True?"""
    found = condition(document, "Ready")
    return found is not None and found["status"] == "True"


def set_condition(document: Document, kind: str, texts: tuple[str, str, str], now: float) -> None:
    """Set (status, reason, message); the time of transition moves only with the status."""
    status, reason, message = texts
    found = condition(document, kind)
    if found is None:
        found = {"type": kind}
        document["status"].setdefault("conditions", []).append(found)
    if found.get("status") != status:
        found["lastTransitionTime"] = timestamp(now)
    if status != "Unknown":
        found["lastHeartbeatTime"] = timestamp(now)
    found.update(status=status, reason=reason, message=message)


def remove_taints(document: Document, *keys: str) -> None:
    """Take taints away; an empty list is not written."""
    left = [taint for taint in document["spec"].get("taints", []) if taint["key"] not in keys]
    document["spec"].pop("taints", None)
    if left:
        document["spec"]["taints"] = left


def parse_taint(text: str) -> Document:
    """key=value:Effect as `--node-taint` and `kubectl taint` take it."""
    pair, _, effect = text.rpartition(":")
    key, separator, value = pair.partition("=")
    return {"effect": effect, "key": key} | ({"value": value} if separator else {})


def password_secret(node_name: str, password: str) -> Document:
    """The Secret that binds a node's name to the password on its disk."""
    salt = secrets.token_hex(8)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(node_name), "namespace": SECRETS},
        "data": {"hash": base64.b64encode(_hash(salt, password).encode()).decode()},
        "immutable": True,
        "type": "Opaque",
    }


def secret_name(node_name: str) -> str:
    """The name of a node's password Secret in kube-system."""
    return f"{node_name.lower()}.node-password.k3s"


def password_matches(secret: Document, password: str) -> bool:
    """Is this the password that the Secret was made of?"""
    held = base64.b64decode(secret["data"]["hash"]).decode()
    return held == _hash(held.split(":")[1], password)


def _hash(salt: str, password: str) -> str:
    digest = hashlib.sha256(f"{salt}{password}".encode()).digest()
    return f"$1:{salt}:15:8:1:{base64.b64encode(digest).decode()}"


def _labels(kubelet: Kubelet) -> dict[str, str]:
    labels = {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/instance-type": "k3s",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": kubelet.host.hostname,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "k3s",
    }
    if kubelet.is_server:
        labels[CONTROL_PLANE_LABEL] = "true"
        if kubernetes_minor(kubelet.version) < _FIRST_MINOR_WITHOUT_MASTER:
            labels[MASTER_LABEL] = "true"
    return labels


def _annotations(kubelet: Kubelet) -> dict[str, str]:
    arguments = json.dumps(kubelet.node_args, separators=(",", ":"))
    digest = base64.b32encode(hashlib.sha256(arguments.encode()).digest()).decode()
    address = kubelet.host.address
    return {
        "alpha.kubernetes.io/provided-node-ip": address,
        "flannel.alpha.coreos.com/backend-data": json.dumps({"VNI": 1, "VtepMAC": _vtep_mac(kubelet)}),
        "flannel.alpha.coreos.com/backend-type": "vxlan",
        "flannel.alpha.coreos.com/kube-subnet-manager": "true",
        "flannel.alpha.coreos.com/public-ip": address,
        "k3s.io/hostname": kubelet.host.hostname,
        "k3s.io/internal-ip": address,
        "k3s.io/node-args": arguments,
        "k3s.io/node-config-hash": digest.rstrip("=") + "====",
        "k3s.io/node-env": "{}",
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
    }


def _vtep_mac(kubelet: Kubelet) -> str:
    digest = hashlib.sha256(f"{kubelet.host.machine_id}{kubelet.host.boot_id}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in bytes([digest[0] & 0xFE | 0x02, *digest[1:6]]))
