"""k3s for machines that cannot download it themselves: fetched here once, checked by its sha256 here and there."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import BinaryIO
from urllib.parse import quote

from homelab.errors import HomelabError, NodeFailed
from homelab.k3s_manager.donor import BINARY, Copy, Donor
from homelab.k3s_manager.placing import Place, put
from homelab.settings import K3sConfig
from homelab.shelf import Shelf
from homelab.shell import Shell

RELEASES = "https://github.com/k3s-io/k3s/releases/download"
"""Where k3s is taken from unless K3S_ARTIFACT_URL says otherwise."""
ARCHITECTURES: Mapping[str, str] = MappingProxyType({"x86_64": "amd64", "aarch64": "arm64"})
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

    Files lie on the `shelf`; `slots` limits transfers. Where a release cannot be had, the `donor` gives k3s itself.
    """

    config: K3sConfig
    donor: Donor
    shelf: Shelf
    fetch: Callable[[str, str], str]
    progress: Callable[[str], None]
    slots: threading.Semaphore
    is_brought: bool = False
    """Is k3s brought to machines, since it is wished, or one of them could not download it?"""
    _sums: dict[str, Mapping[str, str] | HomelabError] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.is_brought = self.config.is_airgapped

    def check(self, version: str) -> None:
        """Raise unless k3s of this version is there: to be downloaded, or on a server of the cluster."""
        try:
            self._published(version, "amd64", "k3s")
        except HomelabError as error:
            self._on_a_server(version, "amd64", "", error)

    def bring(self, shell: Shell, name: str, version: str) -> None:
        """Put k3s of this version on a machine, and its images where K3S_AIRGAP_IMAGES asks for them.

        Raises NodeFailed, or what `fetch` and `shelf` raise.
        """
        self.is_brought = True
        architecture = _architecture(shell, name)
        for piece in pieces(architecture, has_images=self.config.is_airgapped):
            sha256, opened = self._opened(version, architecture, piece)
            with opened as file, self.slots:
                self.progress(f"{name}: {piece.name} of {version} is brought to it")
                put(shell, Place(piece.path, piece.mode, sha256, PUSH_TIMEOUT_S), file)
        _check_version(shell, name, version)

    def _url(self, version: str, file: str) -> str:
        return f"{self.config.artifact_url or RELEASES}/{quote(version)}/{file}"

    def _published(self, version: str, architecture: str, file: str) -> str:
        """The sha256 that the release gives for one of its files."""
        url = self._url(version, f"sha256sum-{architecture}.txt")
        found = self._listed(url).get(file)
        if found is None:
            raise NodeFailed(
                f"k3s {version} is not at hand",
                f"what {url} gives lists no {file}",
                "check K3S_ARTIFACT_URL and K3S_VERSION",
            )
        return found

    def _listed(self, url: str) -> Mapping[str, str]:
        """The sha256 by file; where they cannot be had, that is tried once."""
        with self._lock:
            if url not in self._sums:
                try:
                    self._sums[url] = sums(self.fetch(url, "K3S_ARTIFACT_URL"))
                except HomelabError as error:
                    self._sums[url] = error
            found = self._sums[url]
        if isinstance(found, HomelabError):
            raise found
        return found

    def _opened(self, version: str, architecture: str, piece: Piece) -> tuple[str, BinaryIO]:
        """Its sha256, and the file. Whoever comes first fetches it; the others wait for that."""
        with self._lock:
            sha256 = ""
            try:
                sha256 = self._published(version, architecture, piece.name)
                return sha256, self.shelf.downloaded(self._url(version, piece.name), _kept_as(piece, sha256), sha256)
            except HomelabError as error:
                if piece.path != BINARY:
                    raise
                copy = self._on_a_server(version, architecture, sha256, error)
                checked = "as published" if sha256 else "with no published one to compare"
                source = f"k3s {version} is taken from {copy.where}, sha256 {copy.sha256}, {checked}"
                self.donor.servers.say(f"{source}: {error}")
                return copy.sha256, self.donor.give(copy, _kept_as(piece, copy.sha256))

    def _on_a_server(self, version: str, architecture: str, published: str, error: HomelabError) -> Copy:
        """What the donor has, if it is that. `published` is the sha256 it has to have, where one is known.

        Raises NodeFailed, with the `error` for which it is asked.
        """
        try:
            copy = self.donor.find()
        except HomelabError as other:
            raise _not_at_hand(error, str(other)) from other
        if (ARCHITECTURES.get(copy.machine), copy.version) != (architecture, version):
            raise _not_at_hand(error, f"{copy.where} has {copy.version} for {copy.machine}")
        if published not in ("", copy.sha256):
            raise _not_at_hand(error, f"that of {copy.where} has the sha256 {copy.sha256}, not {published}")
        return copy


def sums(text: str) -> Mapping[str, str]:
    """The sha256 of each file that a list of checksums names."""
    return {found[2]: found[1] for line in text.splitlines() if (found := SUM.fullmatch(line.strip()))}


def _kept_as(piece: Piece, sha256: str) -> str:
    return f"{sha256[:12]}-{piece.name}"


def _not_at_hand(error: HomelabError, why: str) -> NodeFailed:
    return NodeFailed(error.what, f"{error.why}; nor is it there on a server of the cluster: {why}", error.cure)


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
