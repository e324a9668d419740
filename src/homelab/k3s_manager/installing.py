"""Installs k3s on one guest: config first, a checked script, and a start that is never waited for blindly."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from homelab.errors import NodeFailed
from homelab.k3s_manager import flags
from homelab.settings import K3sConfig, Role, Secret
from homelab.shell import Shell

SCRIPT = "/var/lib/homelab/install-k3s.sh"
CONFIG = "/etc/rancher/k3s/config.yaml"
INSTALL_TIMEOUT_S = 600
TOKEN_LIKE = re.compile(r"K10[0-9a-f]{64}::\S+|\b[a-z0-9]{6}\.[a-z0-9]{16}\b|(?<=-token[ =])\S+")


@dataclass(frozen=True, slots=True)
class JoinOrder:
    """What a guest needs to join: where, with what, as what. `labels` are key=value."""

    name: str
    role: Role
    server_url: str
    token: Secret
    version: str
    script: str
    shared_flags: dict[str, object]
    labels: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        return "k3s" if self.role is Role.SERVER else "k3s-agent"


def install(shell: Shell, order: JoinOrder, k3s: K3sConfig) -> str:
    """Write config.yaml (0600), run the saved install script with the version of the cluster, start the service.

    Returns when that was, as `restart` does. The token goes through standard input into the file; it is in no
    argument and no unit.
    """
    write_file(shell, CONFIG, config_text(order))
    write_file(shell, SCRIPT, order.script)
    result = shell.run(
        ["sudo", "-n", "env", *_variables(order, k3s), "sh", SCRIPT],
        timeout_s=INSTALL_TIMEOUT_S,
    )
    if result.exit_code:
        raise NodeFailed(
            f"{order.name}: the k3s install script failed",
            f"exit code {result.exit_code}: {masked(result.stderr or result.stdout).strip()[-400:]}",
            f"run it by hand to see why: {shell.machine.login} 'sudo sh {SCRIPT}'; "
            "check K3S_INSTALL_URL, K3S_ARTIFACT_URL",
        )
    return restart(shell, order.unit)


def restart(shell: Shell, unit: str) -> str:
    """Enable and restart a service without waiting for it (its start blocks until a server answers).

    Returns when that was by the guest's own clock, as journalctl takes it.
    """
    since = shell.run(["date", "+@%s.%N"]).stdout.strip()
    for words in (["enable", unit], ["restart", "--no-block", unit]):
        result = shell.run(["sudo", "-n", "systemctl", *words], timeout_s=60)
        if result.exit_code:
            raise NodeFailed(
                f"{shell.where}: {unit} cannot be started",
                masked(result.stderr).strip()[-400:],
                f"{shell.machine.login} 'systemctl status {unit}'",
            )
    return since


def renew_token(shell: Shell, order: JoinOrder) -> str:
    """Give a machine that was a member a new token and the server's address, keep its other settings, and restart it.

    Returns when that was, as `restart` does.
    """
    result = shell.run(["sudo", "-n", "cat", CONFIG])
    settings = flags.document(CONFIG, result.stdout if result.exit_code == 0 else "")
    settings.update({"server": order.server_url, "token": order.token.reveal(), "node-name": order.name})
    settings.pop("token-file", None)
    write_file(shell, CONFIG, yaml.safe_dump(settings, sort_keys=False))
    return restart(shell, order.unit)


def disable(shell: Shell, unit: str) -> None:
    """Stop a service for good, as far as it is there."""
    shell.run(["sudo", "-n", "systemctl", "disable", "--now", unit], timeout_s=60)


def journal(shell: Shell, unit: str, since: str) -> str:
    """The last lines of the service's log from a moment on (what it said earlier may be cured), without tokens."""
    lines = ["-u", unit, "--since", since, "-n", "30", "--no-pager", "-o", "cat"]
    return masked(shell.run(["sudo", "-n", "journalctl", *lines]).stdout)


def config_text(order: JoinOrder) -> str:
    """config.yaml: the server to join (never cluster-init), token, name, labels; on servers the shared settings."""
    document: dict[str, object] = {
        "server": order.server_url,
        "token": order.token.reveal(),
        "node-name": order.name,
    }
    if order.labels:
        document["node-label"] = list(order.labels)
    if order.role is Role.SERVER:
        document.update(order.shared_flags)
    return yaml.safe_dump(document, sort_keys=False)


def write_file(shell: Shell, path: str, text: str) -> None:
    """Put a root-owned 0600 file in place, whole or not at all."""
    folder = path.rpartition("/")[0]
    command = f"umask 077 && mkdir -p {folder} && cat > {path}.new && mv -f {path}.new {path}"
    result = shell.run(["sudo", "-n", "sh", "-c", command], stdin=text.encode(), timeout_s=60)
    if result.exit_code:
        raise NodeFailed(
            f"{shell.where}: {path} cannot be written",
            result.stderr.strip()[-300:],
            "check that the user may sudo without a password, and that the disk is not full",
        )


def _variables(order: JoinOrder, k3s: K3sConfig) -> list[str]:
    source = (
        [f"INSTALL_K3S_ARTIFACT_URL={k3s.artifact_url}", f"GITHUB_URL={k3s.artifact_url}"] if k3s.artifact_url else []
    )
    return [
        f"INSTALL_K3S_EXEC={order.role.value}",
        f"INSTALL_K3S_VERSION={order.version}",
        "INSTALL_K3S_SKIP_START=true",
        "INSTALL_K3S_SKIP_SELINUX_RPM=true",
        *source,
    ]


def masked(text: str) -> str:
    """The text without anything that looks like a join token."""
    return TOKEN_LIKE.sub("***", text)
