"""k3s for machines that cannot download it themselves: fetched here once, checked by its sha256 here and there."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO
from urllib.parse import quote

from homelab.errors import NodeFailed
from homelab.k3s_manager.placing import Place, put
from homelab.settings import K3sConfig
from homelab.shell import Shell

RELEASES = "https://github.com/k3s-io/k3s/releases/download"
"""Where k3s is taken from unless K3S_ARTIFACT_URL says otherwise."""
ARCHITECTURES: Mapping[str, str] = MappingProxyType({"x86_64": "amd64", "aarch64": "arm64"})
BINARY = "/usr/local/bin/k3s"
IMAGES_FOLDER = "/var/lib/rancher/k3s/agent/images"
PUSH_TIMEOUT_S = 900
SUM = re.compile(r"([0-9a-f]{64})\s+\*?(\S+)")


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of a release, and where it goes on a machine."""

    name: str
    path: str
    mode: str


def pieces(architecture: str, *, has_images: bool) -> tuple[Piece, ...]:
    """The binary, and the images that it would otherwise pull. Source: the assets of a release of k3s."""
    binary = Piece("k3s" if architecture == "amd64" else f"k3s-{architecture}", BINARY, "0755")
    archive = f"k3s-airgap-images-{architecture}.tar.zst"
    return (binary, Piece(archive, f"{IMAGES_FOLDER}/{archive}", "0644")) if has_images else (binary,)


@dataclass(slots=True)
class Releases:
    """The releases of one run. `fetch` gives the text of a URL (with the key to name where that fails).

    `saved` opens the file of a URL with this sha256, downloaded to a path if it is not there; `slots` limits transfers.
    """

    config: K3sConfig
    cache: Path
    fetch: Callable[[str, str], str]
    saved: Callable[[str, Path, str], BinaryIO]
    progress: Callable[[str], None]
    slots: threading.Semaphore
    is_brought: bool = False
    """Is k3s brought to machines, since it is wished, or one of them could not download it?"""
    _sums: dict[str, Mapping[str, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.is_brought = self.config.is_airgapped

    def check(self, version: str) -> None:
        """Raise unless k3s of this version is there to be downloaded."""
        self._sha256(version, "amd64", "k3s")

    def bring(self, shell: Shell, name: str, version: str) -> None:
        """Put k3s of this version on a machine, and its images where K3S_AIRGAP_IMAGES asks for them.

        Raises NodeFailed, or what `fetch` and `saved` raise.
        """
        self.is_brought = True
        architecture = _architecture(shell, name)
        for piece in pieces(architecture, has_images=self.config.is_airgapped):
            sha256 = self._sha256(version, architecture, piece.name)
            with self._opened(version, piece.name, sha256) as file, self.slots:
                self.progress(f"{name}: {piece.name} of {version} is brought to it")
                put(shell, Place(piece.path, piece.mode, sha256, PUSH_TIMEOUT_S), file)
        _check_version(shell, name, version)

    def _url(self, version: str, file: str) -> str:
        return f"{self.config.artifact_url or RELEASES}/{quote(version)}/{file}"

    def _sha256(self, version: str, architecture: str, file: str) -> str:
        url = self._url(version, f"sha256sum-{architecture}.txt")
        with self._lock:
            if url not in self._sums:
                self._sums[url] = sums(self.fetch(url, "K3S_ARTIFACT_URL"))
            found = self._sums[url].get(file)
        if found is None:
            raise NodeFailed(
                f"k3s {version} is not at hand",
                f"what {url} gives lists no {file}",
                "check K3S_ARTIFACT_URL and K3S_VERSION",
            )
        return found

    def _opened(self, version: str, file: str, sha256: str) -> BinaryIO:
        """Whoever comes first fetches it; the others wait for that."""
        with self._lock:
            return self.saved(self._url(version, file), self.cache / f"{sha256[:12]}-{file}", sha256)


def sums(text: str) -> Mapping[str, str]:
    """The sha256 of each file that a list of checksums names."""
    return {found[2]: found[1] for line in text.splitlines() if (found := SUM.fullmatch(line.strip()))}


def _architecture(shell: Shell, name: str) -> str:
    machine = shell.run(["uname", "-m"]).stdout.strip()
    if machine not in ARCHITECTURES:
        raise NodeFailed(
            f"{name}: there is no k3s for its kind of processor",
            f"uname -m in the VM says {machine or '(nothing)'}; known are {', '.join(ARCHITECTURES)}",
            "set ISO_URL to an image of Ubuntu for amd64 or arm64",
        )
    return ARCHITECTURES[machine]


def _check_version(shell: Shell, name: str, version: str) -> None:
    """Raise NodeFailed unless what lies there runs on this machine, and is that version."""
    shown = shell.run([BINARY, "--version"])
    if shown.exit_code or version not in shown.stdout.split():
        raise NodeFailed(
            f"{name}: {BINARY} is not k3s {version}",
            (shown.stdout or shown.stderr).strip()[:200] or f"k3s --version: exit code {shown.exit_code}",
            "check K3S_ARTIFACT_URL: what lies under that version there is another one",
        )
