"""Certificates and host keys that nobody has vouched for yet: a person at the terminal may, once for each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from homelab.errors import HomelabError
from homelab.memory import TrustStore
from homelab.shell import TRUST_COMMAND, HostKey, ShownKey
from homelab.trusting.questions import Questions

KEEP = "Trust it from now on?"
LESS_QUESTIONS = f"With {TRUST_COMMAND} one trusted node can vouch for the others."
CERTIFICATE_COMMANDS = (
    "openssl x509 -in /etc/pve/local/pve-ssl.pem -noout -fingerprint -sha256",
    "pvenode cert info    (all certificates of the node: pveproxy-ssl.pem is the one shown, if there is one)",
)
KEY_FILES = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}


@dataclass(frozen=True, slots=True, eq=False)
class Strangers:
    """Answers from what is stored, else asks: about each certificate and host key once in a run, wherever it is shown.

    Without `questions` nobody is asked.
    """

    store: TrustStore
    questions: Questions | None = None
    _asked: dict[str, bool] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def known_hosts(self) -> Path:
        return self.store.known_hosts

    def fingerprint(self, host: str, port: int) -> str | None:
        """Of the certificate that a person trusts at this address."""
        return self.store.certificate(host, port)

    def meets_certificate(self, host: str, port: int, look: Callable[[], str]) -> bool:
        """As Certificates says. What nobody can be asked about is not even looked at."""
        with self._lock:
            if self.store.certificate(host, port):
                return True
            if self.questions is None or not self.questions.can_be_asked:
                return False
            try:
                shown = look()
            except OSError:
                return False
            lines = certificate_lines(host, port, shown)
            return self._kept(self.questions, shown, lines, lambda: self.store.keep_certificate(host, port, shown))

    def meets_host_key(self, shown: ShownKey) -> bool:
        """As Introduction says."""
        with self._lock:
            if self.questions is None or not self.questions.can_be_asked:
                return False
            key = str(shown.key)
            lines = host_key_lines(shown)
            return self._kept(self.questions, key, lines, lambda: self.store.keep_host_key(shown.name, key))

    def _kept(self, person: Questions, value: str, lines: Sequence[str], keep: Callable[[], None]) -> bool:
        """Does a person agree, and is that stored? Where it cannot be stored it is not trusted either."""
        if value not in self._asked:
            hint = () if self._asked else (LESS_QUESTIONS,)
            self._asked[value] = person.agreed([*lines, *hint], KEEP)
        if not self._asked[value]:
            return False
        try:
            keep()
        except HomelabError as error:
            person.report.problem(error.problem)
            return False
        return True


def certificate_lines(host: str, port: int, fingerprint: str, before: str = "") -> tuple[str, ...]:
    """What a person has to see before trusting a certificate."""
    return (
        f"The API at {host} port {port} shows a certificate that {_standing(before)}:",
        *_fingerprints(f"SHA-256 {fingerprint}", f"SHA-256 {before}" if before else ""),
        *_compare(CERTIFICATE_COMMANDS),
    )


def host_key_lines(shown: ShownKey, before: str = "") -> tuple[str, ...]:
    """What a person has to see before trusting a host key; a machine that hides the known one may be another."""
    others = ", ".join(f"{key.kind} {key.fingerprint}" for key in shown.known if key.kind != shown.key.kind)
    return (
        f"SSH at {shown.host} port {shown.port} shows a host key that {_standing(before)}:",
        *_fingerprints(f"{shown.key.kind} {shown.key.fingerprint}", before),
        *([f"That machine is known by another kind of key, and does not show it: {others}"] if others else []),
        *_compare([f"ssh-keygen -lf {key_file(shown.key)}"]),
    )


def key_file(key: HostKey) -> str:
    """Where a machine has the public part of such a key."""
    return f"/etc/ssh/ssh_host_{KEY_FILES.get(key.kind, 'ecdsa')}_key.pub"


def _standing(before: str) -> str:
    return "is another one than before" if before else "nobody has vouched for"


def _fingerprints(now: str, before: str) -> list[str]:
    return [f"  now:    {now}", f"  before: {before}"] if before else [f"  {now}"]


def _compare(commands: Sequence[str]) -> list[str]:
    return ["It is the right one if that machine's own console shows the same for:", *(f"  {one}" for one in commands)]
