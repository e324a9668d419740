"""Where a cluster's memory lies: one folder for each set of configured nodes, found again when the set changes."""

from __future__ import annotations

import hashlib
import json
import platform
import secrets
from collections.abc import Iterable
from pathlib import Path

from homelab.errors import HomelabError

NODES_FILE = "nodes.json"
OWNER_FILE = "owner"


def find_folder(root: Path, nodes: Iterable[str]) -> Path:
    """The folder under `root` ($XDG_STATE_HOME/homelab) for these nodes, whether or not it is there yet.

    A folder whose nodes are some of these, or contain these, is the same cluster before NODE_n was added or removed.
    """
    wanted = frozenset(nodes)
    return _known(root, wanted) or root / hashlib.sha256("\n".join(sorted(wanted)).encode()).hexdigest()[:16]


def make_folder(folder: Path, nodes: Iterable[str]) -> None:
    """Make it, readable by its owner only, and note whose it is. Raises HomelabError where that cannot be written."""
    wanted = frozenset(nodes)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _nodes_of(folder) != wanted:
            (folder / NODES_FILE).write_text(json.dumps(sorted(wanted)) + "\n", encoding="utf-8")
    except OSError as error:
        raise HomelabError(
            "the state directory cannot be used",
            f"{error.filename or folder}: {error.strerror}",
            "set XDG_STATE_HOME to a directory that this user can write to",
        ) from error


def owner(folder: Path) -> str:
    """What this machine's runs call themselves elsewhere: the same for all that share this folder."""
    path = folder / OWNER_FILE
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        name = f"{platform.node() or 'somewhere'}-{secrets.token_hex(4)}"
        path.write_text(f"{name}\n", encoding="utf-8")
        return name


def _known(root: Path, wanted: frozenset[str]) -> Path | None:
    """The folder of the same nodes, else the one with the most nodes of a set that contains or is contained."""
    folders = sorted(root.iterdir()) if root.is_dir() else []
    found = [(nodes, folder) for folder in folders if (nodes := _nodes_of(folder))]
    related = [(nodes == wanted, len(nodes & wanted), folder) for nodes, folder in found if _is_related(nodes, wanted)]
    return max(related, key=lambda one: one[:2])[2] if related else None


def _is_related(nodes: frozenset[str], wanted: frozenset[str]) -> bool:
    return nodes <= wanted or wanted <= nodes


def _nodes_of(folder: Path) -> frozenset[str]:
    try:
        nodes = json.loads((folder / NODES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return frozenset()
    return frozenset(map(str, nodes)) if isinstance(nodes, list) else frozenset()
