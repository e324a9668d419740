"""The k3s cluster as it was last seen: by which CA it is known again, and where its servers were."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homelab import json_text
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
        """None where no cluster was seen yet, as far as can be told."""
        try:
            known: Any = json_text.read(self.path.read_bytes())
            servers = tuple(
                KnownServer(str(one["name"]), str(one["uuid"]), tuple(map(str, one["addresses"])))
                for one in known["servers"]
            )
            return KnownCluster(frozenset(map(str, known["authorities"])), servers)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, seen: KnownCluster) -> None:
        """Write it down if it is news. Raises HomelabError where that cannot be written."""
        if self.is_read_only or seen == self.recall():
            return
        servers = [{"name": one.name, "uuid": one.uuid, "addresses": list(one.addresses)} for one in seen.servers]
        try:
            replace_file(self.path, json.dumps({"authorities": sorted(seen.authorities), "servers": servers}))
        except OSError as error:
            raise unusable(self.folder, error) from error
