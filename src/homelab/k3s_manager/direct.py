"""The cluster asked through the Kubernetes API, with a kubeconfig that proves to be of this very cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from homelab.errors import HomelabError
from homelab.k3s_manager.answers import parse_nodes
from homelab.k3s_manager.server import Answer
from homelab.k3s_manager.servers import Servers
from homelab.kubernetes import Access, KubernetesApi, NotVouchedFor, url_at
from homelab.settings import K3sConfig

NODES = "/api/v1/nodes"


@dataclass(slots=True)
class DirectWay:
    """Asks the servers of K3S_EXISTING_NODE_IP themselves, never the one that the kubeconfig names.

    A server there that the kubeconfig does not vouch for ends it: then the kubeconfig is of another cluster, or there
    are two. `access` reads the kubeconfig; `progress` says a sentence.
    """

    config: K3sConfig
    access: Callable[[], Access | None]
    servers: Servers
    progress: Callable[[str], None]
    _is_given_up: bool = field(default=False)

    def look(self) -> tuple[str, Answer] | None:
        """The address that answered, and what it said; None where SSH has to be asked."""
        if self._is_given_up:
            return None
        try:
            access = self.access()
            found = self._ask(access) if access else None
        except HomelabError as error:
            self.progress(f"{error}; the cluster is asked over SSH")
            found = None
        self._is_given_up = found is None
        return found

    def _ask(self, access: Access) -> tuple[str, Answer]:
        failures: dict[str, HomelabError] = {}
        for address, url in self._places():
            try:
                nodes = parse_nodes(KubernetesApi(access).get(url, NODES), url)
            except NotVouchedFor:
                raise
            except HomelabError as error:
                failures[address] = error
                continue
            if wrong := self.servers.wrong_authority(address, access.authority_pem):
                raise wrong
            self.servers.tell_passed_over(failures, f"{address} is asked")
            return address, Answer("", access.authority_pem, nodes)
        raise next(iter(failures.values()))

    def _places(self) -> list[tuple[str, str]]:
        """Host and URL of all that may be asked, in order; K3S_SERVER_URL last."""
        listed = [(address, url_at(address)) for address in self.config.existing_servers]
        shared = self.config.server_url
        return [*listed, *([(host_in(shared), shared)] if shared else [])]


def host_in(url: str) -> str:
    """The host of https://HOST:PORT."""
    return url.removeprefix("https://").rpartition(":")[0].strip("[]")
