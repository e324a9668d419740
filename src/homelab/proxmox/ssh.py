"""The SSH wire: a node's own commands, run as root."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from homelab import json_text
from homelab.errors import Refused, TimedOut, Undecided, Unreachable
from homelab.models import Wire
from homelab.proxmox import remote_files
from homelab.proxmox.answers import misunderstood
from homelab.proxmox.commands import Command, command_for
from homelab.proxmox.refusals import refusal, undecided
from homelab.proxmox.transport import Params, Upload
from homelab.shell import Readable, Result, Shell

NOT_FOUND = 127
ABSOLUTE = re.compile(r"/[\x20-\x7e]+")


class Ssh:
    """One node over SSH. `user` other than root goes through `sudo -n`. Thread-safe."""

    def __init__(self, node: str, shell: Shell, user: str) -> None:
        """`node` is the name that the machine must have; empty where that is still to be learned."""
        self._node = node
        self._shell = shell
        self._user = user
        self._is_known = False

    @property
    def wire(self) -> Wire:
        return Wire.SSH

    def connect(self) -> None:
        """Log in, and for another user than root see once that sudo works; raises Unreachable."""
        self._shell.connect()
        if self._user != "root":
            self._check()

    def run(self, command: Sequence[str], *, stdin: bytes | Readable | None = None, timeout_s: float = 30) -> Result:
        """Run one command as root on the node meant; its words arrive as they are.

        Raises as Shell.run, and Unreachable without sudo or on another machine: a node's commands act on that node
        alone, and at a wrong address would act on another's VMs.
        """
        self._check()
        return self._shell.run(self._as_root(command), stdin=stdin, timeout_s=timeout_s)

    def _check(self) -> None:
        """See, once, that root's rights are there and that this is the node meant."""
        if self._is_known:
            return
        result = self._shell.run(self._as_root(["hostname"]), timeout_s=10)
        if result.exit_code != 0:
            raise Unreachable(
                f"root on node {self._node}",
                f"{self._user} cannot use sudo there: {result.stderr.strip()}",
                f"on the node: echo '{self._user} ALL=(root) NOPASSWD: ALL' > /etc/sudoers.d/{self._user}; "
                "or set SSH_USER=root",
            )
        name = result.stdout.strip().partition(".")[0]
        if self._node and name != self._node:
            why = f"the machine at {self._shell.where} is {name}"
            raise Unreachable(f"SSH to node {self._node}", why, "set NODE_HOST_n to the node's own address")
        self._is_known = True

    def _as_root(self, command: Sequence[str]) -> list[str]:
        return list(command) if self._user == "root" else ["sudo", "-n", *command]

    def call(self, method: str, path: str, params: Params | None = None, *, timeout_s: float = 30) -> Any:
        """One request by a command that waits for its task; a read that was cut off is made once more.

        A UPID comes back only from pvesh, whose exit code says nothing about the task.
        """
        values = dict(params or {})
        what = f"{method} {path} at {self._shell.where}"
        if method == "GET":
            return self._read(what, command_for(method, path, values), timeout_s)
        password = values.pop("cipassword", None)
        is_password_only = password is not None and not values.keys() - {"digest"}
        answer = None if is_password_only else self._write_with_keys(what, method, path, values, timeout_s)
        if password is not None:
            vmid = str(values.get("vmid") or path.split("/")[4])
            seen = ("--digest", str(values["digest"])) if is_password_only and values else ()
            typed = f"{password}\n{password}\n".encode()
            self._write(what, Command(("qm", "set", vmid, *seen, "--cipassword"), self._node), typed, timeout_s)
        return answer

    def put_file(self, upload: Upload) -> str:
        """Stream a file into a storage's directory: under another name, checked by size and sha256, then renamed."""
        remote_files.place_upload(self, self.path_of(upload.volume), upload)
        return upload.volume

    def write_file(self, path: str, content: bytes) -> None:
        remote_files.place_bytes(self, path, content)

    def path_of(self, volume: str) -> str:
        result = self.run(["pvesm", "path", volume])
        if result.exit_code != 0:
            raise _refused(f"pvesm path {volume} at {self._shell.where}", result)
        path = result.stdout.strip()
        if not ABSOLUTE.fullmatch(path):
            raise misunderstood(f"pvesm path {volume} at {self._shell.where}", f"it printed no path but {path[:80]!r}")
        return path

    def _read(self, what: str, command: Command, timeout_s: float) -> Any:
        """Any member answers for the whole cluster, so it does not matter here whether this is the node meant."""
        self.connect()
        words = self._as_root(command.argv)
        try:
            try:
                result = self._shell.run(words, timeout_s=timeout_s)
            except Undecided:
                result = self._shell.run(words, timeout_s=timeout_s)
        except (Undecided, TimedOut) as error:
            raise Unreachable(what, error.why, error.cure) from error
        if result.exit_code != 0:
            raise _refused(what, result)
        return _json(what, result.raw_stdout)

    def _write_with_keys(self, what: str, method: str, path: str, values: dict[str, Any], timeout_s: float) -> Any:
        """`--sshkeys` takes a file where the API takes the encoded text."""
        if "sshkeys" not in values:
            return self._write(what, command_for(method, path, values), None, timeout_s)
        with remote_files.temporary(self, unquote(str(values["sshkeys"])).encode()) as file:
            return self._write(what, command_for(method, path, {**values, "sshkeys": file}), None, timeout_s)

    def _write(self, what: str, command: Command, typed: bytes | None, timeout_s: float) -> Any:
        """Run a command that changes something; what comes of it is for the caller to look at."""
        if command.node not in ("", self._node):
            raise Unreachable(what, f"that is a matter of node {command.node}", f"give NODE_HOST_n of {command.node}")
        try:
            result = self.run(command.argv, stdin=typed, timeout_s=timeout_s)
        except TimedOut as error:
            raise Undecided(what, error.why, error.cure) from error
        if result.exit_code != 0 and (result.is_inconclusive or not _said(result)):
            raise undecided(what, result)
        if result.exit_code != 0 or (command.fails_silently and not result.stdout.strip() and _said(result)):
            raise _refused(what, result)
        return _json(what, result.raw_stdout) if command.prints_json else None


