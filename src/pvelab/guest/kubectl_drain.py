"""`kubectl cordon`, `uncordon` and `drain`."""

from __future__ import annotations

from dataclasses import dataclass

from pvelab.guest import kube_pods, kube_resources, kube_writes
from pvelab.guest.kube_objects import Document, KubeError
from pvelab.guest.kubectl import FOREVER_S, Call, Complaint, seconds

_NODES = kube_resources.resource("nodes")
_POLL_S = 1.0
_RETRY_S = 5.0


async def cordon(call: Call) -> int:
    """Mark nodes as not schedulable."""
    for name in call.chosen(_NODES, call.words):
        _schedule(call, name, is_allowed=False)
    return 0


async def uncordon(call: Call) -> int:
    """Mark nodes as schedulable again."""
    for name in call.chosen(_NODES, call.words):
        _schedule(call, name, is_allowed=True)
    return 0


async def drain(call: Call) -> int:
    """Cordon a node and evict its pods. Raises Complaint when some may not be evicted, or time is up."""
    for name in call.chosen(_NODES, call.words):
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

    def alter(found: Document) -> None:
        found["spec"]["unschedulable"] = not is_allowed

    kube_writes.edit(call.cluster, call.target(_NODES, name), alter)
    call.process.print(f"node/{name} {word}")


async def _evict_all(call: Call, node_name: str) -> None:
    pods = [pod for pod in call.cluster.store.list("pods") if pod["spec"].get("nodeName") == node_name]
    of_daemons = [pod for pod in pods if _owner(pod) == "DaemonSet"]
    others = [pod for pod in pods if pod not in of_daemons]
    problems = _problems(call, of_daemons, others)
    if problems:
        raise _failed(node_name, problems)
    if of_daemons:
        call.process.complain(f"Warning: ignoring DaemonSet-managed Pods: {_names(of_daemons)}")
    limit = call.options.value("timeout", "0")
    eviction = _Eviction(call, node_name, others, limit, seconds(limit, FOREVER_S))
    refused = [pod for pod in others if not eviction.ask(pod)]
    for pod in others:
        if pod not in refused:
            await eviction.wait(pod)
    for pod in refused:
        await eviction.insist(pod)


@dataclass(slots=True)
class _Eviction:
    """The pods that are to leave a node, and what is left of the time for all of them."""

    call: Call
    node_name: str
    pods: list[Document]
    limit: str
    left_s: float

    def ask(self, pod: Document) -> bool:
        """Have a pod evicted; False when its disruption budget asks for patience."""
        metadata = pod["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        self.call.process.print(f"evicting pod {namespace}/{name}")
        held = self._still_there(pod)
        try:
            if held and "disable-eviction" in self.call.options:
                kube_pods.terminate(self.call.cluster, held, _grace(self.call))
            elif held:
                kube_pods.evict(self.call.cluster, held, _grace(self.call))
        except KubeError as refused:
            why = f"(will retry after {_RETRY_S:g}s): {refused.message}"
            self.call.process.complain(f'error when evicting pods/"{name}" -n "{namespace}" {why}')
            return False
        return True

    async def insist(self, pod: Document) -> None:
        """Ask again and again, and wait until the pod is gone. Raises Complaint."""
        metadata = pod["metadata"]
        text = f'error when evicting pods/"{metadata["name"]}" -n "{metadata["namespace"]}"'
        await self._pass(_RETRY_S, text)
        while not self.ask(pod):
            await self._pass(_RETRY_S, text)
        await self.wait(pod)

    async def wait(self, pod: Document) -> None:
        """Wait until a pod is gone. Raises Complaint."""
        metadata = pod["metadata"]
        text = f'error when waiting for pod "{metadata["name"]}" in namespace "{metadata["namespace"]}" to terminate'
        while self._still_there(pod):
            await self._pass(_POLL_S, text)
        self.call.process.print(f"pod/{metadata['name']} evicted")

    def _still_there(self, pod: Document) -> Document | None:
        metadata = pod["metadata"]
        held = self.call.cluster.store.find("pods", metadata["name"], metadata["namespace"])
        return held if held and held["metadata"]["uid"] == metadata["uid"] else None

    async def _pass(self, wait_s: float, text: str) -> None:
        if self.left_s < wait_s:
            text = f"{text}: global timeout reached: {self.limit}"
            self.call.process.complain(
                f'There are pending pods in node "{self.node_name}" when an error occurred: {text}'
            )
            for pod in self.pods:
                if self._still_there(pod):
                    self.call.process.print(f"pod/{pod['metadata']['name']}")
            raise _failed(self.node_name, [text])
        self.left_s -= wait_s
        await self.call.guest.clock.sleep(wait_s)


def _failed(node_name: str, problems: list[str]) -> Complaint:
    found = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
    lines = [
        f'error: unable to drain node "{node_name}" due to error: {found}, continuing command...',
        "There are pending nodes to be drained:",
        f" {node_name}",
    ]
    return Complaint("\n".join([*lines, *problems]))


def _grace(call: Call) -> int | None:
    given = int(call.options.value("grace-period", "-1"))
    return None if given < 0 else given


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
