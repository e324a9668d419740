"""Installs k3s on one guest: config first, a checked script, and a start that is never waited for blindly."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from homelab.errors import HomelabError, NodeFailed
from homelab.k3s_manager import flags
from homelab.k3s_manager.placing import Place, put
from homelab.k3s_manager.redaction import masked
from homelab.k3s_manager.release import Releases
from homelab.settings import K3sConfig, Role, Secret
from homelab.shell import Result, Shell

SCRIPT = "/var/lib/homelab/install-k3s.sh"
CONFIG = "/etc/rancher/k3s/config.yaml"
ENVIRONMENT_FILES = ("/etc/default/{unit}", "/etc/sysconfig/{unit}", "/etc/systemd/system/{unit}.service.env")
"""What systemd gives k3s as its environment. Source: the unit that install.sh of k3s writes."""
JOINING = re.compile(r"\s*(?:export\s+)?K3S_(?:URL|TOKEN|TOKEN_FILE)\s*=")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INSTALL_TIMEOUT_S = 600
NOT_DOWNLOADED = ("Download failed", "Download sha256 does not match", "Can not find curl or wget")
"""What the install script says where the machine cannot have k3s by itself. Source: install.sh of k3s."""


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


def install(shell: Shell, order: JoinOrder, k3s: K3sConfig, releases: Releases) -> str:
    """Write config.yaml (0600), run the saved install script with the version of the cluster, start the service.

    k3s is brought to a machine that cannot download it. Returns when the service was started, as `restart` does. The
    token goes through standard input into the file; it is in no argument and no unit.
    """
    put(shell, Place(CONFIG), config_text(order).encode())
    script = order.script.encode()
    put(shell, Place(SCRIPT, sha256=hashlib.sha256(script).hexdigest()), script)
    is_brought = releases.is_brought
    if is_brought:
        releases.bring(shell, order.name, order.version)
    result = _run_script(shell, _variables(order, k3s, is_brought=is_brought))
    if not is_brought and any(words in result.stderr for words in NOT_DOWNLOADED):
        try:
            releases.bring(shell, order.name, order.version)
        except HomelabError as error:
            raise _failed(shell, order, result, f"; nor can k3s be brought from here: {error}") from error
        result = _run_script(shell, _variables(order, k3s, is_brought=True))
    if result.exit_code:
        raise _failed(shell, order, result)
    return restart(shell, order.unit)


def _run_script(shell: Shell, variables: Sequence[str]) -> Result:
    """With nothing of the machine's own environment: a K3S_* or proxy there would go into the unit's."""
    words = ["sudo", "-n", "env", "-i", f"PATH={PATH}", *variables, "sh", SCRIPT]
    return shell.run(words, timeout_s=INSTALL_TIMEOUT_S)


def _failed(shell: Shell, order: JoinOrder, result: Result, more: str = "") -> NodeFailed:
    return NodeFailed(
        f"{order.name}: the k3s install script failed",
        f"exit code {result.exit_code}: {masked(result.stderr or result.stdout).strip()[-400:]}{more}",
        f"run it by hand to see why: {shell.machine.login} 'sudo sh {SCRIPT}'; check K3S_INSTALL_URL, K3S_ARTIFACT_URL",
    )


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

    Returns when that was, as `restart` does. Raises NodeFailed rather than write over settings that cannot be read.
    """
    settings = flags.document(CONFIG, _text_of(shell, CONFIG))
    settings.update({"server": order.server_url, "token": order.token.reveal(), "node-name": order.name})
    settings.pop("token-file", None)
    put(shell, Place(CONFIG), yaml.safe_dump(settings, sort_keys=False).encode())
    _forget_earlier_join(shell, order.unit)
    return restart(shell, order.unit)


def _forget_earlier_join(shell: Shell, unit: str) -> None:
    """Take out of the service's environment where and with what it was once to join; the rest of it stays.

    K3S_TOKEN_FILE would win over the token in config.yaml, and the others where that does not name them.
    """
    for path in (file.format(unit=unit) for file in ENVIRONMENT_FILES):
        lines = _text_of(shell, path).splitlines(keepends=True)
        kept = [line for line in lines if not JOINING.match(line)]
        if kept != lines:
            put(shell, Place(path), "".join(kept).encode())


def _text_of(shell: Shell, path: str) -> str:
    """Empty where there is no such file; raises NodeFailed where it cannot be read."""
    result = shell.run(["sudo", "-n", "cat", path])
    if result.exit_code and "No such file" not in result.stderr:
        raise NodeFailed(
            f"{shell.where}: {path} cannot be read",
            masked(result.stderr).strip()[-300:],
            f"look at it: {shell.machine.login} 'sudo cat {path}'; then run again",
        )
    return result.stdout


def disable(shell: Shell, unit: str) -> None:
    """Stop a service for good, as far as it is there."""
    shell.run(["sudo", "-n", "systemctl", "disable", "--now", unit], timeout_s=60)


def remove_unit(shell: Shell, unit: str) -> None:
    """Take away the service of a role that a machine was to have and never had: two of them would fight."""
    disable(shell, unit)
    file = f"/etc/systemd/system/{unit}.service"
    for words in (["rm", "-f", file, f"{file}.env"], ["systemctl", "daemon-reload"]):
        shell.run(["sudo", "-n", *words], timeout_s=60)


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
        flags_in_words = {
            key: value.reveal() if isinstance(value, Secret) else value for key, value in order.shared_flags.items()
        }
        document.update(flags_in_words)
    return yaml.safe_dump(document, sort_keys=False)


def _variables(order: JoinOrder, k3s: K3sConfig, *, is_brought: bool) -> list[str]:
    return [
        f"INSTALL_K3S_EXEC={order.role.value}",
        f"INSTALL_K3S_VERSION={order.version}",
        "INSTALL_K3S_SKIP_START=true",
        "INSTALL_K3S_SKIP_SELINUX_RPM=true",
        *(["INSTALL_K3S_SKIP_DOWNLOAD=true"] if is_brought else _source(k3s.artifact_url or "")),
    ]


def _source(url: str) -> list[str]:
    """Where the script takes k3s from; those before 2026 know GITHUB_URL, to which they add /download."""
    older = url.removesuffix("/download")
    new = [f"INSTALL_K3S_ARTIFACT_URL={url}"] if url else []
    return [*new, f"GITHUB_URL={older}"] if older != url else new
