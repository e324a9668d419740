"""known_hosts as OpenSSH reads it: plain and hashed names, patterns, ports, revoked keys."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path

from homelab.shell.trust import KEY_FILE, ChangedHostKey, HostKey, RevokedHostKey, ShownKey, UnknownHostKey

logger = logging.getLogger(__name__)

SSH_PORT = 22
TRUST_COMMAND = "poetry run python -m homelab.main trust"


class Strictness(Enum):
    """StrictHostKeyChecking of ssh_config: `ask` counts as YES, since nobody is there to be asked."""

    YES = "yes"
    ACCEPT_NEW = "accept-new"
    NO = "no"

    @classmethod
    def parse(cls, text: str) -> Strictness:
        if text in ("no", "off"):
            return cls.NO
        return cls.ACCEPT_NEW if text == "accept-new" else cls.YES


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a known_hosts file."""

    patterns: tuple[str, ...]
    key: HostKey
    is_revoked: bool

    def is_for(self, name: str) -> bool:
        """Does the line speak of this name (`host` or `[host]:port`)? A negated pattern that fits rules it out."""
        fits = False
        for pattern in self.patterns:
            if pattern.startswith("|1|"):
                fits = fits or _is_hash_of(pattern, name)
            elif pattern.startswith("!"):
                if fnmatchcase(name, _glob(pattern[1:])):
                    return False
            else:
                fits = fits or fnmatchcase(name, _glob(pattern))
        return fits


def _glob(pattern: str) -> str:
    """Only * and ? are special in known_hosts; the brackets around a host with a port are not."""
    return pattern.lower().replace("[", "[[]")


def _is_hash_of(pattern: str, name: str) -> bool:
    salt, _, wanted = pattern.removeprefix("|1|").partition("|")
    try:
        digest = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(digest, base64.b64decode(wanted))
    except ValueError:
        return False


def read_entries(path: Path) -> Iterator[Entry]:
    """The usable lines of a file; a missing or unreadable file has none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    yield from entries_in(text)


def entries_in(text: str) -> Iterator[Entry]:
    """The usable lines of what a file holds. Certificate authorities are left out."""
    for line in text.splitlines():
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) >= 3 and not fields[0].startswith("#") and marker in ("", "@revoked"):
            yield Entry(tuple(fields[0].split(",")), HostKey(fields[1], fields[2]), marker == "@revoked")


def host_name(host: str, port: int) -> str:
    """The name of a machine in known_hosts."""
    return host.lower() if port == SSH_PORT else f"[{host.lower()}]:{port}"


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """The user's known_hosts files, and what `trust` stored; nothing is added unless ssh_config says so.

    `alias` is HostKeyAlias. `writable` is the file that the cure names, and that accept-new adds to.
    """

    files: tuple[Path, ...]
    writable: Path
    alias: str = ""
    strictness: Strictness = Strictness.YES
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def key_kinds(self, host: str, port: int) -> tuple[str, ...]:
        return tuple(dict.fromkeys(entry.key.kind for entry in self._entries(host, port) if not entry.is_revoked))

    def known(self, host: str, port: int) -> tuple[HostKey, ...]:
        """The keys by which a machine is known."""
        return tuple(dict.fromkeys(entry.key for entry in self._entries(host, port) if not entry.is_revoked))

    def shown(self, host: str, port: int, key: HostKey) -> ShownKey:
        return ShownKey(host, port, self._names(host, port)[0], key, self.known(host, port))

    def check(self, host: str, port: int, key: HostKey) -> None:
        entries = self._entries(host, port)
        if any(entry.is_revoked and entry.key == key for entry in entries):
            raise RevokedHostKey(
                f"SSH to {host} port {port}",
                f"its host key {key.fingerprint} is marked @revoked in known_hosts",
                "give that machine a new host key, or remove the @revoked line if it is there by mistake",
            )
        known = [entry.key for entry in entries if not entry.is_revoked]
        if key in known or self.strictness is Strictness.NO:
            if key not in known:
                self._add(host, port, key)
            return
        if any(other.kind == key.kind for other in known):
            raise self._changed(host, port, key)
        if self.strictness is Strictness.ACCEPT_NEW:
            self._add(host, port, key)
            return
        raise self._unknown(host, port, key, known)

    def _names(self, host: str, port: int) -> tuple[str, ...]:
        """As OpenSSH: the alias alone, or the name with its port, or where that is unknown the bare name."""
        if self.alias:
            return (self.alias.lower(),)
        return tuple(dict.fromkeys((host_name(host, port), host.lower())))

    def _entries(self, host: str, port: int) -> list[Entry]:
        everything = [entry for path in self.files for entry in read_entries(path)]
        for name in self._names(host, port):
            found = [entry for entry in everything if entry.is_for(name)]
            if found:
                return found
        return []

    def _add(self, host: str, port: int, key: HostKey) -> None:
        line = f"{self._names(host, port)[0]} {key}\n"
        try:
            with self._lock:
                self.writable.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with self.writable.open("a", encoding="utf-8") as file:
                    file.write(line)
        except OSError as error:
            logger.warning("the host key of %s could not be added to %s: %s", host, self.writable, error)

    def _changed(self, host: str, port: int, key: HostKey) -> ChangedHostKey:
        name = self._names(host, port)[0]
        return ChangedHostKey(
            f"SSH to {host} port {port}",
            f"its host key has changed: it shows {key.fingerprint}",
            f"compare with `ssh-keygen -lf {KEY_FILE}` on that machine's own console; if it was reinstalled: "
            f"{TRUST_COMMAND} shows old and new and asks; or ssh-keygen -R '{name}' -f {self._holder(name)}, then "
            f"{_scan(host, port)} >> {self.writable}",
        )

    def _holder(self, name: str) -> Path:
        """The file that has the old key."""
        holders = [path for path in self.files if any(entry.is_for(name) for entry in read_entries(path))]
        return next(iter(holders), self.writable)

    def _unknown(self, host: str, port: int, key: HostKey, known: Sequence[HostKey]) -> UnknownHostKey:
        but = f" (known: {', '.join(other.kind for other in known)})" if known else ""
        return UnknownHostKey(
            f"SSH to {host} port {port}",
            f"its {key.kind} host key {key.fingerprint} is not in known_hosts{but}",
            f"{TRUST_COMMAND} asks; or compare that with `ssh-keygen -lf {KEY_FILE}` on the machine's own console, and "
            f"if it is the same: {_scan(host, port)} >> {self.writable}",
            shown=self.shown(host, port, key),
        )


def _scan(host: str, port: int) -> str:
    return f"ssh-keyscan -p {port} {host}"
