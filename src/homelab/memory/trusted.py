"""Whom a person has trusted: certificates and host keys by the address that shows them, for every cluster."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homelab import json_text, private_files
from homelab.errors import Problem
from homelab.memory.folder import replace_file, unusable

CERTIFICATES = "certificates.json"
KNOWN_HOSTS = "known_hosts"


@dataclass(frozen=True, slots=True)
class TrustStore:
    """Files of one folder, which only their owner reads; nothing in them is secret, but they say whom to believe."""

    folder: Path

    @property
    def known_hosts(self) -> Path:
        """Host keys, as OpenSSH writes them."""
        return self.folder / KNOWN_HOSTS

    def doubt(self) -> Problem | None:
        """What is to be said where what was trusted before cannot be told: then it is not trusted."""
        try:
            self._read_certificates()
            with suppress(FileNotFoundError):
                self.known_hosts.read_bytes()
        except OSError as error:
            return _not_told(error.filename or str(self.folder), error.strerror or type(error).__name__)
        except (ValueError, AttributeError):
            return _not_told(str(self.folder / CERTIFICATES), "it is not what an earlier run wrote")
        return None

    def certificate(self, host: str, port: int) -> str | None:
        """The SHA-256 fingerprint (32 pairs with colons) of the certificate that is trusted there."""
        return self._certificates().get(_door(host, port))

    def keep_certificate(self, host: str, port: int, fingerprint: str) -> None:
        """In place of the one before. Raises HomelabError where that cannot be written."""
        kept = {**self._certificates(), _door(host, port): fingerprint}
        self._write(CERTIFICATES, json.dumps(kept, indent=1, sort_keys=True))

    def keep_host_key(self, name: str, key: str) -> None:
        """`key` is its type and its base64 text; in place of the one of that type before. Raises HomelabError."""
        kind = key.partition(" ")[0]
        others = [line for line in self._host_keys() if line.split()[:2] != [name, kind]]
        self._write(KNOWN_HOSTS, "\n".join([*others, f"{name} {key}"]))

    def keep_authority(self, pem: str, name: str) -> Path:
        """A cluster's CA; where it lies. Raises HomelabError."""
        return self._write(f"pve-root-ca-{name}.pem", pem.strip())

    def _certificates(self) -> dict[str, str]:
        try:
            return self._read_certificates()
        except (OSError, ValueError, AttributeError):
            return {}

    def _read_certificates(self) -> dict[str, str]:
        """None where there is no file; raises OSError, ValueError or AttributeError where it cannot be understood."""
        try:
            kept: Any = json_text.read((self.folder / CERTIFICATES).read_bytes())
        except FileNotFoundError:
            return {}
        return {str(door): str(fingerprint) for door, fingerprint in kept.items()}

    def _host_keys(self) -> list[str]:
        try:
            return self.known_hosts.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        try:
            private_files.make_folder(self.folder)
            replace_file(path, text)
        except OSError as error:
            raise unusable(self.folder, error) from error
        return path


def _not_told(file: str, why: str) -> Problem:
    return Problem(
        "whom you trusted before cannot be told",
        f"{file}: {why}",
        f"let this user read it, or rm {file}; then poetry run python -m homelab.main trust, and compare what it shows",
    )


def _door(host: str, port: int) -> str:
    return f"[{host.lower()}]:{port}"
