"""All SSH connections of a run: one per machine, opened when needed, closed together."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol

from homelab.shell.client_config import Wanted, host_options
from homelab.shell.machine import GUEST_KEYS, Machine
from homelab.shell.session import Meet, Shell
from homelab.shell.trust import ShownKey, Trust


class Introduction(Protocol):
    """What was learned of nodes and existing k3s servers before, and who is asked about strangers among them."""

    @property
    def known_hosts(self) -> Path: ...

    def meets_host_key(self, shown: ShownKey) -> bool:
        """Is it to be believed from now on? Then it is in `known_hosts`."""
        ...


class Shells:
    """Gives each machine its one Shell. Thread-safe; leave the `with` block to close them all."""

    def __init__(
        self,
        *,
        user: str | None,
        key_path: Path | None,
        known_hosts: Path | None,
        home: Path | None = None,
        introduction: Introduction | None = None,
    ) -> None:
        """`user` is SSH_USER, `key_path` SSH_KEY_PATH, `known_hosts` SSH_KNOWN_HOSTS; `home` holds .ssh."""
        trusted = introduction.known_hosts if introduction else None
        self._wanted = Wanted(user, key_path, known_hosts, home or Path.home(), trusted)
        self._meet: Meet = introduction.meets_host_key if introduction else lambda _: False
        self._shells: dict[Machine, Shell] = {}
        self._lock = threading.Lock()

    def node(self, host: str, port: int) -> Shell:
        """A Proxmox node, as SSH_USER; known_hosts decides about its key."""
        return self._shell(Machine(host, port, self._wanted.user), None)

    def server(self, host: str, port: int, user: str) -> Shell:
        """An existing k3s server; known_hosts decides about its key."""
        return self._shell(Machine(host, port, user, GUEST_KEYS), None)

    def guest(self, host: str, port: int, user: str, trust: Trust) -> Shell:
        """A guest, whose key `trust` decides about. The trust given first stays."""
        return self._shell(Machine(host, port, user, GUEST_KEYS), trust)

    def close(self) -> None:
        with self._lock:
            shells = list(self._shells.values())
            self._shells.clear()
        for shell in shells:
            shell.close()

    def __enter__(self) -> Shells:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _shell(self, machine: Machine, trust: Trust | None) -> Shell:
        wanted = replace(self._wanted, user=machine.user)
        with self._lock:
            if machine not in self._shells:
                options = partial(host_options, machine.host, machine.port, wanted)
                self._shells[machine] = Shell(options, machine, trust, self._meet)
            return self._shells[machine]
