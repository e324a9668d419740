"""Where a cluster's memory lies: a folder known by nodes and addresses, and by what the cluster itself shows."""

from __future__ import annotations

import hashlib
import json
import platform
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homelab import json_text, private_files
from homelab.errors import HomelabError

CLUSTER_FILE = "cluster.json"
OWNER_FILE = "owner"


@dataclass(frozen=True, slots=True)
class Cluster:
    """How the configuration names a cluster: NODE_n, and the addresses (NODE_HOST_n, PVE_IPS), if any are given.

    `identity` is what no other cluster shows, the fingerprint of its own CA; empty while it is not known.
    """

    nodes: frozenset[str]
    addresses: frozenset[str] = frozenset()
    identity: str = ""

    def may_be(self, other: Cluster) -> bool:
        """The same cluster, before or after nodes or addresses came or went? Node names alone are everybody's."""
        is_part = self.nodes <= other.nodes or other.nodes <= self.nodes
        return is_part and (self.addresses == other.addresses or bool(self.addresses & other.addresses))

    def is_named_as(self, other: Cluster) -> bool:
        return (self.nodes, self.addresses) == (other.nodes, other.addresses)

    def with_(self, other: Cluster) -> Cluster:
        """All that it has been known by, so that it is found again by each of them."""
        identity = other.identity or self.identity
        return Cluster(self.nodes | other.nodes, self.addresses | other.addresses, identity)


def find_folder(root: Path, cluster: Cluster) -> Path:
    """The cluster's folder under `root` ($XDG_STATE_HOME/homelab), whether or not it is there yet.

    Raises HomelabError where `root` cannot be read.
    """
    known = [(found, folder) for found, folder in _known(root) if cluster.may_be(found)]
    if known:
        return max(known, key=lambda one: (one[0].is_named_as(cluster), len(one[0].nodes & cluster.nodes)))[1]
    return _new_folder(root, cluster)


def is_certain(folder: Path, cluster: Cluster) -> bool:
    """Has this folder's cluster been known by all these names, and shown its identity? Then it need not be asked."""
    known = _cluster_of(folder)
    return known is not None and known.identity != "" and known.with_(cluster) == known


def folder_by_identity(root: Path, found: Path, cluster: Cluster) -> Path:
    """The folder of the cluster that shows this identity; `found` is the one that its names led to.

    A cluster whose addresses have changed has another one, one of the same names as another cluster's a new one.
    """
    known = {folder: other.identity for other, folder in _known(root)}
    if not cluster.identity or known.get(found, "") == cluster.identity:
        return found
    own = next((folder for folder, identity in known.items() if identity == cluster.identity), None)
    if own is not None:
        return own
    return _new_folder(root, cluster) if known.get(found) else found


def make_folder(folder: Path) -> None:
    """Make it, readable by its owner only. Raises HomelabError where that cannot be written."""
    try:
        private_files.make_folder(folder)
        if not _owner_in(folder):
            replace_file(folder / OWNER_FILE, f"{platform.node() or 'somewhere'}-{secrets.token_hex(4)}")
    except OSError as error:
        raise unusable(folder, error) from error


def note_cluster(folder: Path, cluster: Cluster) -> None:
    """Note whose folder it is, beside all that this cluster has been known by. Raises HomelabError."""
    known = _cluster_of(folder)
    now = known.with_(cluster) if known else cluster
    if now == known:
        return
    words = {"nodes": sorted(now.nodes), "addresses": sorted(now.addresses), "identity": now.identity}
    try:
        replace_file(folder / CLUSTER_FILE, json.dumps(words))
    except OSError as error:
        raise unusable(folder, error) from error


def _known(root: Path) -> list[tuple[Cluster, Path]]:
    """Every cluster that has a folder, in the order of their names."""
    try:
        folders = sorted(root.iterdir()) if root.is_dir() else []
    except OSError as error:
        raise unusable(root, error) from error
    return [(found, folder) for folder in folders if (found := _cluster_of(folder))]


def _new_folder(root: Path, cluster: Cluster) -> Path:
    words = [*sorted(cluster.nodes), "", *sorted(cluster.addresses), *filter(None, [cluster.identity])]
    return root / hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def owner(folder: Path) -> str:
    """What this machine's runs call themselves elsewhere: the same for all that share this folder."""
    return _owner_in(folder)


def _owner_in(folder: Path) -> str:
    """Empty where there is none."""
    try:
        return (folder / OWNER_FILE).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def replace_file(path: Path, text: str) -> None:
    """All of it or nothing, also where the power fails; for its owner alone."""
    private_files.replace(path, f"{text}\n")


def _cluster_of(folder: Path) -> Cluster | None:
    """None where the folder is nobody's, as far as can be told."""
    try:
        known: Any = json_text.read((folder / CLUSTER_FILE).read_text(encoding="utf-8"))
        nodes, addresses = frozenset(map(str, known["nodes"])), frozenset(map(str, known["addresses"]))
        return Cluster(nodes, addresses, str(known.get("identity", "")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def unusable(folder: Path, error: OSError) -> HomelabError:
    """For whoever works in the folder."""
    return HomelabError(
        "the state directory cannot be used",
        f"{error.filename or folder}: {error.strerror}",
        "set XDG_STATE_HOME to a directory that this user can write to",
    )
