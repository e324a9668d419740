"""What stands in for k3s's binaries: small files that carry their version, so that pushed and downloaded ones count."""

from __future__ import annotations

import functools
import hashlib
import random
import re

IMAGES = "k3s-airgap-images-amd64.tar.zst"
_HEADER = b"\x7fELF\x02\x01\x01" + bytes(9)
_MARK = b"pvelab stand-in for the k3s binary, version "
_VERSION = re.compile(re.escape(_MARK) + rb"(v\d+\.\d+\.\d+\+k3s\d+)\n")
_PADDING_BYTES = 256 << 10


@functools.cache
def k3s_binary(version: str) -> bytes:
    """The file `k3s` of that release, the same bytes every time."""
    padding = random.Random(version).randbytes(_PADDING_BYTES)
    return _HEADER + _MARK + version.encode() + b"\n" + padding


def version_of(content: bytes) -> str | None:
    """The version of a complete binary; None for any other file, a truncated binary too."""
    found = _VERSION.search(content[:200])
    version = found[1].decode() if found else ""
    return version if version and content == k3s_binary(version) else None


def commit_of(version: str) -> str:
    """The commit that `k3s --version` shows behind the version: 8 hexadecimal digits."""
    return hashlib.sha256(version.encode()).hexdigest()[:8]


def kubernetes_minor(version: str) -> tuple[int, int]:
    """(1, 33) for v1.33.5+k3s1."""
    major, minor = version.removeprefix("v").split(".")[:2]
    return int(major), int(minor)


def release_files(version: str) -> dict[str, bytes]:
    """The files of a release by name, its checksum list left to whoever publishes them."""
    return {
        "k3s": k3s_binary(version),
        IMAGES: b"pvelab stand-in for the images of k3s " + version.encode() + b"\n",
        "k3s-images.txt": b"docker.io/rancher/mirrored-pause:3.6\ndocker.io/rancher/mirrored-coredns-coredns:1.12.3\n",
    }
