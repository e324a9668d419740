"""k3s is brought to a machine: fetched once, the right files for its processor, checked where they arrive."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from homelab.download import NotFetched
from homelab.errors import HomelabError, Misunderstood, NodeFailed, Unreachable
from homelab.k3s_manager.donor import PIECE_BYTES, Donor
from homelab.k3s_manager.release import Releases, pieces, sums
from homelab.k3s_manager.script import InstallScript
from homelab.k3s_manager.server import K3sServer
from homelab.k3s_manager.servers import Servers
from homelab.settings import K3sConfig
from homelab.shelf import Shelf
from homelab.shell import Result
from support.fake_shell import FakeShell, done

VERSION = "v1.33.5+k3s1"
SHOWN = f"k3s version {VERSION} (12345678)\ngo version go1.24.6\n"
SUMS = "".join(
    f"{digit * 64}  {name}\n"
    for digit, name in (("1", "k3s"), ("2", "k3s-arm64"), ("3", "k3s-airgap-images-arm64.tar.zst"))
)


BINARY = "%2Bk3s1/k3s"


class Server(FakeShell):
    """One that runs k3s, whose binary comes in pieces. `size_bytes` is what it says of it."""

    def __init__(
        self, content: bytes = b"k3s of the server", *, version: str = VERSION, machine: str = "x86_64"
    ) -> None:
        super().__init__(self._answer, "server")
        self.content = content
        self.said = (
            f"{machine}\nk3s version {version} (12345678)\ngo version go1.24.6\n"
            f"{hashlib.sha256(content).hexdigest()}  /usr/local/bin/k3s\n{len(content)}\n"
        )

    def _answer(self, line: str, _: bytes) -> Result:
        if "uname -m" in line:
            return done(self.said)
        number = int(line.split()[-1])
        piece = self.content[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]
        return done(base64.b64encode(piece).decode())


class OneServer:
    """Stands in for Servers: this one is asked; remembers what is said."""

    def __init__(self, shell: FakeShell) -> None:
        self.server = K3sServer(shell, "192.0.2.10")
        self.told: list[str] = []

    def ask(self, question: Callable[[K3sServer], Any]) -> Any:
        return question(self.server)

    def say(self, sentence: str) -> None:
        self.told.append(sentence)


class Source:
    """Where releases are; remembers what was asked of it. What it `lacks` is a part of the URLs that fail."""

    def __init__(
        self,
        cache: Path,
        *,
        is_airgapped: bool = False,
        lacks: str = "nothing",
        sums: str = SUMS,
        server: FakeShell | None = None,
    ) -> None:
        self.asked: list[str] = []
        self.lacks, self.sums = lacks, sums
        config = K3sConfig((), None, "https://k3s.example/i.sh", "https://k3s.example/r", is_airgapped=is_airgapped)
        slots = threading.Semaphore(1)
        shelf = Shelf(cache, self._bring)
        self.servers = OneServer(server or Server())
        donor = Donor(cast(Servers, self.servers), shelf)
        self.releases = Releases(config, donor, shelf, self._fetch, lambda _: None, slots)

    def _fetch(self, url: str, setting: str) -> str:
        assert setting == "K3S_ARTIFACT_URL"
        self.asked.append(url)
        self._check(url)
        return self.sums

    def _bring(self, url: str, path: Path, sha256: str) -> None:
        if not path.exists():
            self.asked.append(url)
            self._check(url)
            path.write_text(f"{url} {sha256[0]}")

    def _check(self, url: str) -> None:
        if self.lacks in url:
            raise NotFetched(f"download of {url}", "no connection", "set K3S_ARTIFACT_URL")


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


# --- from a server of the cluster ----------------------------------------------------------------------------------


def test_without_any_release_k3s_is_taken_from_a_server_once_and_that_is_said(tmp_path: Path) -> None:
    content = b"x" * PIECE_BYTES + b"the rest"
    server = Server(content)
    source = Source(tmp_path, lacks="https://", server=server)
    first, second = machine("x86_64"), machine("x86_64")

    source.releases.check(VERSION)
    source.releases.bring(first, "a", VERSION)
    source.releases.bring(second, "b", VERSION)

    sha256 = hashlib.sha256(content).hexdigest()
    assert first.inputs[1] == second.inputs[1] == content
    assert f"put /usr/local/bin/k3s 022 0755 {sha256}" in first.commands[1]
    assert len([line for line in server.commands if "base64" in line]) == 2
    assert len(source.asked) == 1
    (told,) = set(source.servers.told)
    assert told.startswith(
        f"k3s {VERSION} is taken from root@server, sha256 {sha256}, with no published one to compare"
    )


def test_binary_that_cannot_be_downloaded_is_that_of_a_server_only_as_it_is_published(tmp_path: Path) -> None:
    server = Server()
    sha256 = hashlib.sha256(server.content).hexdigest()
    source = Source(tmp_path, lacks=BINARY, server=server)
    with pytest.raises(NodeFailed, match=f"root@server has the sha256 {sha256}, not {'1' * 64}"):
        source.releases.bring(machine("x86_64"), "a", VERSION)

    source = Source(tmp_path, lacks=BINARY, server=server, sums=f"{sha256}  k3s\n")
    shell = machine("x86_64")
    source.releases.bring(shell, "a", VERSION)

    assert shell.inputs[1] == server.content
    assert "as published" in source.servers.told[0]


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (Server(version="v1.30.0+k3s1"), r"root@server has v1\.30\.0\+k3s1 for x86_64"),
        (Server(machine="riscv64"), r"root@server has v1\.33\.5\+k3s1 for riscv64"),
        (FakeShell(lambda *_: done("sh: k3s: not found\n")), "/usr/local/bin/k3s is not understood: sh: k3s"),
    ],
)
def test_server_that_has_another_k3s_is_no_help(tmp_path: Path, server: FakeShell, why: str) -> None:
    source = Source(tmp_path, lacks="https://", server=server)

    with pytest.raises(
        NodeFailed, match=f"no connection; nor is it there on a server of the cluster: .*{why}"
    ) as failed:
        source.releases.check(VERSION)

    assert failed.value.cure == "set K3S_ARTIFACT_URL"


def test_images_are_not_to_be_had_from_a_server(tmp_path: Path) -> None:
    with pytest.raises(NotFetched):
        Source(tmp_path, is_airgapped=True, lacks="images").releases.bring(machine(), "a", VERSION)


@pytest.mark.parametrize(
    ("answer", "raised"),
    [("A", Misunderstood), (base64.b64encode(b"other").decode(), NotFetched)],
    ids=["cut", "other"],
)
def test_copy_that_does_not_arrive_whole_is_not_used(tmp_path: Path, answer: str, raised: type[HomelabError]) -> None:
    server = FakeShell(lambda line, _: done(Server().said if "uname" in line else answer), "server")

    with pytest.raises(raised):
        Source(tmp_path, lacks="https://", server=server).releases.bring(machine("x86_64"), "a", VERSION)

    assert list(tmp_path.iterdir()) == []


# --- the install script --------------------------------------------------------------------------------------------

SCRIPT = "#!/bin/sh\n# INSTALL_K3S_EXEC\n"


def test_install_script_of_an_earlier_run_is_used_where_it_cannot_be_fetched(tmp_path: Path) -> None:
    said: list[str] = []
    answers: list[str | HomelabError] = [SCRIPT, Unreachable("download of it", "no connection"), "<html>"]

    def fetch(_url: str, _setting: str) -> str:
        answer = answers.pop(0)
        if isinstance(answer, HomelabError):
            raise answer
        return answer

    script = InstallScript("https://k3s.example/i.sh", Shelf(tmp_path, lambda *_: None), fetch, said.append)

    assert [script.text(), script.text(), script.text()] == [SCRIPT] * 3
    assert said[0] == "the k3s install script that an earlier run fetched is used: download of it: no connection"
    assert "is not the k3s install script" in said[1]


def test_script_that_was_never_fetched_is_missed(tmp_path: Path) -> None:
    script = InstallScript("https://k3s.example/i.sh", Shelf(tmp_path, lambda *_: None), lambda *_: "", lambda _: None)

    with pytest.raises(NodeFailed, match="the k3s install script is not understood"):
        script.text()


def test_names_are_those_of_the_release_s_files() -> None:
    assert [piece.name for piece in pieces("amd64", has_images=True)] == ["k3s", "k3s-airgap-images-amd64.tar.zst"]
    assert [piece.name for piece in pieces("arm64", has_images=False)] == ["k3s-arm64"]


def test_checksums_are_read_by_whole_names_and_nothing_else_counts() -> None:
    text = f"{'a' * 64}  k3s\n{'b' * 64} *k3s-arm64\nabc  k3s-armhf\n<html>\n\n"
    assert sums(text) == {"k3s": "a" * 64, "k3s-arm64": "b" * 64}
