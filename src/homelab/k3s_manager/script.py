"""The install script of k3s: as it is fetched, or as an earlier run had it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from homelab.errors import HomelabError, NodeFailed
from homelab.shelf import Shelf


@dataclass(frozen=True, slots=True)
class InstallScript:
    """`fetch` gives a URL's text (with the setting to name where that fails); the last good one lies on the `shelf`.

    `warn` says a sentence.
    """

    url: str
    shelf: Shelf
    fetch: Callable[[str, str], str]
    warn: Callable[[str], None]

    def text(self) -> str:
        """Raises HomelabError where it cannot be fetched and never was."""
        name = f"install-{hashlib.sha256(self.url.encode()).hexdigest()[:12]}.sh"
        try:
            script = self._fetched()
        except HomelabError as error:
            if script := self.shelf.text(name):
                self.warn(f"the k3s install script that an earlier run fetched is used: {error}")
                return script
            raise
        self.shelf.keep_text(name, script)
        return script

    def _fetched(self) -> str:
        script = self.fetch(self.url, "K3S_INSTALL_URL")
        if not script.startswith("#!") or "INSTALL_K3S_EXEC" not in script:
            raise NodeFailed(
                "the k3s install script is not understood",
                f"what {self.url} gives is not the k3s install script",
                "check K3S_INSTALL_URL",
            )
        return script
