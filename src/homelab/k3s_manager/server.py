"""The existing k3s server, asked and told over SSH."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from homelab.errors import Misunderstood, NodeFailed, Refused
from homelab.k3s_manager import flags
from homelab.k3s_manager.answers import parse_members, parse_nodes
from homelab.models import K3sNode
from homelab.settings import Secret
from homelab.shell import Result, Shell

TOKEN_FILE = "/var/lib/rancher/k3s/server/node-token"
AGENT_TOKEN_FILE = "/var/lib/rancher/k3s/server/agent-token"
CONFIG_FILE = "/etc/rancher/k3s/config.yaml"
DROP_INS = f"{CONFIG_FILE}.d"
API = "https://127.0.0.1:6443"
FULL_TOKEN = re.compile(r"K10([0-9a-f]{64})::\S+")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Full tokens (`K10<hash of the CA>::...`). Only a server may have that of servers: it opens the whole cluster."""

    server: Secret
    agent: Secret


@dataclass(frozen=True, slots=True)
class K3sServer:
    """One server of the cluster. `address` is K3S_EXISTING_NODE_IP; `where` names the login in errors."""

    shell: Shell
    address: str

    @property
    def where(self) -> str:
        return self.shell.where

    def host_name(self) -> str:
        """What the machine calls itself."""
        return self._run(["hostname"]).stdout.strip()

    def nodes(self) -> tuple[K3sNode, ...]:
        """All Node objects. Source: kubectl get nodes -o json."""
        return parse_nodes(self._kubectl("get", "nodes", "-o", "json").raw_stdout, self.where)

    def tokens(self) -> Tokens:
        """Both join tokens, each checked against the CA that the server shows."""
        files = (TOKEN_FILE, AGENT_TOKEN_FILE)
        result = self.shell.run(["sudo", "-n", "cat", *files])
        self._check_sudo(result.stderr)
        if result.exit_code:
            raise Refused(
                "the k3s join token cannot be read",
                f"{self.where}: {_last_line(result.stderr)}",
                f"try: {self.shell.machine.login} 'sudo -n cat {' '.join(files)}'; "
                "the user needs sudo without a password, and K3S_EXISTING_NODE_IP has to be a k3s server",
                status=result.exit_code,
            )
        lines = [*result.stdout.splitlines(), "", ""]
        ca_sha256 = self.ca_sha256()
        server, agent = (self._checked(file, line, ca_sha256) for file, line in zip(files, lines, strict=False))
        return Tokens(server, agent)

    def _checked(self, file: str, line: str, ca_sha256: str) -> Secret:
        """The token in a line; raises unless it is one of the cluster with this CA."""
        match = FULL_TOKEN.fullmatch(line.strip())
        if not match:
            raise Misunderstood(
                "the k3s join token is not understood",
                f"{self.where}: {file} does not hold a token of the form K10<hash>::...",
                "look at the file on the server; a full token is needed, so that the cluster's CA can be checked",
            )
        if match[1] != ca_sha256:
            raise Refused(
                "the k3s join token belongs to another cluster",
                f"{self.where}: the token's CA hash is not that of the CA at {API}",
                "check K3S_EXISTING_NODE_IP; on that server: k3s token rotate, or restart k3s",
                status=0,
            )
        return Secret(match[0])

    def ca_sha256(self) -> str:
        """SHA-256 of the cluster's CA as served without authentication. Source: GET /cacerts."""
        served = self._run(["curl", "-sfk", "--max-time", "10", f"{API}/cacerts"])
        return hashlib.sha256(served.raw_stdout).hexdigest()

    def shared_flags(self) -> dict[str, object]:
        """Settings that must be equal on all servers: this one's config.yaml, its drop-ins, the flags of its unit."""
        paths = [CONFIG_FILE, *(f"{DROP_INS}/{name}" for name in self._drop_ins())]
        files = {f"{self.where}: {path}": text for path in paths if (text := self._file(path)) is not None}
        unit = self.shell.run(["systemctl", "cat", "k3s"])
        return flags.shared(files, unit.stdout if unit.exit_code == 0 else "")

    def _drop_ins(self) -> list[str]:
        """Names in config.yaml.d, in the order in which k3s reads them; none where there is no such folder."""
        listed = self.shell.run(["sudo", "-n", "ls", DROP_INS])
        self._check_sudo(listed.stderr)
        return sorted(name for name in listed.stdout.split() if name.endswith((".yaml", ".yml")))

    def _file(self, path: str) -> str | None:
        """A file's text, None if there is none; raises Refused when it cannot be read."""
        result = self.shell.run(["sudo", "-n", "cat", path])
        if result.exit_code == 0:
            return result.stdout
        if "No such file" in result.stderr:
            return None
        raise Refused(f"{self.where}: {path} cannot be read", _last_line(result.stderr), status=1)

    def etcd_members(self) -> tuple[str, ...]:
        """Names of the etcd members (`<node>-<8 hex>`). Source: GET /db/info on the server itself."""
        listed = self._run(["sudo", "-n", "curl", "-sfk", "--max-time", "10", f"{API}/db/info"])
        return parse_members(listed.raw_stdout, self.where)

    def delete_node(self, name: str, timeout_s: int = 120) -> None:
        """Delete the Node; for a server, k3s takes its etcd member out before the Node goes."""
        self._kubectl("delete", "node", name, "--ignore-not-found", f"--timeout={timeout_s}s", timeout_s=timeout_s + 15)

    def delete_password(self, name: str) -> None:
        """Delete what would refuse a new machine of the same name."""
        self._kubectl(
            "-n", "kube-system", "delete", "secret", f"{name}.node-password.k3s".lower(), "--ignore-not-found"
        )

    def _check_sudo(self, stderr: str) -> None:
        if "sudo: a password is required" in stderr or "sudo: a terminal is required" in stderr:
            raise NodeFailed(
                "the k3s join token cannot be read, nor the cluster asked",
                f"{self.where}: sudo wants a password",
                "allow it on the server K3S_EXISTING_NODE_IP: "
                f"echo '{self.shell.machine.user} ALL=(ALL) NOPASSWD:ALL' | sudo tee /etc/sudoers.d/90-homelab",
            )

    def _kubectl(self, *words: str, timeout_s: float = 30) -> Result:
        return self._run(["sudo", "-n", "k3s", "kubectl", *words, "--request-timeout=10s"], timeout_s=timeout_s)

    def _run(self, command: Sequence[str], timeout_s: float = 30) -> Result:
        result = self.shell.run(command, timeout_s=timeout_s)
        self._check_sudo(result.stderr)
        if result.exit_code:
            raise Refused(
                f"k3s on {self.where} does not do what it is asked",
                f"{' '.join(command)}: exit code {result.exit_code}: {_last_line(result.stderr or result.stdout)}",
                f"try it by hand: {self.shell.machine.login} '{' '.join(command)}'",
                status=result.exit_code,
            )
        return result


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "(no message)"
