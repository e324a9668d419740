"""The `k3s` program as a command: version, kubectl, tokens, snapshots."""

from __future__ import annotations

import datetime
import json
import secrets
from typing import TYPE_CHECKING

from pvelab.guest.k3s_log import line
from pvelab.guest.k3s_release import commit_of
from pvelab.guest.k3s_settings import DATA_FOLDER
from pvelab.guest.kubectl import run_words, seconds
from pvelab.guest.kubectl_print import table
from pvelab.guest.options import BadOption, Grammar, Options
from pvelab.guest.timestamps import timestamp

if TYPE_CHECKING:
    from pvelab.guest.k3s_cluster import Cluster
    from pvelab.guest.k3s_tokens import BootstrapToken
    from pvelab.guest.machine import GuestMachine
    from pvelab.machine import Process

_TOKEN = Grammar(
    flags={"debug"},
    values={
        "new-token",
        "token",
        "server",
        "ttl",
        "description",
        "output",
        "groups",
        "usages",
        "kubeconfig",
        "data-dir",
    },
    short={"o": "output", "d": "data-dir"},
)
_DAY_S = 86_400.0
_NO_TOPIC = 3


async def k3s(guest: GuestMachine, process: Process) -> int:
    """`k3s ...`."""
    word, *rest = process.argv[1:] or ["help"]
    if word in ("--version", "-v", "version"):
        path = guest.k3s_binary(process.argv[0].rsplit("/", 1)[-1])
        version = guest.k3s_version(path) or ""
        process.print(f"k3s version {version} ({commit_of(version)})\ngo version go1.24.6")
        return 0
    if word == "kubectl":
        return await run_words(guest, process, rest)
    if word == "token":
        return _token(guest, process, rest)
    if word == "etcd-snapshot":
        return _snapshot(guest, process, rest)
    if word in ("server", "agent"):
        process.complain(f"k3s {word}: in the lab k3s runs only as a service")
        return 1
    process.complain(f"No help topic for '{word}'")
    return _NO_TOPIC


def _own_cluster(guest: GuestMachine, process: Process) -> Cluster | None:
    """The cluster that this machine serves, if the caller may and it answers; else it is said why not."""
    endpoint = guest.surroundings.clusters.endpoints.get(guest.address)
    if process.user != "root":
        _fatal(guest, process, f"open {DATA_FOLDER}/server/token: permission denied")
    elif endpoint is None or not endpoint.cluster.is_available:
        _fatal(guest, process, 'Get "https://127.0.0.1:6443/": dial tcp 127.0.0.1:6443: connect: connection refused')
    else:
        return endpoint.cluster
    return None


def _fatal(guest: GuestMachine, process: Process, message: str) -> None:
    process.complain(line(guest.clock.now(), "fatal", f"Error: {message}"))


def _token(guest: GuestMachine, process: Process, words: list[str]) -> int:
    try:
        options = _TOKEN.parse(words)
    except BadOption as problem:
        process.complain(f"Incorrect Usage: flag provided but not defined: {problem}")
        return 1
    verb, *names = options.words or ["help"]
    cluster = _own_cluster(guest, process)
    if cluster is None:
        return 1
    cluster.tokens.tidy(guest.clock.now())
    if verb == "create":
        ttl_s = 0.0 if options.value("ttl") in ("0", "0s") else seconds(options.value("ttl", "24h"), _DAY_S)
        made = cluster.tokens.create(ttl_s, options.value("description"), guest.clock.now())
        process.print(cluster.tokens.full(f"{made.id}.{made.secret}"))
        return 0
    if verb == "list":
        _list_tokens(guest, process, cluster, options)
        return 0
    if verb == "rotate":
        return _rotate_token(guest, process, cluster, options)
    if verb == "delete":
        return _delete_tokens(guest, process, cluster, names)
    process.complain(f"No help topic for '{verb}'")
    return _NO_TOPIC


def _rotate_token(guest: GuestMachine, process: Process, cluster: Cluster, options: Options) -> int:
    """Change the servers' token; the other servers keep the old one in their files until somebody restarts them."""
    given = options.value("token") or guest.files.read(f"{DATA_FOLDER}/server/token").decode().strip()
    if given.rpartition(":")[2] != cluster.tokens.server_password:
        _fatal(guest, process, "https://127.0.0.1:6443/v1-k3s/token: 401 Unauthorized")
        return 1
    cluster.tokens.server_password = options.value("new-token").rpartition(":")[2] or secrets.token_hex(16)
    guest.files.provide(f"{DATA_FOLDER}/server/token", f"{cluster.tokens.server_token}\n".encode(), mode=0o600)
    process.complain(line(guest.clock.now(), "warning", "Token rotated, restart k3s nodes with new token"))
    return 0


def _delete_tokens(guest: GuestMachine, process: Process, cluster: Cluster, names: list[str]) -> int:
    for name in names:
        id_ = name.rpartition("::")[2].partition(".")[0]
        if id_ not in cluster.tokens.bootstrap:
            _fatal(guest, process, f'secrets "bootstrap-token-{id_}" not found')
            return 1
        del cluster.tokens.bootstrap[id_]
        process.print(f'bootstrap token "{id_}" deleted')
    return 0


def _list_tokens(guest: GuestMachine, process: Process, cluster: Cluster, options: Options) -> None:
    tokens = list(cluster.tokens.bootstrap.values())
    if options.value("output") == "json":
        process.print(json.dumps([_document(token) for token in tokens], indent=4))
        return
    rows = [["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"]]
    for token in tokens:
        left_s = int(token.expires_at - guest.clock.now())
        left = str(datetime.timedelta(seconds=left_s)) if token.expires_at else "<forever>"
        ends = timestamp(token.expires_at) if token.expires_at else "<never>"
        group = "system:bootstrappers:k3s:default-node-token"
        rows.append([token.id, left, ends, "authentication,signing", token.description or "<none>", group])
    process.print(table(rows))


def _document(token: BootstrapToken) -> dict[str, object]:
    document: dict[str, object] = {
        "token": f"{token.id}.{token.secret}",
        "description": token.description,
        "usages": ["authentication", "signing"],
        "groups": ["system:bootstrappers:k3s:default-node-token"],
    }
    return document | ({"expires": timestamp(token.expires_at)} if token.expires_at else {})


def _snapshot(guest: GuestMachine, process: Process, words: list[str]) -> int:
    cluster = _own_cluster(guest, process)
    if cluster is None:
        return 1
    if not cluster.has_etcd:
        _fatal(guest, process, "etcd datastore disabled")
        return 1
    folder = f"{DATA_FOLDER}/server/db/snapshots"
    if words[:1] == ["save"]:
        name = f"on-demand-{guest.hostname}-{int(guest.clock.now())}"
        guest.files.provide(f"{folder}/{name}", b"pvelab stand-in for an etcd snapshot\n", mode=0o600)
        process.complain(line(guest.clock.now(), "info", f"Snapshot {name} saved."))
        return 0
    if words[:1] in (["ls"], ["list"]):
        names = guest.files.names(folder) if guest.files.is_folder(folder) else []
        process.print(table([["Name", "Location"], *([name, f"file://{folder}/{name}"] for name in names)]))
        return 0
    process.complain(f"No help topic for '{' '.join(words) or 'etcd-snapshot'}'")
    return _NO_TOPIC
