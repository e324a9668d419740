"""What a story is told on: a lab, a user's home with a `.env`, and the commands that the user types."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pvelab.environment import dotenv_text
from pvelab.lab import Lab
from pvelab.state import Token

PROJECT = Path(__file__).resolve().parent.parent
COMMAND_TIMEOUT_S = 120


class PromiseBroken(Exception):
    """The story did not go on as it promises; the text says where."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class VmSeen:
    """A VM as the lab has it; another `created_at` (lab seconds) under the same VMID is another VM."""

    vmid: int
    created_at: float
    started_at: float
    state: str


Runner = Callable[[Sequence[str], Mapping[str, str]], Ended]
Show = Callable[[str], None]


@dataclass(slots=True)
class Stage:
    """A lab and its user. `via` is what the user gives as --via, None for nothing."""

    lab: Lab
    folder: Path
    via: str | None
    run: Runner
    show: Show
    variables: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    env_path: Path = field(init=False)

    def __post_init__(self) -> None:
        self.env_path = self.folder / ".env"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def begin(self, seed: str) -> None:
        """Put the lab and the user's `.env` back to the state of a seed."""
        self.lab.reset(seed=seed)
        self.env = dict(self.lab.env)
        self._write_env()
        keys = self.home / ".ssh"
        keys.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.env["SSH_KEY_PATH"], keys / "id_rsa")
        shutil.copy(self.env["SSH_PUBKEY_PATH"], keys / "id_rsa.pub")

    def narrate(self, sentence: str) -> None:
        """Say what happens between two commands."""
        self.show(f"\n# {sentence}")

    def change_env(self, **changes: str | None) -> None:
        """Edit the user's `.env`: set these keys, or remove those given as None."""
        for key, value in changes.items():
            if value is None:
                self.env.pop(key, None)
                self.show(f"# .env: {key} removed")
            else:
                self.env[key] = value
                self.show(f"# .env: {key}={value}")
        self._write_env()

    def accept_token(self, text: str) -> None:
        """Let the cluster know the API token that stands in a `.env` as USER!NAME=SECRET."""
        user, _, rest = text.partition("!")
        name, _, secret = rest.partition("=")
        token = Token(user, name, secret, is_separated=False)
        self.lab.look(lambda world: world.tokens.update({token.tokenid: token}))

    def homelab(self, *arguments: str, exit_code: int = 0, says: Sequence[str] = ()) -> Ended:
        """Run the main job; it has to end in `exit_code` and to say each of `says`."""
        wire = () if self.via is None else ("--via", self.via)
        command = (sys.executable, "-m", "homelab.main", "--env", str(self.env_path), *wire, *arguments)
        return self._command(command, exit_code, says)

    def delete_vm(self, node: str, vmid: int, *arguments: str, exit_code: int = 0) -> Ended:
        """Run scripts/delete_vm.py."""
        script = str(PROJECT / "scripts" / "delete_vm.py")
        wire = () if self.via is None else ("--via", self.via)
        command = (sys.executable, script, "--env", str(self.env_path), *wire, *arguments, node, str(vmid))
        return self._command(command, exit_code, ())

    def promise(self, is_kept: bool, sentence: str) -> None:
        """Show that this came true, or end the story."""
        if not is_kept:
            raise PromiseBroken(sentence)
        self.show(f"# ok: {sentence}")

    def vms(self) -> dict[str, VmSeen]:
        """The VMs by node."""
        return self.lab.look(
            lambda world: {vm.node: VmSeen(vm.vmid, vm.created_at, vm.started_at, vm.qmp) for vm in world.vms.values()}
        )

    def members(self) -> dict[str, bool]:
        """The k3s cluster's nodes by name, and whether each is Ready."""
        clusters = self.lab.snapshot()["k3s"]
        if len(clusters) != 1:
            raise PromiseBroken("nobody founded a second k3s cluster")
        return {name: node["ready"] for name, node in clusters[0]["nodes"].items()}

    def _command(self, command: Sequence[str], exit_code: int, says: Sequence[str]) -> Ended:
        self.show(f"\n$ {shlex.join(word.removeprefix(f'{PROJECT}/') for word in command)}")
        state = self.folder / "state"
        ended = self.run(command, {"HOME": str(self.home), "XDG_STATE_HOME": str(state), **self.variables})
        self.show(f"exit code {ended.exit_code}")
        self.promise(ended.exit_code == exit_code, f"the exit code is {exit_code}")
        for phrase in says:
            self.promise(phrase in ended.stdout + ended.stderr, f"it says `{phrase}`")
        return ended

    def _write_env(self) -> None:
        self.env_path.touch(mode=0o600)
        self.env_path.write_text(dotenv_text(self.env))


def run_as_process(command: Sequence[str], variables: Mapping[str, str]) -> Ended:
    """Run a command in the project's folder with nothing of the caller's settings, and show its output as it comes."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TERM", "TMPDIR") if name in os.environ}
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=kept | dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said: dict[str, list[str]] = {"stdout": [], "stderr": []}
    readers = [
        threading.Thread(target=_pass_on, args=(getattr(process, name), getattr(sys, name), said[name]))
        for name in said
    ]
    for reader in readers:
        reader.start()
    try:
        exit_code = process.wait(COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise PromiseBroken(f"the command has not ended after {COMMAND_TIMEOUT_S} s") from None
    finally:
        for reader in readers:
            reader.join()
    return Ended(exit_code, "".join(said["stdout"]), "".join(said["stderr"]))


def _pass_on(source: IO[str], screen: IO[str], said: list[str]) -> None:
    with source:
        for line in source:
            said.append(line)
            screen.write(line)
            screen.flush()
