"""What k3s's install script does, as seen from outside: downloads, files, units, messages, exit codes."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from pvelab.guest.fetch import Inquiry, NoAnswer, fetch
from pvelab.guest.install_files import KILLALL, uninstall_text, unit_text
from pvelab.guest.install_script import ARTIFACT_URL, CHANNEL_URL
from pvelab.shell.run import run_argv

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine
    from pvelab.machine import Process

_BAD_NAME_CHARACTERS = frozenset("[]!#$%&()*;<=>?\\_`{|}/ \t\n")
_NO_TOKEN = (
    "Defaulted k3s exec command to 'agent' because K3S_URL is defined, but K3S_TOKEN or K3S_TOKEN_FILE is not defined."
)


class Fatal(Exception):
    """The script's `fatal`: exit code 1."""


class Failed(Exception):
    """A command of the script failed under `set -e`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Plan:
    """What the environment and the arguments make of the installation."""

    env: Mapping[str, str]
    command: str
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """The service, without `.service`."""
        own = self.env.get("INSTALL_K3S_NAME")
        return f"k3s-{own}" if own else "k3s" if self.command == "server" else f"k3s-{self.command}"

    @property
    def bin_dir(self) -> str:
        """Where programs go."""
        return self.env.get("INSTALL_K3S_BIN_DIR") or "/usr/local/bin"

    @property
    def unit_path(self) -> str:
        """The unit's file; its environment file has `.env` behind it."""
        return f"{self.env.get('INSTALL_K3S_SYSTEMD_DIR') or '/etc/systemd/system'}/{self.name}.service"

    def is_set(self, name: str) -> bool:
        """Is INSTALL_K3S_name `true`?"""
        return self.env.get(f"INSTALL_K3S_{name}") == "true"


def read_plan(env: Mapping[str, str], arguments: list[str]) -> Plan:
    """Decide on command and name. Raises Fatal."""
    words = shlex.split(env.get("INSTALL_K3S_EXEC", "")) + arguments
    if words and not words[0].startswith("-"):
        command, *words = words
    elif not env.get("K3S_URL"):
        command = "server"
    elif not env.get("K3S_TOKEN") and not env.get("K3S_TOKEN_FILE"):
        raise Fatal(_NO_TOKEN)
    else:
        command = "agent"
    if env.get("K3S_URL") and not env["K3S_URL"].startswith("https://"):
        raise Fatal(f"Only https:// URLs are supported for K3S_URL (have {env['K3S_URL']})")
    plan = Plan(env, command, tuple(words))
    if set(plan.name) & _BAD_NAME_CHARACTERS:
        raise Fatal(f"Invalid characters for system name:\n            {plan.name}")
    return plan


async def install(guest: GuestMachine, process: Process) -> int:
    """Run the installation. Its messages go to standard output, errors to standard error."""
    try:
        plan = read_plan(process.env, process.argv[1:])
        if process.user != "root" and not _may_sudo(guest, process):
            raise Failed(1, "sudo: a password is required")
        await Installation(guest, process, plan).run()
    except Fatal as problem:
        process.complain(f"[ERROR]  {problem}")
        return 1
    except Failed as failed:
        process.complain(str(failed))
        return failed.code
    return 0


def _may_sudo(guest: GuestMachine, process: Process) -> bool:
    account = guest.accounts.get(process.user)
    return bool(account and account.sudo)


