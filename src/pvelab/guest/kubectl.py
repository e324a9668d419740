"""`kubectl` on a machine of the lab: the verbs and options that administering nodes takes."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pvelab.guest import kubectl_print
from pvelab.guest.jsonpath import select
from pvelab.guest.k3s_files import KUBECONFIG
from pvelab.guest.k3s_release import commit_of, kubernetes_minor
from pvelab.guest.kube_objects import Document, KubeError
from pvelab.guest.options import BadOption, Grammar, Options

if TYPE_CHECKING:
    from pvelab.guest.k3s_cluster import Cluster
    from pvelab.guest.machine import GuestMachine
    from pvelab.machine import Process

_GRAMMAR = Grammar(
    flags={"all-namespaces", "ignore-not-found", "no-headers", "wait", "now", "force", "all"}
    | {"ignore-daemonsets", "delete-emptydir-data", "disable-eviction", "overwrite", "client"},
    values={"namespace", "output", "selector", "request-timeout", "kubeconfig", "timeout", "for", "grace-period"}
    | {"raw", "skip-wait-for-delete-timeout", "field-selector"},
    short={"n": "namespace", "A": "all-namespaces", "o": "output", "l": "selector"},
)
_RESOURCES = {
    "nodes": ("node", "no"),
    "secrets": ("secret",),
    "namespaces": ("namespace", "ns"),
    "pods": ("pod", "po"),
    "persistentvolumes": ("persistentvolume", "pv"),
    "persistentvolumeclaims": ("persistentvolumeclaim", "pvc"),
    "events": ("event", "ev"),
    "daemonsets": ("daemonset", "ds", "daemonsets.apps"),
}
CLUSTER_WIDE = ("nodes", "namespaces", "persistentvolumes")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_NO_QUORUM_S = 10.0
FOREVER_S = 7 * 24 * 3600.0


class Complaint(Exception):
    """What kubectl prints on standard error before it ends with 1."""


@dataclass(frozen=True, slots=True)
class Call:
    """One kubectl command against a cluster that answers."""

    guest: GuestMachine
    process: Process
    cluster: Cluster
    options: Options
    words: list[str]

    @property
    def namespace(self) -> str:
        """The namespace of what is not cluster-wide."""
        return self.options.value("namespace", "default")

    def objects(self) -> tuple[str, list[str]]:
        """Resource and names, from `node X Y` or `node/X node/Y`. Raises Complaint."""
        words = self.words
        if not words:
            raise Complaint("error: You must specify the type of resource.")
        if "/" in words[0]:
            pairs = [word.partition("/") for word in words]
            return resource_of(pairs[0][0]), [name for _, _, name in pairs]
        return resource_of(words[0]), words[1:]

    def place(self, resource: str) -> str:
        """The namespace to look in."""
        return "" if resource in CLUSTER_WIDE else self.namespace

    def chosen(self, resource: str, names: list[str]) -> list[str]:
        """The names given, or those that the selector or --all means."""
        if names or not ("selector" in self.options or "all" in self.options):
            return names
        found = self.cluster.store.list(resource, self.place(resource))
        return [one["metadata"]["name"] for one in found if fits(one, self.options.value("selector"))]


Verb = Callable[[Call], Awaitable[int]]


async def kubectl(guest: GuestMachine, process: Process) -> int:
    """`kubectl ...`, with the credentials in k3s's own kubeconfig."""
    return await run_words(guest, process, process.argv[1:])


async def run_words(guest: GuestMachine, process: Process, words: list[str]) -> int:
    """Run kubectl with these words."""
    from pvelab.guest.kubectl_verbs import VERBS

    try:
        options = _GRAMMAR.parse(words)
    except BadOption as problem:
        text = str(problem)
        process.complain(f"error: unknown {'' if text.startswith('--') else 'shorthand '}flag: {text}")
        return 1
    verb, *rest = options.words or ["help"]
    if verb not in VERBS:
        process.complain(f'error: unknown command "{verb}" for "kubectl"')
        return 1
    try:
        cluster = await _connect(guest, process, options)
        return await VERBS[verb](Call(guest, process, cluster, options, rest))
    except Complaint as problem:
        process.complain(str(problem))
    except KubeError as error:
        process.complain(f"Error from server ({error.reason}): {error.message}")
    except kubectl_print.BadOutput as problem:
        process.complain(str(problem))
    return 1


