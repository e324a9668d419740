"""`kubectl cordon`, `uncordon` and `drain`."""

from __future__ import annotations

from pvelab.guest import kube_nodes
from pvelab.guest.kube_objects import Document
from pvelab.guest.kubectl import FOREVER_S, Call, Complaint, seconds
from pvelab.guest.timestamps import timestamp

_EVICTION_S = 1.0


async def cordon(call: Call) -> int:
    """Mark nodes as not schedulable."""
    for name in call.chosen("nodes", call.words):
        _schedule(call, name, is_allowed=False)
    return 0


async def uncordon(call: Call) -> int:
    """Mark nodes as schedulable again."""
    for name in call.chosen("nodes", call.words):
        _schedule(call, name, is_allowed=True)
    return 0


async def drain(call: Call) -> int:
    """Cordon a node and evict its pods. Raises Complaint when some may not be evicted, or time is up."""
    for name in call.chosen("nodes", call.words):
        _schedule(call, name, is_allowed=False)
        await _evict_all(call, name)
        call.process.print(f"node/{name} drained")
    return 0


def _schedule(call: Call, name: str, *, is_allowed: bool) -> None:
    word = "uncordoned" if is_allowed else "cordoned"
    node = call.cluster.store.get("nodes", name)
    if bool(node["spec"].get("unschedulable")) != is_allowed:
        call.process.print(f"node/{name} already {word}" if "drain" not in call.process.argv else f"node/{name} {word}")
        return

    def edit(found: Document) -> None:
        kube_nodes.remove_taints(found, kube_nodes.UNSCHEDULABLE_TAINT)
        if is_allowed:
            del found["spec"]["unschedulable"]
        else:
            found["spec"]["unschedulable"] = True
            taint = {"effect": "NoSchedule", "key": kube_nodes.UNSCHEDULABLE_TAINT}
            taint["timeAdded"] = timestamp(call.guest.clock.now())
            found["spec"].setdefault("taints", []).append(taint)

    call.cluster.store.change("nodes", name, edit)
    call.process.print(f"node/{name} {word}")


async def _evict_all(call: Call, node_name: str) -> None:
    pods = [pod for pod in call.cluster.store.list("pods") if pod["spec"].get("nodeName") == node_name]
    of_daemons = [pod for pod in pods if _owner(pod) == "DaemonSet"]
    others = [pod for pod in pods if pod not in of_daemons]
    problems = _problems(call, of_daemons, others)
    if problems:
        raise Complaint(
            f'error: unable to drain node "{node_name}" due to error: [{", ".join(problems)}], '
            f"continuing command...\nThere are pending nodes to be drained:\n {node_name}"
        )
    if of_daemons:
        call.process.complain(f"Warning: ignoring DaemonSet-managed Pods: {_names(of_daemons)}")
    limit_s = seconds(call.options.value("timeout", "0"), FOREVER_S)
    for pod in others:
        metadata = pod["metadata"]
        call.process.print(f"evicting pod {metadata['namespace']}/{metadata['name']}")
        if limit_s < _EVICTION_S:
            raise Complaint(f'error: unable to drain node "{node_name}" due to error: global timeout reached')
        await call.guest.clock.sleep(_EVICTION_S)
        limit_s -= _EVICTION_S
        call.cluster.store.delete("pods", metadata["name"], metadata["namespace"])
        call.process.print(f"pod/{metadata['name']} evicted")


def _problems(call: Call, of_daemons: list[Document], others: list[Document]) -> list[str]:
    problems = []
    if of_daemons and "ignore-daemonsets" not in call.options:
        problems.append(
            f"cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): {_names(of_daemons)}"
        )
    local = [pod for pod in others if any("emptyDir" in volume for volume in pod["spec"].get("volumes", []))]
    if local and "delete-emptydir-data" not in call.options:
        problems.append(
            f"cannot delete Pods with local storage (use --delete-emptydir-data to override): {_names(local)}"
        )
    alone = [pod for pod in others if not _owner(pod)]
    if alone and "force" not in call.options:
        problems.append(f"cannot delete Pods that declare no controller (use --force to override): {_names(alone)}")
    return problems


def _owner(pod: Document) -> str:
    owners = pod["metadata"].get("ownerReferences", [])
    return str(owners[0]["kind"]) if owners else ""


def _names(pods: list[Document]) -> str:
    return ", ".join(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods)
