"""One server of the cluster, asked and told by commands on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homelab.errors import Misunderstood, NodeFailed, Refused
from homelab.k3s_manager import authority, flags
from homelab.k3s_manager.answers import EtcdMember, parse_members, parse_nodes
from homelab.k3s_manager.redaction import masked
from homelab.k3s_manager.remote import Remote
from homelab.models import K3sNode
from homelab.shell import Result

CONFIG_FILE = "/etc/rancher/k3s/config.yaml"
DROP_INS = f"{CONFIG_FILE}.d"
API = "https://127.0.0.1:6443"
CACERTS = f"curl -sfk --max-time 10 {API}/cacerts"
NODES = "sudo -n k3s kubectl get nodes -o json --request-timeout=10s"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says at once: what it calls itself, its cluster's CA as it is served, and all Nodes."""

    host_name: str
    authority_pem: str
    nodes: tuple[K3sNode, ...]


@dataclass(frozen=True, slots=True)
class K3sServer:
    """One server of the cluster. `address` is where others reach it; `where` names the login in errors."""

    remote: Remote
    address: str

    @property
    def where(self) -> str:
        return self.remote.where

    def look(self) -> Answer:
        """All in one command; raises Misunderstood where a part of it is not said.

        Source: GET /cacerts, which needs no authentication; kubectl get nodes -o json.
        """
        said = self.run(["sh", "-c", f"hostname; {CACERTS}; {NODES}"], shown=NODES).raw_stdout
        begins_at = max(said.find(b"{"), 0)
        host_name, _, authority_pem = said[:begins_at].decode(errors="replace").partition("\n")
        return Answer(host_name.strip(), self._shown(authority_pem), parse_nodes(said[begins_at:], self.where))

    def nodes(self) -> tuple[K3sNode, ...]:
        """All Node objects. Source: kubectl get nodes -o json."""
        return parse_nodes(self.run(NODES.split()).raw_stdout, self.where)

    def authority_pem(self) -> str:
        """The cluster's CA as it is served without authentication. Source: GET /cacerts."""
        return self._shown(self.run(CACERTS.split()).stdout)

    def _shown(self, authority_pem: str) -> str:
        """The CA, if it is one; raises Misunderstood: a server that shows none may be of any cluster."""
        if not authority.fingerprints(authority_pem):
            raise Misunderstood(
                f"{self.where}: the k3s server shows no CA",
                f"{API}/cacerts gives no certificate there, so it cannot be told of which cluster it is",
                f"look at it: {self.remote.login} 'curl -sk {API}/cacerts'; is curl there, and k3s active?",
            )
        return authority_pem

    def shared_flags(self) -> dict[str, object]:
        """Settings that must be equal on all servers: this one's config.yaml, its drop-ins, the flags of its unit."""
        paths = [CONFIG_FILE, *(f"{DROP_INS}/{name}" for name in self._drop_ins())]
        files = {f"{self.where}: {path}": text for path in paths if (text := self._file(path)) is not None}
        unit = self.remote.run(["systemctl", "cat", "k3s"])
        return flags.shared(files, unit.stdout if unit.exit_code == 0 else "")

    def _drop_ins(self) -> list[str]:
        """Names in config.yaml.d, in the order in which k3s reads them; none where there is no such folder."""
        listed = self.remote.run(["sudo", "-n", "ls", DROP_INS])
        self.check_sudo(listed.stderr)
        return sorted(name for name in listed.stdout.split() if name.endswith((".yaml", ".yml")))

    def _file(self, path: str) -> str | None:
        """A file's text, None if there is none; raises Refused when it cannot be read."""
        result = self.remote.run(["sudo", "-n", "cat", path])
        if result.exit_code == 0:
            return result.stdout
        if "No such file" in result.stderr:
            return None
        raise Refused(f"{self.where}: {path} cannot be read", last_line(result.stderr), status=1)

    def etcd_members(self) -> tuple[EtcdMember, ...]:
        """All members of etcd. Source: GET /db/info on the server itself."""
        listed = self.run(["sudo", "-n", "curl", "-sfk", "--max-time", "10", f"{API}/db/info"])
        return parse_members(listed.raw_stdout, self.where)

    def time_s(self) -> float:
        """Its clock, in Unix seconds; raises ValueError where it says none."""
        return float(self.run(["date", "+%s"]).stdout)

    def delete_node(self, name: str, timeout_s: int = 120) -> None:
        """Delete the Node; for a server, k3s takes its etcd member out before the Node goes."""
        self.kubectl("delete", "node", name, "--ignore-not-found", f"--timeout={timeout_s}s", timeout_s=timeout_s + 15)

    def delete_password(self, name: str) -> None:
        """Delete what would refuse a new machine of the same name."""
        self.kubectl("-n", "kube-system", "delete", "secret", f"{name}.node-password.k3s".lower(), "--ignore-not-found")

    def check_sudo(self, stderr: str) -> None:
        """Raise NodeFailed if that is why a command failed."""
        if "sudo: a password is required" in stderr or "sudo: a terminal is required" in stderr:
            raise NodeFailed(
                "the k3s join token cannot be read, nor the cluster asked",
                f"{self.where}: sudo wants a password",
                "allow it on the server K3S_EXISTING_NODE_IP: "
                f"echo '{self.where.partition('@')[0]} ALL=(ALL) NOPASSWD:ALL' | sudo tee /etc/sudoers.d/90-homelab",
            )

    def label_node(self, name: str, labels: Sequence[str]) -> None:
        """Give a Node labels (key=value), whatever it bore before."""
        self.kubectl("label", "node", name, *labels, "--overwrite")

    def kubectl(self, *words: str, timeout_s: float = 30) -> Result:
        """What kubectl says. Raises Refused as `run` does."""
        return self.run(["sudo", "-n", "k3s", "kubectl", *words, "--request-timeout=10s"], timeout_s=timeout_s)

    def run(self, command: Sequence[str], timeout_s: float = 30, shown: str = "") -> Result:
        """What a command says. Raises Refused, with its words (or with those `shown`), when it ends with an error."""
        result = self.remote.run(command, timeout_s=timeout_s)
        self.check_sudo(result.stderr)
        if result.exit_code:
            line = shown or " ".join(command)
            raise Refused(
                f"k3s on {self.where} does not do what it is asked",
                f"{line}: exit code {result.exit_code}: {masked(last_line(result.stderr or result.stdout))}",
                f"try it by hand: {self.remote.login} '{line}'",
                status=result.exit_code,
            )
        return result


def last_line(text: str) -> str:
    """The last line of what a command said that is not blank."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "(no message)"
