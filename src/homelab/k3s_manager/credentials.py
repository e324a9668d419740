"""What every join of a run needs, read from the existing server and from where k3s is installed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from homelab.errors import NodeFailed
from homelab.k3s_manager.answers import parse_version
from homelab.k3s_manager.server import K3sServer, Tokens
from homelab.settings import K3sConfig

RELEASES = "https://github.com/k3s-io/k3s/releases/download"
"""Where the install script takes k3s from unless K3S_ARTIFACT_URL says otherwise."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a machine is told to join; read once."""

    tokens: Tokens
    version: str
    script: str
    shared_flags: dict[str, object]


@dataclass(frozen=True, slots=True)
class CredentialsReader:
    """`fetch` reads a URL's text; it gets the setting to name when that fails, too."""

    config: K3sConfig
    fetch: Callable[[str, str], str]

    def read(self, server: K3sServer) -> Credentials:
        """Raises when a new machine could not join."""
        tokens = server.tokens()
        return Credentials(tokens, self._version(server), self._script(), server.shared_flags())

    def check_release(self, version: str) -> None:
        """Raise unless k3s of this version is there to be downloaded."""
        url = f"{self.config.artifact_url or RELEASES}/{quote(version)}/sha256sum-amd64.txt"
        sums = self.fetch(url, "K3S_ARTIFACT_URL")
        if not any(line.split()[1:] == ["k3s"] for line in sums.splitlines()):
            raise NodeFailed(
                f"k3s {version} is not at hand",
                f"what {url} gives lists no k3s",
                "check K3S_ARTIFACT_URL and K3S_VERSION",
            )

    def _version(self, server: K3sServer) -> str:
        """The lowest version among the servers; K3S_VERSION may be older, never newer."""
        versions = [node.version for node in server.nodes() if node.is_server]
        if not versions:
            raise NodeFailed(
                "no k3s server is listed", f"{server.where} shows no control-plane Node", "kubectl get nodes"
            )
        lowest = min(versions, key=parse_version)
        wanted = self.config.version
        if wanted and parse_version(wanted) > parse_version(lowest):
            raise NodeFailed(
                f"K3S_VERSION={wanted} is newer than the cluster",
                f"the servers run {lowest}, and a newer member would not work with them",
                f"set K3S_VERSION to {lowest} or remove it, or upgrade the servers first",
            )
        return wanted or lowest

    def _script(self) -> str:
        script = self.fetch(self.config.install_url, "K3S_INSTALL_URL")
        if not script.startswith("#!") or "INSTALL_K3S_EXEC" not in script:
            raise NodeFailed(
                "the k3s install script is not understood",
                f"what {self.config.install_url} gives is not the k3s install script",
                "check K3S_INSTALL_URL",
            )
        return script
