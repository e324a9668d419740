"""Whose host key a machine may show: the question, and the answers that do not need a file."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from homelab.errors import ChangedIdentity, Unreachable


class UnknownHostKey(Unreachable):
    """The machine shows a host key that nobody has vouched for; `shown` where a person may do so."""

    def __init__(self, what: str, why: str = "", cure: str = "", *, shown: ShownKey | None = None) -> None:
        super().__init__(what, why, cure)
        self.shown = shown


class ChangedHostKey(ChangedIdentity):
    """The machine shows another host key than the one that is known."""


class RevokedHostKey(ChangedHostKey):
    """The machine shows a host key that must not be believed any more."""


class LoginRefused(Unreachable):
    """The machine is the right one and does not let us in."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public host key as known_hosts writes it: its type and its base64 text."""

    kind: str
    text: str

    @classmethod
    def parse(cls, line: str) -> HostKey:
        """Read `ssh-ed25519 AAAA... comment`, the content of an ssh_host_*_key.pub. Raises ValueError for all else."""
        kind, text = line.split()[:2]
        blob = base64.b64decode(text, validate=True)
        if blob[4 : 4 + int.from_bytes(blob[:4], "big")] != kind.encode():
            raise ValueError(f"it is no public key of type {kind}")
        return cls(kind, text)

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -lf` shows it: `SHA256:...`."""
        digest = hashlib.sha256(base64.b64decode(self.text)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"


@dataclass(frozen=True, slots=True)
class ShownKey:
    """The host key that a machine shows; `name` is what known_hosts calls the machine, `known` its keys there."""

    host: str
    port: int
    name: str
    key: HostKey
    known: tuple[HostKey, ...] = ()


class Trust(Protocol):
    """Decides whether a host key is the right one."""

    def key_kinds(self, host: str, port: int) -> tuple[str, ...]:
        """Types of the keys known for this machine, asked for first so that it shows one of them."""
        ...

    def check(self, host: str, port: int, key: HostKey) -> None:
        """Return when the key is right; raise UnknownHostKey or ChangedHostKey otherwise."""
        ...


@dataclass(frozen=True, slots=True)
class PinnedKey:
    """Exactly these keys, e.g. those that the hypervisor read out of the guest."""

    keys: tuple[HostKey, ...]

    def key_kinds(self, host: str, port: int) -> tuple[str, ...]:  # noqa: ARG002 - a pin holds wherever the machine is
        return tuple(key.kind for key in self.keys)

    def check(self, host: str, port: int, key: HostKey) -> None:
        if key not in self.keys:
            known = " or ".join(pinned.fingerprint for pinned in self.keys)
            raise ChangedHostKey(
                f"SSH to {host} port {port}",
                f"it shows host key {key.fingerprint}, and {known} is pinned",
                "if it was reinstalled, have its key learned again; otherwise another machine has its address",
            )


@dataclass(slots=True)
class LearnOnce:
    """The first key that `accept` agrees to; from then on only that one."""

    accept: Callable[[str, int, HostKey], bool]
    _learned: dict[tuple[str, int], HostKey] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def key_kinds(self, host: str, port: int) -> tuple[str, ...]:
        learned = self._learned.get((host, port))
        return (learned.kind,) if learned else ()

    def check(self, host: str, port: int, key: HostKey) -> None:
        with self._lock:
            learned = self._learned.get((host, port))
            if learned is None:
                self._learn(host, port, key)
            elif learned != key:
                PinnedKey((learned,)).check(host, port, key)

    def _learn(self, host: str, port: int, key: HostKey) -> None:
        if not self.accept(host, port, key):
            raise UnknownHostKey(
                f"SSH to {host} port {port}",
                f"its host key {key.fingerprint} is not known",
                f"compare it on the machine's own console: ssh-keygen -lf {KEY_FILE}",
            )
        self._learned[host, port] = key


KEY_FILE = "/etc/ssh/ssh_host_ed25519_key.pub"
