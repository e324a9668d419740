"""The k3s cluster as it was last seen: by which CA it is known again, and where its servers were."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homelab import json_text
from homelab.errors import Misunderstood
from homelab.memory.folder import replace_file, unusable
from homelab.models import KnownCluster, KnownServer

FILE = "k3s.json"


@dataclass(frozen=True, slots=True)
class ClusterMemory:
    """One file in the state folder; holds nothing secret. A dry run writes nothing."""

    folder: Path
    is_read_only: bool = False

    @property
    def path(self) -> Path:
        return self.folder / FILE

    def recall(self) -> KnownCluster | None:
        """None where no cluster was seen yet. Raises Misunderstood where it cannot be told which one was."""
        try:
            known: Any = json_text.read(self.path.read_bytes())
            servers = tuple(
                KnownServer(str(one["name"]), str(one["uuid"]), tuple(map(str, one["addresses"])))
                for one in known["servers"]
            )
            first, *others = map(str, known["authorities"])
            return KnownCluster(frozenset({first, *others}), servers)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._not_told(error.strerror or type(error).__name__) from error
        except (ValueError, KeyError, TypeError) as error:
            raise self._not_told("it is not what an earlier run wrote") from error

    def keep(self, seen: KnownCluster) -> None:
        """Write it down if it is news. Raises HomelabError where that cannot be written."""
        if self.is_read_only or seen == self.recall():
            return
        servers = [{"name": one.name, "uuid": one.uuid, "addresses": list(one.addresses)} for one in seen.servers]
        try:
            replace_file(self.path, json.dumps({"authorities": sorted(seen.authorities), "servers": servers}))
        except OSError as error:
            raise unusable(self.folder, error) from error

    def _not_told(self, why: str) -> Misunderstood:
        return Misunderstood(
            "which k3s cluster was seen last cannot be told",
            f"{self.path}: {why}",
            f"if K3S_EXISTING_NODE_IP leads to the right cluster: rm {self.path}; then run again",
        )
