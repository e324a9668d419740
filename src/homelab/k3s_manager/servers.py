"""Which server speaks for the cluster: the first of K3S_EXISTING_NODE_IP that answers and shows the right CA."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from homelab.errors import HomelabError, NodeFailed, Problem, Refused, TimedOut, Undecided, Unreachable
from homelab.k3s_manager import authority
from homelab.k3s_manager.guest_servers import GuestServers
from homelab.k3s_manager.server import Answer, K3sServer
from homelab.kubernetes import served_authority, url_at
from homelab.models import K3sNode, KnownCluster
from homelab.settings import K3sConfig
from homelab.shell import ChangedHostKey, Shell, UnknownHostKey

MUTE = (Unreachable, Undecided, TimedOut, Refused)
"""One server does not answer, or does not do it; another one may."""
Found = TypeVar("Found")


@dataclass(slots=True)
class Servers:
    """The servers that may be asked, and the one that is. Thread-safe.

    `connect` gives the shell of an address; `known` is the cluster as it was last seen, `memory` where that is written,
    `doubt` why that cannot be told: then nobody is believed. `warn` says a sentence; `shown` gives the CA that whoever
    is at https://HOST:PORT shows. Where no cluster is known, it is the one that is seen first in a run.
    """

    config: K3sConfig
    connect: Callable[[str], Shell]
    guests: GuestServers
    known: KnownCluster | None
    memory: str
    warn: Callable[[str], None]
    doubt: HomelabError | None = None
    shown: Callable[[str], str] = served_authority
    _server: K3sServer | None = None
    _ours: frozenset[str] = frozenset()
    _told: set[str] = field(default_factory=set)
    _passed_over: set[str] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def look(self) -> tuple[K3sServer, Answer]:
        """The server in use, or the first that can be, and all that it says at once."""
        with self._lock:
            if self._server is None:
                self._server, answer = self._choose()
                return self._server, answer
        return self.ask(lambda server: (server, server.look()))

    def ask(self, question: Callable[[K3sServer], Found]) -> Found:
        """Put a question to the server in use; where that fails, once more to another one, if there is one."""
        server = self._in_use()
        try:
            return question(server)
        except MUTE:
            if len(self.config.existing_servers) == 1:
                raise
            return question(self._another(server))

    def nodes(self) -> tuple[K3sNode, ...]:
        """All Node objects now."""
        return self.ask(lambda server: server.nodes())

    def node(self, name: str) -> K3sNode | None:
        """The Node of that name now."""
        return next((node for node in self.nodes() if node.name == name), None)

    def keep_away_from(self, name: str) -> None:
        """Ask another machine than the one of this name from now on; raises when no other one answers."""
        server = self._in_use()
        if server.look().host_name == name:
            self._another(server)

    def check_agreement(self) -> None:
        """Raise NodeFailed if the addresses lead to different clusters, before anything is told to join one of them.

        Where it is known from earlier runs which is the right one, a server of another one is only warned about.
        """
        server, answer = self.look()
        ours = authority.fingerprints(answer.authority_pem)
        is_the_known_one = self.known is not None and bool(ours & self.known.authorities)
        for address in (one for one in self.config.existing_servers if one != server.address):
            try:
                theirs = authority.fingerprints(self._by_ssh(address).authority_pem())
            except HomelabError:
                continue
            if ours & theirs:
                continue
            if not is_the_known_one:
                raise _different(f"{server.address} and {address} show different CAs")
            why = {address: "it shows the CA of another cluster"}
            self.tell_passed_over(why, f"{answer.host_name} is asked, at {server.address}")

    def tell_passed_over(self, failures: Mapping[str, HomelabError | str], asked: str) -> None:
        """Warn of the addresses that were not asked, each once in a run, in whatever way that was tried."""
        for address, error in failures.items():
            if address not in self._passed_over:
                self._passed_over.add(address)
                self.warn(f"K3S_EXISTING_NODE_IP: {address} cannot be asked ({error}); {asked}")

    def unanswering(self) -> tuple[Problem, ...]:
        """The listed addresses that cannot be asked, where there are several: one is enough, and the next may be it."""
        listed = self.config.existing_servers
        if len(listed) == 1:
            return ()
        problems = []
        for address in listed:
            try:
                self._by_ssh(address).authority_pem()
            except HomelabError as error:
                what = f"the k3s server at {address} does not answer, another one does"
                problems.append(Problem(what, str(error), error.cure or "check K3S_EXISTING_NODE_IP"))
        return tuple(problems)

    def say(self, sentence: str) -> None:
        """Warn of something, once."""
        if sentence not in self._told:
            self._told.add(sentence)
            self.warn(sentence)

    def wrong_authority(self, address: str, pem: str) -> HomelabError | None:
        """Why a server there is not believed, if it shows another CA than the cluster had before.

        Where that is not known, the CA that is seen first is the cluster's. So it is where the cluster of before is
        nowhere to be seen any more: it was made anew, as a whole.
        """
        if self.doubt:
            return self.doubt
        seen = authority.fingerprints(pem)
        ours = self.known.authorities if self.known else self._ours
        if not ours or seen & ours:
            self._ours = self._ours or seen
            return None
        if self.known is None:
            return _different(f"{address} shows another CA than the server that was asked before")
        survivor = self._survivor(self.known, address)
        if survivor is None:
            self.say(f"the k3s cluster was made anew: {address} shows another CA, and no earlier server the old one")
            self.known, self._ours = None, seen
            return None
        return NodeFailed(
            f"the k3s server at {address} is of another cluster than before",
            f"{survivor} still shows the CA of before: was it made anew, and has it founded a cluster of its own?",
            f"set K3S_EXISTING_NODE_IP to a server of the right cluster; if the new one is right, remove {self.memory}",
        )

    def _survivor(self, known: KnownCluster, besides: str) -> str | None:
        """The address of a server that shows the CA that the cluster had before."""
        addresses = [address for server in known.servers for address in server.addresses if address != besides]
        served = ((address, authority.fingerprints(self.shown(url_at(address)))) for address in addresses)
        return next((address for address, shown in served if shown & known.authorities), None)

    def _in_use(self) -> K3sServer:
        with self._lock:
            if self._server is None:
                self._server, _ = self._choose()
            return self._server

    def _another(self, mute: K3sServer) -> K3sServer:
        """Choose anew, leaving one out; raises when none is left."""
        with self._lock:
            if self._server in (None, mute):
                self._server, _ = self._choose(mute)
            return self._server

    def _choose(self, besides: K3sServer | None = None) -> tuple[K3sServer, Answer]:
        if self.doubt:
            raise self.doubt
        failures: dict[str, HomelabError] = {}
        for server in self._candidates(failures):
            if besides and besides.address == server.address:
                continue
            try:
                answer = server.look()
            except HomelabError as error:
                failures[server.address] = error
                continue
            if wrong := self.wrong_authority(server.address, answer.authority_pem):
                failures[server.address] = wrong
                continue
            self.tell_passed_over(failures, f"{answer.host_name} is asked, at {server.address}")
            return server, answer
        raise _none_answers(failures, self._unlisted())

    def _candidates(self, failures: dict[str, HomelabError]) -> Iterator[K3sServer]:
        """The addresses by SSH, in their order; then those that are VMs by their guest agent."""
        for address in self.config.existing_servers:
            try:
                yield self._by_ssh(address)
            except Unreachable as error:
                failures[address] = error
        closed = {address for address, error in failures.items() if _is_closed(error)}
        gone = {
            server.uuid
            for server in (self.known.servers if self.known else ())
            if failures.keys() & {*server.addresses, server.name}
        }
        if closed or gone:
            yield from self.guests.find(closed, gone)

    def _by_ssh(self, address: str) -> K3sServer:
        shell = self.connect(address)
        try:
            shell.connect()
        except Unreachable as error:
            raise type(error)(error.what, error.why, f"check K3S_EXISTING_NODE_IP; {error.cure}") from error
        return K3sServer(shell, address)

    def _unlisted(self) -> str:
        """The cluster's servers of before that K3S_EXISTING_NODE_IP does not name, as `name at address`, in a row."""
        servers = self.known.servers if self.known else ()
        listed = set(self.config.existing_servers)
        others = [one for one in servers if one.addresses and not listed & {*one.addresses, one.name}]
        return ", ".join(f"{one.name} at {one.addresses[0]}" for one in others)


def _different(why: str) -> NodeFailed:
    return NodeFailed(
        "the addresses in K3S_EXISTING_NODE_IP lead to different clusters",
        why,
        "leave only servers of the right cluster in K3S_EXISTING_NODE_IP",
    )


def _is_closed(error: HomelabError) -> bool:
    """Nobody lets us in by SSH there; a host key that is not the right one is another matter."""
    return isinstance(error, Unreachable) and not isinstance(error, UnknownHostKey | ChangedHostKey)


def _none_answers(failures: dict[str, HomelabError], unlisted: str) -> HomelabError:
    """The one reason as it is; of several, all of them. `unlisted` are servers that could be named, too."""
    errors = list(failures.values())
    cures = list(dict.fromkeys(error.cure for error in errors))
    cure = "; ".join(
        [*cures, *([f"or set K3S_EXISTING_NODE_IP to another server of the cluster: {unlisted}"] if unlisted else [])]
    )
    match errors:
        case [Unreachable() as error]:
            return type(error)(error.what, error.why, cure)
        case [error]:
            return error
    why = "; ".join(map(str, errors)) or "there is no other one"
    return Unreachable("no k3s server of K3S_EXISTING_NODE_IP can be asked", why, cure)
