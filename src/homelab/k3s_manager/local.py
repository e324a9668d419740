"""What of k3s there is in a VM: its units, and the cluster that it has joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homelab.errors import NodeFailed
from homelab.k3s_manager import authority
from homelab.settings import Role
from homelab.shell import Shell

UNITS = {"k3s": Role.SERVER, "k3s-agent": Role.AGENT}
CA_FILES = ("/var/lib/rancher/k3s/agent/server-ca.crt", "/var/lib/rancher/k3s/server/tls/server-ca.crt")
MEMBER_FILE = "/var/lib/rancher/k3s/server/db/etcd/name"
ON_THE_WAY = frozenset({"active", "activating", "reloading"})


@dataclass(frozen=True, slots=True)
class LocalK3s:
    """`states` are ActiveState by unit, of those that are installed; `authorities` fingerprints of its cluster's CA.

    `member` is what its own etcd calls itself; empty: it has none.
    """

    states: Mapping[str, str]
    authorities: frozenset[str]
    member: str = ""

    @property
    def unit(self) -> str:
        """The one unit that is there; empty: none."""
        return next(iter(self.states), "")

    @property
    def has_joined(self) -> bool:
        """Has it once got a cluster's CA?"""
        return bool(self.states and self.authorities)

    def has_joined_as(self, role: Role) -> bool:
        """Has it, as that?"""
        return self.has_joined and UNITS[self.unit] is role

    @property
    def runs(self) -> bool:
        """Does it run, or try to?"""
        return any(state in ON_THE_WAY for state in self.states.values())


def look(shell: Shell, name: str) -> LocalK3s:
    """Raises NodeFailed where both units are there: at the next boot they would fight; or where that cannot be told."""
    states = _states(shell, name)
    if len(states) > 1:
        raise NodeFailed(
            f"{name}: k3s is there as server and as agent",
            "both units are installed, and would fight for the same ports",
            f"remove the one that it is not: {shell.login} 'sudo systemctl disable --now k3s; "
            "sudo rm /etc/systemd/system/k3s.service' for an agent",
        )
    joined = shell.run(["sudo", "-n", "cat", *CA_FILES])
    member = shell.run(["sudo", "-n", "cat", MEMBER_FILE]).stdout.strip() if "k3s" in states else ""
    return LocalK3s(states, authority.fingerprints(joined.stdout), member)


def _states(shell: Shell, name: str) -> dict[str, str]:
    """ActiveState by unit, of those that are installed."""
    shown = shell.run(["systemctl", "show", "-p", "Id,LoadState,ActiveState", *(f"{unit}.service" for unit in UNITS)])
    if shown.exit_code:
        raise NodeFailed(
            f"{name}: systemd in the VM does not say whether k3s is there",
            shown.stderr.strip()[-300:] or f"systemctl show: exit code {shown.exit_code}",
            f"{shell.login} 'systemctl status'; then run again",
        )
    blocks = [
        dict(line.partition("=")[::2] for line in block.splitlines()) for block in shown.stdout.strip().split("\n\n")
    ]
    return {
        block["Id"].removesuffix(".service"): block["ActiveState"]
        for block in blocks
        if block.get("LoadState", "not-found") != "not-found"
    }


def check_cluster(local: LocalK3s, name: str, ours: frozenset[str], login: str) -> None:
    """Raise NodeFailed if k3s in the VM, or what is left of it, is of another cluster; `ours` are fingerprints."""
    if local.authorities & ours:
        return
    if local.authorities:
        why = "it holds the CA of a cluster that is not the one at K3S_EXISTING_NODE_IP"
    elif "active" in local.states.values():
        why = "it runs, and holds no cluster's CA"
    else:
        return
    raise NodeFailed(
        f"{name}: k3s in the VM belongs to another cluster",
        why,
        f"if it is to join this one: {login} 'sudo k3s-agent-uninstall.sh || sudo k3s-uninstall.sh', then run again; "
        "if it belongs to the other one: NODE_ENABLED_n=0",
    )
