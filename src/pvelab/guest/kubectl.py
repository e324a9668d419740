"""`kubectl` on a machine of the lab: the verbs and options that administering nodes takes."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from pvelab.guest import kube_resources, kubectl_print
from pvelab.guest.k3s_files import KUBECONFIG
from pvelab.guest.kube_api import Answer, KubeApi, Stream
from pvelab.guest.kube_objects import KubeError
from pvelab.guest.kube_rbac import ADMINS
from pvelab.guest.kube_requests import Request, User
from pvelab.guest.kube_resources import Resource
from pvelab.guest.kube_selectors import fits
from pvelab.guest.kube_writes import Target
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
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_NO_QUORUM_S = 10.0
_ADMIN = User("system:admin", frozenset({ADMINS}))
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

    def objects(self) -> tuple[Resource, list[str]]:
        """Resource and names, from `node X Y` or `node/X node/Y`. Raises Complaint."""
        words = self.words
        if not words:
            raise Complaint("error: You must specify the type of resource.")
        if "/" in words[0]:
            pairs = [word.partition("/") for word in words]
            return resource_of(pairs[0][0]), [name for _, _, name in pairs]
        return resource_of(words[0]), words[1:]

    def place(self, resource: Resource) -> str:
        """The namespace to look in."""
        return self.namespace if resource.is_namespaced else ""

    def target(self, resource: Resource, name: str) -> Target:
        """An object as a write names it."""
        return Target(resource, name, self.place(resource))

    def chosen(self, resource: Resource, names: list[str]) -> list[str]:
        """The names given, or those that the selector or --all means."""
        if names or not ("selector" in self.options or "all" in self.options):
            return names
        found = self.cluster.store.list(resource.plural, self.place(resource))
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


def resource_of(word: str) -> Resource:
    """The resource that a word of the command line names. Raises Complaint."""
    found = kube_resources.named(word)
    if found is None:
        raise Complaint(f'error: the server doesn\'t have a resource type "{word}"')
    return found


def seconds(text: str, otherwise: float) -> float:
    """A duration such as 5m; `otherwise` for 0, which means no limit."""
    found = [float(number) * _UNITS_S[unit or None] for number, unit in _DURATION.findall(text)]
    return sum(found) or otherwise


async def raw(call: Call, path: str) -> bytes:
    """`kubectl get --raw`. Raises KubeError."""
    if path == "/ping":
        return b"pong"
    api = KubeApi(call.cluster, call.guest.address, call.guest.clock.sleep)
    path, _, query = path.partition("?")
    answer = await api.answer(Request("GET", path, dict(parse_qsl(query, keep_blank_values=True)), user=_ADMIN))
    if isinstance(answer, Stream):
        raise Complaint("error: in the lab k3s's own kubectl follows nothing: use a kubectl outside")
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise _refusal(answer)
    return answer.body


def _refusal(answer: Answer) -> KubeError:
    if answer.kind != "application/json":
        text = f'an error on the server ("{answer.body.decode()}") has prevented the request from succeeding'
        return KubeError(answer.status, "InternalError", text)
    status = json.loads(answer.body)
    return KubeError(answer.status, status["reason"], status["message"])
