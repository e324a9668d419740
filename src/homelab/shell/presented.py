"""The host key that a machine shows, and what is thought of it: as far as the key, without logging in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from homelab.errors import Unreachable
from homelab.shell.client_config import HostOptions
from homelab.shell.known_hosts import KnownHosts
from homelab.shell.login import log_in
from homelab.shell.machine import Machine
from homelab.shell.trust import HostKey, ShownKey, UnknownHostKey


@dataclass(frozen=True, slots=True)
class Presented:
    """A host key as shown; `trouble` is why it is not believed, `known` are the keys that the machine is known by."""

    shown: ShownKey
    trouble: Unreachable | None
    known: tuple[HostKey, ...]


def look(options: HostOptions, machine: Machine, kinds: Sequence[str]) -> Presented:
    """Connect as far as the host key. Raises Unreachable when none is shown."""
    viewer = _Viewer(options.known_hosts, kinds)
    try:
        log_in(options, machine, viewer)
    except Unreachable:
        if not viewer.seen:
            raise
    return viewer.seen[0]


@dataclass(frozen=True, slots=True)
class _Viewer:
    """Looks at the key, and lets nobody in."""

    known_hosts: KnownHosts
    kinds: Sequence[str]
    seen: list[Presented] = field(default_factory=list)

    def key_kinds(self, host: str, port: int) -> tuple[str, ...]:
        return (*self.known_hosts.key_kinds(host, port), *self.kinds)

    def check(self, host: str, port: int, key: HostKey) -> None:
        known = self.known_hosts.known(host, port)
        self.seen.append(Presented(self.known_hosts.shown(host, port, key), self._trouble(host, port, key), known))
        raise UnknownHostKey(host)

    def _trouble(self, host: str, port: int, key: HostKey) -> Unreachable | None:
        try:
            self.known_hosts.check(host, port, key)
        except Unreachable as trouble:
            return trouble
        return None