async def _connect(guest: GuestMachine, process: Process, options: Options) -> Cluster:
    """The cluster of this machine's own server. Raises Complaint."""
    path = options.value("kubeconfig") or process.env.get("KUBECONFIG") or KUBECONFIG
    if not guest.files.exists(path):
        raise Complaint(
            "The connection to the server localhost:8080 was refused - did you specify the right host or port?"
        )
    try:
        guest.files.read(path, process.user)
    except PermissionError as denied:
        process.complain(
            f'time="..." level=warning msg="Unable to read {path}, please start server with '
            '--write-kubeconfig-mode or --write-kubeconfig-group to modify kube config permissions"'
        )
        raise Complaint(f'error: error loading config file "{path}": open {path}: permission denied') from denied
    endpoint = guest.surroundings.clusters.endpoints.get(guest.address)
    if endpoint is None:
        raise Complaint(
            "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?"
        )
    if not endpoint.cluster.is_available:
        await guest.clock.sleep(min(_NO_QUORUM_S, seconds(options.value("request-timeout", "0"), _NO_QUORUM_S)))
        raise Complaint("Error from server (ServiceUnavailable): the server is currently unable to handle the request")
    return endpoint.cluster


def resource_of(word: str) -> str:
    """The resource that a word of the command line names. Raises Complaint."""
    for resource, names in _RESOURCES.items():
        if word.lower() in (resource, *names):
            return resource
    raise Complaint(f'error: the server doesn\'t have a resource type "{word}"')


def singular(resource: str) -> str:
    """node for nodes."""
    return _RESOURCES[resource][0]


def seconds(text: str, otherwise: float) -> float:
    """A duration such as 5m; `otherwise` for 0, which means no limit."""
    found = [float(number) * _UNITS_S[unit or None] for number, unit in _DURATION.findall(text)]
    return sum(found) or otherwise


def fits(document: Document, selector: str) -> bool:
    """Has the object the labels that a selector asks for?"""
    labels = document["metadata"].get("labels", {})
    for part in filter(None, selector.split(",")):
        name, equals, value = part.replace("==", "=").partition("=")
        if name.startswith("!"):
            if name[1:] in labels:
                return False
        elif name.endswith("!"):
            if labels.get(name[:-1]) == value:
                return False
        elif name not in labels or (equals and labels[name] != value):
            return False
    return True


def has_fields(document: Document, selector: str) -> bool:
    """Has the object the fields (metadata.name, spec.nodeName, status.phase) that a field selector asks for?"""
    for part in filter(None, selector.split(",")):
        path, is_unequal, value = re.split(r"(!=)|==?", part, maxsplit=1)
        if (str(next(iter(select(path, document)), "")) == value) == bool(is_unequal):
            return False
    return True


def version_document(version: str) -> Document:
    """What /version says."""
    major, minor = kubernetes_minor(version)
    return {
        "major": str(major),
        "minor": str(minor),
        "gitVersion": version,
        "gitCommit": commit_of(version) * 5,
        "gitTreeState": "clean",
        "goVersion": "go1.24.6",
        "compiler": "gc",
        "platform": "linux/amd64",
    }


def raw(call: Call, path: str) -> str:
    """`kubectl get --raw`. Raises KubeError."""
    if path in ("/readyz", "/livez", "/healthz", "/ping"):
        return "pong" if path == "/ping" else "ok"
    if path == "/version":
        server = call.cluster.servers[call.guest.address]
        return json.dumps(version_document(server.version), indent=2)
    raise KubeError(404, "NotFound", "the server could not find the requested resource")
