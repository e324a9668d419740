"""The SSH host keys of VMs, as their guest agent gave them or as they were learned when the VM was made."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homelab import json_text
from homelab.memory.folder import replace_file, unusable

FILE = "guests.json"
MOST_KEPT = 200


@dataclass(frozen=True, slots=True)
class GuestKeys:
    """One file in the state folder; nothing in it is secret. Thread-safe.

    A VM is known by its smbios uuid: one that is made anew has another, so the key of the one before is not asked for.
    """

    folder: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def recall(self, uuid: str) -> str:
        """Type and base64 text of its key; empty where none is known."""
        return self._kept().get(uuid, "")

    def keep(self, uuid: str, key: str) -> None:
        """In place of the one before. Raises HomelabError where that cannot be written."""
        with self._lock:
            kept = self._kept()
            if not uuid or kept.get(uuid) == key:
                return
            latest = [*((one, its) for one, its in kept.items() if one != uuid), (uuid, key)][-MOST_KEPT:]
            try:
                replace_file(self.folder / FILE, json.dumps(dict(latest)))
            except OSError as error:
                raise unusable(self.folder, error) from error

    def _kept(self) -> dict[str, str]:
        try:
            kept: Any = json_text.read((self.folder / FILE).read_bytes())
            return {str(uuid): str(key) for uuid, key in kept.items()}
        except (OSError, ValueError, AttributeError):
            return {}
