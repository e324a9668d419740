"""What machines show at their doors, and what is thought of it: certificates of the API, SSH host keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from homelab.errors import Unreachable
from homelab.memory import TrustStore
from homelab.proxmox import tls
from homelab.settings import Config, NodeConfig
from homelab.shell import Presented, RevokedHostKey, Shell
from homelab.trusting.strangers import certificate_lines, host_key_lines

ANSWERED = "answered earlier"


class Standing(Enum):
    """What is thought of a certificate or host key. REFUSED: no answer could make it trusted."""

    TRUSTED = "trusted"
    NEW = "not trusted"
    CHANGED = "changed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate or host key at one door. `value` is what no other machine can show.

    `by`: who vouches for it, or why nobody does; `lines`: what a person has to see; `look_for` looks again for a host
    key of one of these kinds.
    """

    where: str
    fingerprint: str
    value: str
    standing: Standing
    by: str
    lines: tuple[str, ...]
    keep: Callable[[], None]
    look_for: Callable[[Sequence[str]], Shown] | None = None

    @property
    def is_host_key(self) -> bool:
        return self.look_for is not None


@dataclass(frozen=True, slots=True)
class Doors:
    """Looks at doors, and judges by the configuration and by what was stored; asks nobody, tells nothing."""

    config: Config
    store: TrustStore

    def certificate(self, host: str, port: int, node: NodeConfig | None) -> Shown:
        """Of the API at an address; `node` where it is known whose address that is. Raises Unreachable."""
        try:
            shown = tls.shown_at(host, port)
            standing, by, before = self._judged(host, port, node, shown)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise Unreachable(f"API at {host} port {port}", why, "on the node: systemctl status pveproxy") from error
        return Shown(
            f"API {host}:{port}",
            f"SHA-256 {shown}",
            shown,
            standing,
            by,
            certificate_lines(host, port, shown, before),
            lambda: self.store.keep_certificate(host, port, shown),
        )

    def _judged(self, host: str, port: int, node: NodeConfig | None, shown: str) -> tuple[Standing, str, str]:
        """The standing, who vouches or why nobody does, and the certificate that is trusted there, if any."""
        for one in self.config.nodes:
            if one.fingerprint == shown and node in (None, one):
                return Standing.TRUSTED, one.key("PROXMOX_FINGERPRINT"), shown
        if node and node.fingerprint:
            return Standing.REFUSED, f"it is not the one of {node.key('PROXMOX_FINGERPRINT')}", node.fingerprint
        ca_bundle = self.config.api.ca_bundle
        why = tls.trouble_by_authorities(host, port, ca_bundle)
        if not why:
            return Standing.TRUSTED, "PROXMOX_CA_BUNDLE" if ca_bundle else "a public CA", ""
        before = self.store.certificate(host, port)
        if before is None:
            return Standing.NEW, why, ""
        return (Standing.TRUSTED, ANSWERED, "") if before == shown else (Standing.CHANGED, f"before: {before}", before)

    def host_key(self, shell: Shell, kinds: Sequence[str] = ()) -> Shown:
        """Of the machine that a shell leads to, of one of these kinds if it has one. Raises Unreachable."""
        seen = shell.presented(kinds)
        shown = seen.shown
        standing, by, before = _judged(seen)
        return Shown(
            f"SSH {shell.where}",
            f"{shown.key.kind} {shown.key.fingerprint}",
            str(shown.key),
            standing,
            by,
            host_key_lines(shown, before),
            lambda: self.store.keep_host_key(shown.name, str(shown.key)),
            lambda others: self.host_key(shell, others),
        )


def _judged(seen: Presented) -> tuple[Standing, str, str]:
    if seen.trouble is None:
        return Standing.TRUSTED, "known_hosts", ""
    if isinstance(seen.trouble, RevokedHostKey):
        return Standing.REFUSED, seen.trouble.why, ""
    before = ", ".join(f"{key.kind} {key.fingerprint}" for key in seen.known if key.kind == seen.shown.key.kind)
    return (Standing.CHANGED, f"before: {before}", before) if before else (Standing.NEW, "not in known_hosts", "")
