"""Servers join and leave one at a time, each only when the cluster has got over the one before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from homelab.errors import HomelabError
from homelab.k3s_manager.readiness import PACE
from homelab.k3s_manager.server import K3sServer
from homelab.k3s_manager.servers import Servers
from homelab.models import K3sNode
from homelab.runtime import Clock, Wait, wait_for

MARGIN_S = 15
"""Between two changes of etcd's membership; a server that restarts sooner may undo a removal (k3s issue 12908)."""
PATIENCE_S = 180
"""How long the other servers are waited for, which may just have been started."""


@dataclass(slots=True)
class Settling:
    """The changes of etcd's membership in this run; `progress` says a sentence."""

    servers: Servers
    clock: Clock
    progress: Callable[[str], None]
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _last_at: float | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Have a server join or leave, while no other one does, and none has just begun to vote."""
        with self._turn:
            if self._last_at is not None:
                self.clock.sleep(max(self._last_at + MARGIN_S - self.clock.now(), 0))
            self._let_settle()
            try:
                yield
            finally:
                self._last_at = self.clock.now()

    def wait_for_votes(self, name: str) -> None:
        """Return when all other members of etcd vote and answer: otherwise it lets no further one in.

        Raises TimedOut with those that do not.
        """

        def without_vote() -> tuple[str, ...]:
            return tuple(node.name for node in self.servers.nodes() if node.name != name and not _votes(node))

        if not (seen := without_vote()):
            return
        self.progress(f"{name}: waiting for {', '.join(seen)}, without which etcd lets no further server in")
        wait = Wait(
            f"{name} cannot join as a server now",
            PATIENCE_S,
            self.clock,
            "bring the other servers to Ready, or take them out of the cluster: kubectl get nodes; then run again",
            PACE,
        )
        told = "these members of etcd do not vote, or are not Ready: "
        wait_for(without_vote, lambda names: not names, wait, lambda names: told + ", ".join(names))
        self._let_settle()

    def _let_settle(self) -> None:
        """Wait where a server has just begun to vote, in whichever run that joined; all the time where nobody says."""
        try:
            began = max((node.voting_since or 0.0 for node in self.servers.nodes()), default=0.0)
            left_s = began + MARGIN_S - self.servers.ask(K3sServer.time_s) if began else 0.0
        except (HomelabError, ValueError):
            left_s = MARGIN_S
        self.clock.sleep(min(max(left_s, 0.0), MARGIN_S))


def _votes(node: K3sNode) -> bool:
    return not node.is_etcd or (node.is_ready and node.is_etcd_voter and node.is_etcd_healthy)