class Installation:
    """One run, step by step in the script's own order."""

    def __init__(self, guest: GuestMachine, process: Process, plan: Plan) -> None:
        self._guest = guest
        self._files = guest.files
        self._process = process
        self._plan = plan
        self._binary = f"{plan.bin_dir}/k3s"

    async def run(self) -> None:
        """Raises Fatal, Failed."""
        before = self._hashes()
        await self._download_and_verify()
        self._info("Skipping installation of SELinux RPM")
        self._create_links()
        self._create_scripts()
        self._disable()
        self._create_environment()
        self._create_unit()
        await self._enable_and_start(before)

    def _info(self, text: str) -> None:
        self._process.print(f"[INFO]  {text}")

    def _hashes(self) -> list[str]:
        paths = (self._binary, self._plan.unit_path, f"{self._plan.unit_path}.env")
        return [self._files.content(path).digest() if self._files.is_file(path) else path for path in paths]

    async def _download_and_verify(self) -> None:
        if self._plan.env.get("INSTALL_K3S_SKIP_DOWNLOAD") in ("true", "binary") or self._plan.is_set(
            "BIN_DIR_READ_ONLY"
        ):
            self._info("Skipping k3s download and verify")
            if not self._is_executable():
                raise Fatal(f"Executable k3s binary not found at {self._binary}")
            return
        version = await self._version()
        self._info(f"Using {version} as release")
        base_url = self._base_url(version)
        expected = await self._expected_hash(f"{base_url}/sha256sum-amd64.txt")
        if self._is_executable() and self._files.content(self._binary).digest() == expected:
            self._info("Skipping binary downloaded, installed k3s matches hash")
            return
        self._info(f"Downloading binary {base_url}/k3s")
        content = await self._download(f"{base_url}/k3s")
        self._info("Verifying binary download")
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise Fatal(f"Download sha256 does not match {expected}, got {found}")
        self._info(f"Installing k3s to {self._binary}")
        self._files.provide(self._binary, content, mode=0o755)

    def _is_executable(self) -> bool:
        return self._files.is_file(self._binary) and bool(self._files.entry(self._binary).mode & 0o100)

    async def _version(self) -> str:
        env = self._plan.env
        if env.get("INSTALL_K3S_VERSION"):
            return env["INSTALL_K3S_VERSION"]
        channel = env.get("INSTALL_K3S_CHANNEL") or "stable"
        self._info(f"Finding release for channel {channel}")
        url = f"{env.get('INSTALL_K3S_CHANNEL_URL') or CHANNEL_URL}/{channel}"
        try:
            answer = await fetch(self._guest, Inquiry(url, follow=True))
        except NoAnswer as nothing:
            raise Failed(6, f"curl: (6) Could not resolve host: {url.split('/')[2]}") from nothing
        return answer.url.rsplit("/", 1)[-1]

    def _base_url(self, version: str) -> str:
        env = self._plan.env
        if env.get("GITHUB_URL") and not env.get("INSTALL_K3S_ARTIFACT_URL"):
            return f"{env['GITHUB_URL']}/download/{version}"
        return f"{env.get('INSTALL_K3S_ARTIFACT_URL') or ARTIFACT_URL}/{quote(version, safe='')}"

    async def _expected_hash(self, url: str) -> str:
        self._info(f"Downloading hash {url}")
        lines = (await self._download(url)).decode(errors="replace").splitlines()
        found = [line.split()[0] for line in lines if line.endswith(" k3s")]
        if not found:
            raise Failed(1, "")
        return found[0]

    async def _download(self, url: str) -> bytes:
        try:
            answer = await fetch(self._guest, Inquiry(url, follow=True))
        except NoAnswer as nothing:
            raise Fatal("Download failed") from nothing
        if answer.status >= 400:
            raise Fatal("Download failed")
        return answer.body

    def _create_links(self) -> None:
        if self._plan.is_set("BIN_DIR_READ_ONLY") or self._plan.env.get("INSTALL_K3S_SYMLINK") == "skip":
            return
        for name in ("kubectl", "crictl", "ctr"):
            path = f"{self._plan.bin_dir}/{name}"
            is_there = self._files.exists(path)
            if is_there and self._plan.env.get("INSTALL_K3S_SYMLINK") != "force":
                self._info(f"Skipping {path} symlink to k3s, already exists")
                continue
            self._info(f"Creating {path} symlink to k3s")
            if is_there:
                self._files.remove(path)
            self._files.make_link(path, "k3s")

    def _create_scripts(self) -> None:
        if self._plan.is_set("BIN_DIR_READ_ONLY"):
            return
        killall = f"{self._plan.bin_dir}/k3s-killall.sh"
        uninstall = f"{self._plan.bin_dir}/{self._plan.name}-uninstall.sh"
        self._info(f"Creating killall script {killall}")
        self._files.provide(killall, KILLALL.encode(), mode=0o755)
        self._info(f"Creating uninstall script {uninstall}")
        text = uninstall_text(self._plan.name, self._plan.bin_dir, self._plan.unit_path)
        self._files.provide(uninstall, text.encode(), mode=0o755)

    def _disable(self) -> None:
        self._guest.systemd.disable(f"{self._plan.name}.service")
        for path in (self._plan.unit_path, f"{self._plan.unit_path}.env"):
            if self._files.exists(path):
                self._files.remove(path)

    def _create_environment(self) -> None:
        path = f"{self._plan.unit_path}.env"
        self._info(f"env: Creating environment file {path}")
        kept = [
            f"{name}={shlex.quote(value) if value else chr(39) * 2}\n"
            for name, value in sorted(self._plan.env.items())
            if name.startswith(("K3S_", "CONTAINERD_"))
            or name.upper().startswith(("NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY"))
        ]
        self._files.provide(path, "".join(kept).encode(), mode=0o600)

    def _create_unit(self) -> None:
        self._info(f"systemd: Creating service file {self._plan.unit_path}")
        words = (self._plan.command, *self._plan.arguments)
        kind = self._plan.env.get("INSTALL_K3S_TYPE") or "notify"
        text = unit_text(self._plan.unit_path, self._binary, words, kind)
        self._files.provide(self._plan.unit_path, text.encode(), mode=0o644)

    async def _enable_and_start(self, before: list[str]) -> None:
        if self._plan.is_set("SKIP_ENABLE"):
            return
        self._info(f"systemd: Enabling {self._plan.name} unit")
        await self._systemctl("enable", self._plan.name)
        if self._plan.is_set("SKIP_START"):
            return
        if before == self._hashes() and not self._plan.is_set("FORCE_RESTART"):
            self._info("No change detected so skipping service start")
            return
        self._info(f"systemd: Starting {self._plan.name}")
        await self._process.flush()
        await self._systemctl("restart", self._plan.name)

    async def _systemctl(self, *words: str) -> None:
        result = await run_argv(self._guest, "root", ["systemctl", *words])
        self._process.err += result.err
        if result.exit_code:
            raise Failed(result.exit_code, "")
