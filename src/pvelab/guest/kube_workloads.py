"""The controllers that keep k3s's own workloads running: owners of pods, scheduler, kubelets, pod collector."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pvelab.guest import kube_manifests, kube_nodes, kube_pods
from pvelab.guest.kube_manifests import SYSTEM
from pvelab.guest.kube_objects import Document
from pvelab.guest.timestamps import timestamp

if TYPE_CHECKING:
    from pvelab.guest.k3s_cluster import Cluster

PERIOD_S = 1.0
ORPHAN_S = 40.0
"""How long a pod outlives its Node."""
TOLERATION_S = 300.0
"""How long a pod stays on a node that cannot be reached."""
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_GOOD = ("Initialized", "PodReadyToStartContainers", "PodScheduled")


@dataclass(frozen=True, slots=True)
class _NodeSeen:
    is_ready: bool
    takes_pods: bool
    address: str
    pod_network: str


@dataclass(frozen=True, slots=True)
class _PodSeen:
    uid: str
    owner: str
    node: str
    is_ending: bool
    is_running: bool
    is_ready: bool
    is_waiting: bool = False


class Workloads:
    """Works some time after each change of a Node or pod, as long as there is something to do."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._store = cluster.store
        self._nodes: dict[str, _NodeSeen] = {}
        self._pods: dict[str, _PodSeen] = {}
        self._is_due = False
        self._numbers: dict[str, int] = {}
        self._sets: list[Document] = []
        self._daemons: Document = {}

    def start(self) -> None:
        """Make the owners and services of a new cluster, and work from now on."""
        for workload in kube_manifests.DEPLOYED:
            owner = self._store.create("deployments", kube_manifests.deployment(workload))
            self._sets.append(self._store.create("replicasets", kube_manifests.replica_set(workload, owner)))
        self._daemons = self._store.create("daemonsets", kube_manifests.daemon_set(kube_manifests.EVERYWHERE))
        for service in kube_manifests.services():
            self._store.create("services", service)
        self._store.create("storageclasses", kube_manifests.storage_class())
        self._store.listeners.append(self._note)

    # --- looking ---

    def _note(self, event: str, resource: str, document: Document) -> None:
        metadata = document["metadata"]
        if resource == "nodes":
            self._note_node(event, metadata["name"], document)
        elif resource == "pods" and metadata["namespace"] == SYSTEM:
            if event == "DELETED":
                self._pods.pop(metadata["name"], None)
            else:
                self._pods[metadata["name"]] = _seen_pod(document)
        elif resource != "poddisruptionbudgets":
            return
        self._plan()

    def _note_node(self, event: str, name: str, document: Document) -> None:
        if event == "DELETED":
            self._nodes.pop(name, None)
            self._cluster.timer.after(ORPHAN_S, lambda: self._collect(name))
            return
        before, seen = self._nodes.get(name), _seen_node(document)
        self._nodes[name] = seen
        if before and before.is_ready and not seen.is_ready:
            self._cluster.timer.after(TOLERATION_S, lambda: self._leave(name, document["metadata"]["uid"]))

    def _plan(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._cluster.timer.after(PERIOD_S, self._work)

    # --- working ---

    def _work(self) -> None:
        self._is_due = False
        for owner in self._sets:
            name = owner["metadata"]["name"]
            if not any(pod.owner == name and not pod.is_ending for pod in self._pods.values()):
                self._add(owner, "")
        name = self._daemons["metadata"]["name"]
        served = {pod.node for pod in self._pods.values() if pod.owner == name}
        for node in sorted(self._nodes.keys() - served):
            self._add(self._daemons, node)
        for pod_name, pod in sorted(self._pods.items()):
            self._advance(pod_name, pod)
        self._report()

    def _add(self, owner: Document, node: str) -> None:
        metadata, template = owner["metadata"], owner["spec"]["template"]
        suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
        labels = template["metadata"]["labels"]
        spec = template["spec"] | ({"nodeName": node} if node else {})
        document: Document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{metadata['name']}-{suffix}",
                "generateName": f"{metadata['name']}-",
                "namespace": metadata["namespace"],
                "labels": labels,
                "ownerReferences": [kube_manifests.owner_reference(owner)],
            },
            "spec": spec,
            "status": {"phase": "Pending", "qosClass": "BestEffort"},
        }
        self._store.create("pods", document)

    def _advance(self, name: str, pod: _PodSeen) -> None:
        """One step in a pod's life."""
        node = self._nodes.get(pod.node)
        if pod.is_ending:
            if pod.node in self._cluster.kubelets:
                kube_pods.end(self._cluster, {"name": name, "namespace": SYSTEM, "uid": pod.uid})
        elif not pod.node:
            self._schedule(name)
        elif self._trouble(pod.node):
            if not pod.is_waiting:
                self._store.change("pods", name, self._wait, SYSTEM)
        elif node and node.is_ready != pod.is_ready and (node.is_ready or pod.is_running):
            self._store.change("pods", name, lambda document: self._run(document, node), SYSTEM)

    def _trouble(self, node: str) -> tuple[str, str] | None:
        running = self._cluster.kubelets.get(node)
        return running.kubelet.container_trouble if running else None

    def _wait(self, document: Document) -> None:
        """The node's kubelet cannot start the containers."""
        reason, message = self._trouble(document["spec"]["nodeName"]) or ("", "")
        status, waiting = document["status"], {"reason": reason, "message": message}
        status["phase"] = "Pending"
        status["conditions"] = [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]
        status["containerStatuses"] = [
            {
                "name": one["name"],
                "image": one["image"],
                "ready": False,
                "restartCount": 0,
                "state": {"waiting": waiting},
            }
            for one in document["spec"]["containers"]
        ]

    def _schedule(self, name: str) -> None:
        free = [node for node, seen in self._nodes.items() if seen.takes_pods]
        if free:
            load = {node: sum(pod.node == node for pod in self._pods.values()) for node in free}
            chosen = min(sorted(free), key=lambda node: load[node])
            self._store.change("pods", name, lambda document: document["spec"].update(nodeName=chosen), SYSTEM)

    def _run(self, document: Document, node: _NodeSeen) -> None:
        """The node's kubelet has started the containers, or is not heard of any more."""
        now, status, spec = timestamp(self._cluster.timer.now()), document["status"], document["spec"]
        if "podIP" not in status:
            number = self._numbers[spec["nodeName"]] = self._numbers.get(spec["nodeName"], 1) + 1
            address = f"{node.pod_network}.{number}"
            status |= {"hostIP": node.address, "podIP": address, "podIPs": [{"ip": address}], "startTime": now}
            status["conditions"] = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in _GOOD]
        ready = {"status": str(node.is_ready), "lastTransitionTime": now}
        kept = [one for one in status["conditions"] if one["type"] in _GOOD]
        status["conditions"] = [*kept, {"type": "Ready"} | ready, {"type": "ContainersReady"} | ready]
        status["phase"] = "Running"
        status["containerStatuses"] = [
            {
                "name": container["name"],
                "image": container["image"],
                "ready": node.is_ready,
                "restartCount": 0,
                "started": True,
                "state": {"running": {"startedAt": status["startTime"]}},
            }
            for container in spec["containers"]
        ]

    def _collect(self, node: str) -> None:
        """Nobody ends the pods of a Node that is no more."""
        if node not in self._nodes:
            for name in [name for name, pod in self._pods.items() if pod.node == node]:
                self._store.delete("pods", name, SYSTEM)

    def _leave(self, node: str, uid: str) -> None:
        """A node has been out of reach for too long; its pods are to run elsewhere."""
        held, seen = self._store.find("nodes", node), self._nodes.get(node)
        if held is None or held["metadata"]["uid"] != uid or seen is None or seen.is_ready:
            return
        for name, pod in list(self._pods.items()):
            if pod.node == node and not pod.is_ending and pod.owner != self._daemons["metadata"]["name"]:
                kube_pods.terminate(self._cluster, self._store.get("pods", name, SYSTEM))

    # --- telling ---

    def _report(self) -> None:
        for owner in self._sets:
            name = owner["metadata"]["name"]
            count = int(any(pod.owner == name and pod.is_ready and not pod.is_ending for pod in self._pods.values()))
            self._tell("replicasets", name, {"replicas": 1, "readyReplicas": count, "availableReplicas": count})
            whole = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": count, "availableReplicas": count}
            self._tell("deployments", owner["metadata"]["ownerReferences"][0]["name"], whole)
        name = self._daemons["metadata"]["name"]
        serving = [pod for pod in self._pods.values() if pod.owner == name and pod.is_ready and not pod.is_ending]
        wanted = dict.fromkeys(("desiredNumberScheduled", "currentNumberScheduled"), len(self._nodes))
        ready = dict.fromkeys(("numberReady", "numberAvailable"), len(serving))
        self._tell("daemonsets", name, wanted | ready | {"updatedNumberScheduled": len(self._nodes)})
        addresses = sorted(self._nodes[pod.node].address for pod in serving if pod.node in self._nodes)
        reached = {"ingress": [{"ip": address, "ipMode": "VIP"} for address in addresses]} if addresses else {}
        self._tell("services", "traefik", {"loadBalancer": reached})

        for budget in self._store.list("poddisruptionbudgets"):
            metadata, status = budget["metadata"], kube_pods.budget_status(self._cluster, budget)
            self._tell("poddisruptionbudgets", metadata["name"], status, metadata["namespace"])

    def _tell(self, resource: str, name: str, status: Document, namespace: str = SYSTEM) -> None:
        self._store.change(resource, name, lambda document: document.update(status=status), namespace)


def _seen_node(document: Document) -> _NodeSeen:
    taints = document["spec"].get("taints", [])
    is_ready = kube_nodes.is_ready(document)
    return _NodeSeen(
        is_ready=is_ready,
        takes_pods=is_ready and all(taint["effect"] == "PreferNoSchedule" for taint in taints),
        address=document["status"]["addresses"][0]["address"],
        pod_network=document["spec"]["podCIDR"].rpartition(".")[0],
    )


def _seen_pod(document: Document) -> _PodSeen:
    owners = document["metadata"].get("ownerReferences", [])
    return _PodSeen(
        uid=document["metadata"]["uid"],
        owner=owners[0]["name"] if owners else "",
        node=document["spec"].get("nodeName", ""),
        is_ending="deletionTimestamp" in document["metadata"],
        is_running=document.get("status", {}).get("phase") == "Running",
        is_ready=kube_pods.is_healthy(document),
        is_waiting=any("waiting" in one["state"] for one in document.get("status", {}).get("containerStatuses", [])),
    )
