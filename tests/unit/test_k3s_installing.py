"""What is run on a machine to install k3s there: checked files, an environment of its own, k3s brought if need be."""

from __future__ import annotations

import hashlib
import threading
from io import BytesIO
from typing import BinaryIO, cast

import pytest
import yaml

from homelab.errors import NodeFailed
from homelab.k3s_manager.donor import Donor
from homelab.k3s_manager.installing import CONFIG, JoinOrder, install, renew_token
from homelab.k3s_manager.release import Releases
from homelab.settings import K3sConfig, Role, Secret
from homelab.shelf import Shelf
from homelab.shell import Result
from support.fake_shell import FakeShell, done

VERSION = "v1.33.5+k3s1"
SCRIPT = "#!/bin/sh\n# INSTALL_K3S_EXEC\n"
ORDER = JoinOrder("a", Role.AGENT, "https://192.0.2.1:6443", Secret("K10x::y"), VERSION, SCRIPT, {})


class OneFile:
    """A shelf on which the same lies under each name."""

    def downloaded(self, *_: str) -> BinaryIO:
        return BytesIO(b"file")


NO_DONOR = cast(Donor, None)


def installed(scripts: list[Result], *, url: str | None = None, is_airgapped: bool = False) -> FakeShell:
    """The machine after the installation, whose script ends as given, run after run."""
    left = iter(scripts)

    def respond(line: str, _: bytes) -> Result:
        if " env -i " in line:
            return next(left)
        return done({"uname -m": "x86_64\n"}.get(line, f"k3s version {VERSION} (1)\n"))

    shell = FakeShell(respond)
    config = K3sConfig((), None, "https://k3s.example/i.sh", url, is_airgapped=is_airgapped)
    sums = f"{'1' * 64}  k3s\n{'2' * 64}  k3s-airgap-images-amd64.tar.zst\n"
    slots = threading.Semaphore(1)
    releases = Releases(config, NO_DONOR, cast(Shelf, OneFile()), lambda *_: sums, lambda _: None, slots)
    install(shell, ORDER, config, releases)
    return shell


def runs(shell: FakeShell) -> list[str]:
    return [line for line in shell.commands if " env -i " in line]


def test_script_is_compared_in_the_machine_and_runs_with_nothing_of_its_environment() -> None:
    shell = installed([done()])

    sha256 = hashlib.sha256(SCRIPT.encode()).hexdigest()
    assert shell.commands[1].endswith(f"put /var/lib/homelab/install-k3s.sh 077 0600 {sha256}")
    assert shell.inputs[1] == SCRIPT.encode()
    assert runs(shell) == [
        "sudo -n env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin INSTALL_K3S_EXEC=agent "
        f"INSTALL_K3S_VERSION={VERSION} INSTALL_K3S_SKIP_START=true INSTALL_K3S_SKIP_SELINUX_RPM=true "
        "sh /var/lib/homelab/install-k3s.sh"
    ]
    assert not any("K10x" in line for line in shell.commands)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://k3s.example/r", "INSTALL_K3S_ARTIFACT_URL=https://k3s.example/r sh "),
        (
            "https://k3s.example/r/download",
            "INSTALL_K3S_ARTIFACT_URL=https://k3s.example/r/download GITHUB_URL=https://k3s.example/r sh ",
        ),
    ],
)
def test_source_of_releases_is_told_to_new_scripts_and_to_older_ones_where_it_fits(url: str, words: str) -> None:
    assert words in runs(installed([done()], url=url))[0]


@pytest.mark.parametrize(
    "said", ["Download failed", "Download sha256 does not match 1, got 2", "Can not find curl or wget for downloading"]
)
def test_machine_that_cannot_download_is_brought_k3s_and_the_script_runs_again(said: str) -> None:
    shell = installed([done(stderr=f"[ERROR]  {said}\n", exit_code=1), done()], url="https://k3s.example/r")

    first, second = runs(shell)
    assert "SKIP_DOWNLOAD" not in first
    assert "INSTALL_K3S_SKIP_DOWNLOAD=true" in second
    assert "ARTIFACT_URL" not in second


def test_with_images_from_here_nothing_is_downloaded_by_the_machine() -> None:
    shell = installed([done()], is_airgapped=True)

    (only,) = runs(shell)
    assert "INSTALL_K3S_SKIP_DOWNLOAD=true" in only
    assert [line.split()[-4].rpartition("/")[2] for line in shell.commands if " put " in line] == [
        "config.yaml",
        "install-k3s.sh",
        "k3s",
        "k3s-airgap-images-amd64.tar.zst",
    ]


def test_script_that_fails_otherwise_is_not_run_again() -> None:
    with pytest.raises(NodeFailed, match="exit code 3: no systemd"):
        installed([done(stderr="no systemd", exit_code=3)])


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (done("flannel-backend: none\n"), {"flannel-backend": "none"}),
        (done(stderr="cat: /etc/rancher/k3s/config.yaml: No such file or directory\n", exit_code=1), {}),
    ],
    ids=["settings", "no-file"],
)
def test_machine_that_joins_again_keeps_its_settings(answer: Result, kept: dict[str, str]) -> None:
    shell = FakeShell(lambda line, _: answer if line == f"sudo -n cat {CONFIG}" else done())

    renew_token(shell, ORDER)

    told = {"server": ORDER.server_url, "token": "K10x::y", "node-name": "a"}
    assert yaml.safe_load(next(typed for typed in shell.inputs if typed)) == {**kept, **told}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("K3S_TOKEN='old'\nHTTPS_PROXY=p\nK3S_URL=https://old:6443\n", "HTTPS_PROXY=p\n"),
        (" export K3S_TOKEN_FILE=/old", ""),
        ("K3S_TOKENS=x\n#K3S_URL=y\n", None),
    ],
    ids=["some", "all", "none"],
)
def test_what_an_earlier_join_left_in_the_environment_of_the_service_goes(before: str, after: str | None) -> None:
    path = "/etc/systemd/system/k3s-agent.service.env"
    shell = FakeShell(lambda line, _: done(before if line == f"sudo -n cat {path}" else ""))

    renew_token(shell, ORDER)

    written = [
        typed for line, typed in zip(shell.commands, shell.inputs, strict=True) if f" put {path} 077 0600" in line
    ]
    assert written == ([] if after is None else [after.encode()])
    assert not any("old" in line for line in shell.commands)


def test_settings_that_cannot_be_read_are_not_written_over() -> None:
    shell = FakeShell(lambda *_: done(stderr="cat: Input/output error\n", exit_code=1))

    with pytest.raises(NodeFailed, match=r"config\.yaml cannot be read: cat: Input/output error"):
        renew_token(shell, ORDER)

    assert len(shell.commands) == 1
