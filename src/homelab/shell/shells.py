"""All SSH connections of a run: one per machine, opened when needed, closed together."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from homelab.shell.client_config import Wanted, host_options
from homelab.shell.machine import GUEST_KEYS, Machine
from homelab.shell.session import Shell
from homelab.shell.trust import Trust


class Shells:
    """Gives each machine its one Shell. Thread-safe; leave the `with` block to close them all."""

    def __init__(
        self, *, user: str | None, key_path: Path | None, known_hosts: Path | None, home: Path | None = None
    ) -> None:
        """`user` is SSH_USER, `key_path` SSH_KEY_PATH, `known_hosts` SSH_KNOWN_HOSTS; `home` holds .ssh."""
        self._wanted = Wanted(user, key_path, known_hosts, home or Path.home())
        self._shells: dict[Machine, Shell] = {}
        self._lock = threading.Lock()

    def node(self, host: str, port: int) -> Shell:
        """A Proxmox node, as SSH_USER; the user's known_hosts decides about its key."""
        return self._shell(Machine(host, port, self._wanted.user), None)

    def server(self, host: str, port: int, user: str) -> Shell:
        """An existing k3s server; the user's known_hosts decides about its key."""
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
                self._shells[machine] = Shell(lambda: host_options(machine.host, machine.port, wanted), machine, trust)
            return self._shells[machine]
