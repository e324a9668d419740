"""How pods end: deleted with grace, evicted unless a disruption budget forbids it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pvelab.guest import kube_selectors
from pvelab.guest.kube_objects import Document, KubeError

if TYPE_CHECKING:
    from pvelab.guest.k3s_cluster import Cluster

TERMINATION_S = 1.0
"""How long a container takes to end once its kubelet told it to."""
_GRACE_S = 30
_DISTURBED = "Cannot evict pod as it would violate the pod's disruption budget."


def terminate(cluster: Cluster, pod: Document, grace_s: int | None = None) -> None:
    """Delete a pod: at once with a grace of 0, else when the kubelet of its node has ended its containers."""
    metadata = pod["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    grace_s = pod["spec"].get("terminationGracePeriodSeconds", _GRACE_S) if grace_s is None else grace_s
    is_placed = bool(pod["spec"].get("nodeName"))
    cluster.store.delete("pods", name, namespace, grace_s if is_placed else 0)
    if cluster.store.find("pods", name, namespace):
        cluster.timer.after(TERMINATION_S, lambda: end(cluster, metadata))


def end(cluster: Cluster, metadata: Document) -> None:
    """The kubelet of a pod's node, if it runs, has ended a pod that is being deleted."""
    held = cluster.store.find("pods", metadata["name"], metadata["namespace"])
    if held is None or held["metadata"]["uid"] != metadata["uid"] or "deletionTimestamp" not in held["metadata"]:
        return
    if held["spec"].get("nodeName") in cluster.kubelets:
        cluster.store.delete("pods", metadata["name"], metadata["namespace"])


def evict(cluster: Cluster, pod: Document, grace_s: int | None = None) -> None:
    """Delete a pod unless a disruption budget forbids it. Raises KubeError (TooManyRequests)."""
    namespace = pod["metadata"]["namespace"]
    if "deletionTimestamp" not in pod["metadata"] and is_healthy(pod):
        for budget in cluster.store.list("poddisruptionbudgets", namespace):
            if _covers(budget, pod):
                _refuse_disruption(cluster, budget)
    terminate(cluster, pod, grace_s)


def is_healthy(pod: Document) -> bool:
    """Is the pod ready, as far as it says?"""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _covers(budget: Document, pod: Document) -> bool:
    wanted: dict[str, str] = budget["spec"].get("selector", {}).get("matchLabels", {})
    return kube_selectors.fits(pod, ",".join(f"{name}={value}" for name, value in wanted.items()))


def _refuse_disruption(cluster: Cluster, budget: Document) -> None:
    status = budget_status(cluster, budget)
    if status["disruptionsAllowed"] < 1:
        name, needed, healthy = budget["metadata"]["name"], status["desiredHealthy"], status["currentHealthy"]
        message = f"The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
        cause = {"reason": "DisruptionBudget", "message": message}
        raise KubeError(429, "TooManyRequests", _DISTURBED, {"causes": [cause]})


def budget_status(cluster: Cluster, budget: Document) -> Document:
    """How many pods a disruption budget covers, wants healthy, has healthy, and lets go."""
    pods = [pod for pod in cluster.store.list("pods", budget["metadata"]["namespace"]) if _covers(budget, pod)]
    healthy = sum(is_healthy(pod) and "deletionTimestamp" not in pod["metadata"] for pod in pods)
    spec = budget["spec"]
    if "maxUnavailable" in spec:
        needed = len(pods) - _share(spec["maxUnavailable"], len(pods))
    else:
        needed = _share(spec.get("minAvailable", 1), len(pods))
    return {
        "currentHealthy": healthy,
        "desiredHealthy": needed,
        "disruptionsAllowed": max(0, healthy - needed) if pods else 0,
        "expectedPods": len(pods),
    }


def _share(amount: int | str, total: int) -> int:
    """An absolute number, or a percentage rounded up."""
    if isinstance(amount, int):
        return amount
    return math.ceil(total * int(amount.removesuffix("%")) / 100)
