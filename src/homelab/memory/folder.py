"""Where a cluster's memory lies: a folder known by its nodes and addresses, found again as they change."""

from __future__ import annotations

import hashlib
import json
import platform
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from homelab import json_text
from homelab.errors import HomelabError

CLUSTER_FILE = "cluster.json"
OWNER_FILE = "owner"


@dataclass(frozen=True, slots=True)
class Cluster:
    """How the configuration names a cluster: NODE_n, and the addresses (NODE_HOST_n, PVE_IPS), if any are given."""

    nodes: frozenset[str]
    addresses: frozenset[str] = frozenset()

    def may_be(self, other: Cluster) -> bool:
        """The same cluster, before or after nodes or addresses came or went? Node names alone are everybody's."""
        is_part = self.nodes <= other.nodes or other.nodes <= self.nodes
        return is_part and (self.addresses == other.addresses or bool(self.addresses & other.addresses))

    def with_(self, other: Cluster) -> Cluster:
        """All that it has been known by, so that it is found again by each of them."""
        return Cluster(self.nodes | other.nodes, self.addresses | other.addresses)


def find_folder(root: Path, cluster: Cluster) -> Path:
    """The cluster's folder under `root` ($XDG_STATE_HOME/homelab), whether or not it is there yet.

    Raises HomelabError where `root` cannot be read.
    """
    try:
        folders = sorted(root.iterdir()) if root.is_dir() else []
        known = [(found, folder) for folder in folders if (found := _cluster_of(folder)) and cluster.may_be(found)]
    except OSError as error:
        raise unusable(root, error) from error
    if known:
        return max(known, key=lambda one: (one[0] == cluster, len(one[0].nodes & cluster.nodes)))[1]
    words = "\n".join([*sorted(cluster.nodes), "", *sorted(cluster.addresses)])
    return root / hashlib.sha256(words.encode()).hexdigest()[:16]


def make_folder(folder: Path, cluster: Cluster) -> None:
    """Make it, readable by its owner only, and note whose it is. Raises HomelabError where that cannot be written."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = _cluster_of(folder)
        now = known.with_(cluster) if known else cluster
        if now != known:
            words = {name: sorted(values) for name, values in asdict(now).items()}
            _replace(folder / CLUSTER_FILE, json.dumps(words))
        if not _owner_in(folder):
            _replace(folder / OWNER_FILE, f"{platform.node() or 'somewhere'}-{secrets.token_hex(4)}")
    except OSError as error:
        raise unusable(folder, error) from error


def owner(folder: Path) -> str:
    """What this machine's runs call themselves elsewhere: the same for all that share this folder."""
    return _owner_in(folder)


def _owner_in(folder: Path) -> str:
    """Empty where there is none."""
    try:
        return (folder / OWNER_FILE).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _replace(path: Path, text: str) -> None:
    """All of it or nothing."""
    new = path.with_suffix(".new")
    new.write_text(f"{text}\n", encoding="utf-8")
    new.replace(path)


def _cluster_of(folder: Path) -> Cluster | None:
    """None where the folder is nobody's, as far as can be told."""
    try:
        known: Any = json_text.read((folder / CLUSTER_FILE).read_text(encoding="utf-8"))
        return Cluster(frozenset(map(str, known["nodes"])), frozenset(map(str, known["addresses"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def unusable(folder: Path, error: OSError) -> HomelabError:
    """For whoever works in the folder."""
    return HomelabError(
        "the state directory cannot be used",
        f"{error.filename or folder}: {error.strerror}",
        "set XDG_STATE_HOME to a directory that this user can write to",
    )
