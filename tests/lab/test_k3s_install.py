"""The install script of k3s in a guest: downloads, files, units, messages, exit codes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from lab.guest_world import VERSION, Bench, output, play, shell
from pvelab.guest.install_script import INSTALL_SCRIPT
from pvelab.guest.k3s_release import k3s_binary, release_files
from pvelab.guest.machine import GuestMachine
from pvelab.network import SOURCES_PORT
from pvelab.sources import INSTALLER_PATH, RELEASES_FOLDER, Damage, Sources

Scenario = Callable[[Bench, GuestMachine, Sources], Coroutine[Any, Any, None]]


def play_with_sources(folder: Path, scenario: Scenario) -> None:
    """A booted guest, and a release server that it can reach."""

    async def whole(bench: Bench) -> None:
        sources = Sources(folder / "www", lambda _: None)
        sources.publish(INSTALLER_PATH, INSTALL_SCRIPT.encode())
        sources.publish_release(VERSION, release_files(VERSION))
        await sources.start(bench.network.sources, SOURCES_PORT)
        try:
            await scenario(bench, await bench.booted(bench.vm(100, "agent")), sources)
        finally:
            await sources.stop()

    play(folder, whole)


def environment(bench: Bench, **more: str) -> str:
    """The documented variables, as words before a command."""
    base_url = f"http://{bench.network.sources}:{SOURCES_PORT}"
    values = {
        "INSTALL_K3S_ARTIFACT_URL": base_url + RELEASES_FOLDER,
        "INSTALL_K3S_VERSION": VERSION,
        "INSTALL_K3S_EXEC": "agent",
        "INSTALL_K3S_SKIP_START": "true",
    }
    return " ".join(f"{name}={value}" for name, value in (values | more).items())


async def fetch_script(bench: Bench, machine: GuestMachine) -> None:
    url = f"http://{bench.network.sources}:{SOURCES_PORT}{INSTALLER_PATH}"
    await output(machine, f"curl -sfL -o /root/install.sh {url}")


def test_script_downloads_verifies_and_installs_an_agent(tmp_path: Path) -> None:
    async def scenario(bench: Bench, machine: GuestMachine, _sources: Sources) -> None:
        await fetch_script(bench, machine)
        said = await output(machine, f"{environment(bench)} sh /root/install.sh")
        url = f"http://{bench.network.sources}:{SOURCES_PORT}{RELEASES_FOLDER}/v1.33.5%2Bk3s1"
        assert said.splitlines() == [
            f"[INFO]  Using {VERSION} as release",
            f"[INFO]  Downloading hash {url}/sha256sum-amd64.txt",
            f"[INFO]  Downloading binary {url}/k3s",
            "[INFO]  Verifying binary download",
            "[INFO]  Installing k3s to /usr/local/bin/k3s",
            "[INFO]  Skipping installation of SELinux RPM",
            "[INFO]  Creating /usr/local/bin/kubectl symlink to k3s",
            "[INFO]  Creating /usr/local/bin/crictl symlink to k3s",
            "[INFO]  Creating /usr/local/bin/ctr symlink to k3s",
            "[INFO]  Creating killall script /usr/local/bin/k3s-killall.sh",
            "[INFO]  Creating uninstall script /usr/local/bin/k3s-agent-uninstall.sh",
            "[INFO]  env: Creating environment file /etc/systemd/system/k3s-agent.service.env",
            "[INFO]  systemd: Creating service file /etc/systemd/system/k3s-agent.service",
            "[INFO]  systemd: Enabling k3s-agent unit",
        ]
        assert (await output(machine, "k3s --version")).startswith(f"k3s version {VERSION} ")
        modes = "stat -c '%a %n' /usr/local/bin/k3s /etc/systemd/system/k3s-agent.service.env"
        assert [line.split()[0] for line in (await output(machine, modes)).splitlines()] == ["755", "600"]
        again = await output(machine, f"{environment(bench)} sh /root/install.sh")
        assert "[INFO]  Skipping binary downloaded, installed k3s matches hash" in again

    play_with_sources(tmp_path, scenario)


def test_github_url_is_the_elder_prefix(tmp_path: Path) -> None:
    async def scenario(bench: Bench, machine: GuestMachine, sources: Sources) -> None:
        for name, content in release_files(VERSION).items():
            sources.publish(f"/old/download/{VERSION}/{name}", content)
        listing = Path(sources.folder / RELEASES_FOLDER.lstrip("/") / VERSION / "sha256sum-amd64.txt")
        sources.publish(f"/old/download/{VERSION}/sha256sum-amd64.txt", listing.read_bytes())
        env = f"GITHUB_URL=http://{bench.network.sources}:{SOURCES_PORT}/old INSTALL_K3S_SKIP_START=true"
        await output(machine, f"{env} INSTALL_K3S_EXEC=agent INSTALL_K3S_VERSION={VERSION} pvelab-k3s-install")
        assert (await output(machine, "k3s --version")).startswith(f"k3s version {VERSION} ")

    play_with_sources(tmp_path, scenario)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (Damage.WRONG_CONTENT, "[ERROR]  Download sha256 does not match "),
        (Damage.MISSING, "[ERROR]  Download failed"),
        (Damage.TRUNCATED, "[ERROR]  Download failed"),
    ],
)
def test_damaged_binary_is_not_installed(tmp_path: Path, damage: Damage, text: str) -> None:
    async def scenario(bench: Bench, machine: GuestMachine, sources: Sources) -> None:
        sources.damaged[f"{RELEASES_FOLDER}/{VERSION}/k3s"] = damage
        await fetch_script(bench, machine)
        result = await shell(machine, f"{environment(bench)} sh /root/install.sh")
        assert result.exit_code == 1
        assert text in result.err.decode()
        assert not machine.files.exists("/usr/local/bin/k3s")

    play_with_sources(tmp_path, scenario)


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ("K3S_URL=http://x:6443 INSTALL_K3S_EXEC=agent", "Only https:// URLs are supported for K3S_URL"),
        ("K3S_URL=https://x:6443", "Defaulted k3s exec command to 'agent' because K3S_URL is defined"),
        ("INSTALL_K3S_SKIP_DOWNLOAD=true", "Executable k3s binary not found at /usr/local/bin/k3s"),
    ],
)
def test_wrong_environment_is_fatal(tmp_path: Path, env: str, text: str) -> None:
    async def scenario(_bench: Bench, machine: GuestMachine, _sources: Sources) -> None:
        result = await shell(machine, f"{env} pvelab-k3s-install")
        assert (result.exit_code, result.err.decode()[:9]) == (1, "[ERROR]  ")
        assert text in result.err.decode()

    play_with_sources(tmp_path, scenario)


def test_without_a_command_and_url_a_server_is_installed(tmp_path: Path) -> None:
    async def scenario(_bench: Bench, machine: GuestMachine, _sources: Sources) -> None:
        machine.files.provide("/usr/local/bin/k3s", k3s_binary(VERSION), mode=0o755)
        await output(machine, "INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_ENABLE=true pvelab-k3s-install")
        assert await output(machine, "systemctl show -p UnitFileState --value k3s") == "disabled\n"
        assert (await shell(machine, "systemctl is-active k3s")).exit_code == 3

    play_with_sources(tmp_path, scenario)


def test_unchanged_second_run_does_not_start_a_stopped_service(tmp_path: Path) -> None:
    async def scenario(bench: Bench, machine: GuestMachine, _sources: Sources) -> None:
        await fetch_script(bench, machine)
        await output(machine, f"{environment(bench)} sh /root/install.sh")
        again = await output(machine, f"{environment(bench, INSTALL_K3S_SKIP_START='false')} sh /root/install.sh")
        assert again.splitlines()[-1] == "[INFO]  No change detected so skipping service start"

    play_with_sources(tmp_path, scenario)


def test_start_that_fails_gives_systemctls_exit_code(tmp_path: Path) -> None:
    async def scenario(bench: Bench, machine: GuestMachine, _sources: Sources) -> None:
        await fetch_script(bench, machine)
        result = await shell(machine, f"{environment(bench, INSTALL_K3S_SKIP_START='false')} sh /root/install.sh")
        assert result.exit_code == 1
        assert b"Job for k3s-agent.service failed because the control process exited" in result.err

    play_with_sources(tmp_path, scenario)


def test_uninstall_removes_everything_but_the_node_password(tmp_path: Path) -> None:
    async def scenario(bench: Bench, machine: GuestMachine, _sources: Sources) -> None:
        bench.existing()
        await bench.passes(15)
        token = (await output(bench.guests.existing, "cat /var/lib/rancher/k3s/server/token")).strip()
        address = bench.network.outside(1)
        await fetch_script(bench, machine)
        env = environment(bench, INSTALL_K3S_SKIP_START="false", K3S_URL=f"https://{address}:6443", K3S_TOKEN=token)
        await output(machine, f"{env} sh /root/install.sh")
        assert await output(machine, "systemctl is-active k3s-agent") == "active\n"
        await output(machine, "k3s-agent-uninstall.sh")
        for path in (
            "/usr/local/bin/k3s",
            "/etc/rancher/k3s",
            "/var/lib/rancher/k3s",
            "/usr/local/bin/k3s-agent-uninstall.sh",
        ):
            assert not machine.files.exists(path), path
        assert machine.files.exists("/etc/rancher/node/password")
        assert (await shell(machine, "systemctl status k3s-agent")).exit_code == 4

    play_with_sources(tmp_path, scenario)


def test_script_cut_short_installs_nothing(tmp_path: Path) -> None:
    async def scenario(bench: Bench, machine: GuestMachine, _sources: Sources) -> None:
        half = INSTALL_SCRIPT[: len(INSTALL_SCRIPT) - 40]
        machine.files.provide("/root/install.sh", half.encode())
        result = await shell(machine, f"{environment(bench)} sh /root/install.sh")
        assert result.exit_code != 0
        assert not machine.files.exists("/usr/local/bin/k3s")

    play_with_sources(tmp_path, scenario)


def test_script_says_outside_the_lab_that_it_is_a_stand_in(tmp_path: Path) -> None:
    async def scenario(bench: Bench, _machine: GuestMachine, _sources: Sources) -> None:
        result = await shell(bench.node, "sh -s", stdin=INSTALL_SCRIPT.encode())
        assert result.exit_code == 1
        assert b"works only in guests of pvelab" in result.err

    play_with_sources(tmp_path, scenario)
