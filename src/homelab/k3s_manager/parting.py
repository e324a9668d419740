"""Prepares the cluster for a machine that goes: its pods evicted if it runs, and etcd saved if it is a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

from homelab.errors import HomelabError, StillMember
from homelab.k3s_manager import draining
from homelab.k3s_manager.leaving import nodes_of
from homelab.k3s_manager.server import K3sServer, last_line
from homelab.k3s_manager.servers import MUTE, Servers
from homelab.k3s_manager.settling import Settling
from homelab.memory import Cordons
from homelab.models import K3sNode

SAVING_S = 180
SNAPSHOT = "sudo -n k3s etcd-snapshot save --name homelab"
NOT_OFFERED = ("No help topic", "not defined", "unknown command")


@dataclass(frozen=True, slots=True)
class Parting:
    """`cordons` remembers what was begun; `progress` says a sentence."""

    servers: Servers
    settling: Settling
    cordons: Cordons
    progress: Callable[[str], None]

    @contextmanager
    def begin(self, uuid: str, *, is_running: bool) -> Iterator[bool]:
        """See homelab.models.Leaving.parting. A machine without Node needs nothing."""
        node = self._node_of(uuid)
        if node is None:
            yield False
            return
        with self.settling.step() if node.is_etcd else nullcontext():
            if node.is_etcd:
                self._save(node)
            if not (is_running and node.is_ready):
                yield node.is_etcd
                return
            with self._drained(node):
                yield True

    def _node_of(self, uuid: str) -> K3sNode | None:
        try:
            return next(iter(nodes_of(uuid, self.servers.nodes())), None)
        except MUTE as error:
            raise StillMember(error.what, error.why, error.cure) from error

    def _save(self, node: K3sNode) -> None:
        """A snapshot of etcd on the server that is asked, where its release can make one."""
        self.progress(f"{node.name}: saving etcd before this server is taken out")
        try:
            where, text = self.servers.ask(_snapshot)
        except MUTE as error:
            raise _not_saved(str(error)) from error
        if text and any(words in text for words in NOT_OFFERED):
            self.progress(f"{node.name}: k3s on {where} cannot save etcd, so nothing is saved")
        elif text:
            raise _not_saved(f"{where}: {last_line(text)}")

    @contextmanager
    def _drained(self, node: K3sNode) -> Iterator[None]:
        """Empty; where it does not go after all, it takes pods again, unless a person had cordoned it before."""
        self.progress(f"{node.name}: moving its pods away, {draining.DRAIN_S} s at most")
        if not node.is_cordoned:
            self.cordons.begin(node.system_uuid)
        try:
            self._drain(node.name)
            yield
        except HomelabError:
            if not node.is_cordoned:
                with suppress(HomelabError):
                    self.servers.ask(lambda server: server.kubectl("uncordon", node.name))
                    self.cordons.end(node.system_uuid)
            raise

    def _drain(self, name: str) -> None:
        try:
            text = self.servers.ask(lambda server: draining.drain(server, name))
        except MUTE as error:
            raise StillMember(f"{name} cannot be drained", str(error), error.cure) from error
        if text:
            raise draining.not_drained(name, text)


def _snapshot(server: K3sServer) -> tuple[str, str]:
    """Where it was made, and what it said if it failed."""
    result = server.remote.run(SNAPSHOT.split(), timeout_s=SAVING_S)
    server.check_sudo(result.stderr)
    return server.where, "" if result.exit_code == 0 else result.stdout + result.stderr or "no message"


def _not_saved(why: str) -> StillMember:
    return StillMember(
        "etcd cannot be saved before a server is taken out",
        why,
        f"on that server: {SNAPSHOT.replace('sudo -n', 'sudo')}; is its disk full? then run again",
    )