def _json(what: str, printed: bytes) -> Any:
    """The JSON that a command printed, after whatever a task said before it."""
    if not printed.strip():
        return None
    last = printed.strip().splitlines()[-1]
    for candidate in (printed, last):
        with suppress(ValueError):
            return json_text.read(candidate)
    raise misunderstood(what, f"it printed no JSON but {last[:80].decode(errors='replace')!r}")


USAGE = re.compile(r"^(?:qm|pvesh|pvesm) [a-z]")
PERL_LOCALE = re.compile(r"^(?:perl: warning: |\t|    )")
STATUS = re.compile(r"^(?P<status>4\d\d|5\d\d) (?P<text>.*)")


def _said(result: Result) -> list[str]:
    """What standard error says, without Perl's worries about the locale and the lines on usage."""
    lines = [line for line in result.stderr.splitlines() if line.strip() and not PERL_LOCALE.match(line)]
    return [line for line in dict.fromkeys(lines) if not USAGE.match(line)]


def _refused(what: str, result: Result) -> Refused:
    """Read standard error as the API would have answered."""
    said = _said(result)
    if result.exit_code == NOT_FOUND or not said:
        why = f"exit code {result.exit_code}: {'; '.join(said) or 'nothing said'}"
        return Refused(what, why, "is this a Proxmox node? set NODE_HOST_n", status=result.exit_code)
    verdict = next((found for found in map(STATUS.match, said) if found), None)
    if verdict is None:
        is_unknown = any("handler defined for" in line for line in said)
        return refusal(what, "; ".join(said), 501 if is_unknown else 500)
    fields = (line.partition(": ") for line in said if not STATUS.match(line))
    errors = {name: text for name, colon, text in fields if colon}
    return refusal(what, verdict["text"], int(verdict["status"]), errors=errors)
