"""k3s is brought to a machine: fetched once, the right files for its processor, checked where they arrive."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from homelab.errors import NodeFailed
from homelab.k3s_manager.release import Releases, pieces, sums
from homelab.settings import K3sConfig
from homelab.shell import Result
from support.fake_shell import FakeShell, done

VERSION = "v1.33.5+k3s1"
SHOWN = f"k3s version {VERSION} (12345678)\ngo version go1.24.6\n"
SUMS = "".join(
    f"{digit * 64}  {name}\n"
    for digit, name in (("1", "k3s"), ("2", "k3s-arm64"), ("3", "k3s-airgap-images-arm64.tar.zst"))
)


class Source:
    """Where releases are; remembers what was asked of it."""

    def __init__(self, cache: Path, *, is_airgapped: bool = False) -> None:
        self.asked: list[str] = []
        config = K3sConfig((), None, "https://k3s.example/i.sh", "https://k3s.example/r", is_airgapped=is_airgapped)
        slots = threading.Semaphore(1)
        self.releases = Releases(config, cache, self._fetch, self._saved, lambda _: None, slots)

    def _fetch(self, url: str, setting: str) -> str:
        assert setting == "K3S_ARTIFACT_URL"
        self.asked.append(url)
        return SUMS

    def _saved(self, url: str, path: Path, sha256: str) -> BinaryIO:
        if not path.exists():
            self.asked.append(url)
            path.write_text(f"{url} {sha256[0]}")
        return path.open("rb")


def machine(kind: str = "aarch64", shown: Result | None = None, put: Result | None = None) -> FakeShell:
    def respond(line: str, _: bytes) -> Result:
        if line == "uname -m":
            return done(f"{kind}\n")
        return (shown or done(SHOWN)) if line.endswith("--version") else (put or done())

    return FakeShell(respond)


def test_two_machines_get_what_was_fetched_once_each_file_with_its_checksum(tmp_path: Path) -> None:
    source = Source(tmp_path, is_airgapped=True)
    first, second = machine(), machine()

    source.releases.bring(first, "a", VERSION)
    source.releases.bring(second, "b", VERSION)

    base = "https://k3s.example/r/v1.33.5%2Bk3s1"
    images = "k3s-airgap-images-arm64.tar.zst"
    assert source.asked == [f"{base}/{name}" for name in ("sha256sum-arm64.txt", "k3s-arm64", images)]
    assert first.inputs == second.inputs
    assert first.inputs[1:3] == [f"{base}/k3s-arm64 2".encode(), f"{base}/{images} 3".encode()]
    assert f"put /usr/local/bin/k3s 022 0755 {'2' * 64}" in first.commands[1]
    assert f"put /var/lib/rancher/k3s/agent/images/{images} 022 0644 {'3' * 64}" in first.commands[2]


def test_without_the_wish_for_images_the_binary_is_brought_alone_and_the_others_need_not_try(tmp_path: Path) -> None:
    source = Source(tmp_path)
    assert not source.releases.is_brought
    shell = machine("x86_64")

    source.releases.bring(shell, "a", VERSION)

    assert source.releases.is_brought
    assert [line for line in shell.commands if " put " in line] == [shell.commands[1]]
    assert shell.inputs[1].endswith(b"/k3s 1")


def test_release_that_is_wished_for_without_internet_is_always_brought(tmp_path: Path) -> None:
    assert Source(tmp_path, is_airgapped=True).releases.is_brought


@pytest.mark.parametrize(
    ("kind", "shell", "said"),
    [
        (
            "riscv64",
            machine("riscv64"),
            "a: there is no k3s for its kind of processor: uname -m in the VM says riscv64",
        ),
        ("none", machine(""), "says (nothing)"),
        (
            "other-version",
            machine(shown=done("k3s version v1.30.0+k3s1 (1)\n")),
            "/usr/local/bin/k3s is not k3s v1.33.5",
        ),
        ("does-not-run", machine(shown=done("", "Exec format error", 126)), "Exec format error"),
        ("silent", machine(shown=done("", "", 126)), "k3s --version: exit code 126"),
        ("truncated", machine(put=done("", "", 1)), "/usr/local/bin/k3s cannot be written: it did not arrive whole"),
        ("full", machine(put=done("", "cat: No space left on device", 1)), "No space left on device"),
    ],
)
def test_what_goes_wrong_on_the_machine_is_told(tmp_path: Path, kind: str, shell: FakeShell, said: str) -> None:
    with pytest.raises(NodeFailed) as failed:
        Source(tmp_path).releases.bring(shell, "a", VERSION)
    assert said in str(failed.value)
    assert failed.value.cure, kind


def test_file_that_the_release_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(NodeFailed, match=r"sha256sum-amd64\.txt gives lists no k3s-airgap-images-amd64\.tar\.zst"):
        Source(tmp_path, is_airgapped=True).releases.bring(machine("x86_64"), "a", VERSION)


def test_names_are_those_of_the_release_s_files() -> None:
    assert [piece.name for piece in pieces("amd64", has_images=True)] == ["k3s", "k3s-airgap-images-amd64.tar.zst"]
    assert [piece.name for piece in pieces("arm64", has_images=False)] == ["k3s-arm64"]


def test_checksums_are_read_by_whole_names_and_nothing_else_counts() -> None:
    text = f"{'a' * 64}  k3s\n{'b' * 64} *k3s-arm64\nabc  k3s-armhf\n<html>\n\n"
    assert sums(text) == {"k3s": "a" * 64, "k3s-arm64": "b" * 64}
