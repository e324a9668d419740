"""Join tokens: read from a server, checked against its CA, and made for one agent each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from homelab.errors import Misunderstood, Refused
from homelab.k3s_manager import authority
from homelab.k3s_manager.server import API, K3sServer, last_line
from homelab.settings import Secret

TOKEN_FILE = "/var/lib/rancher/k3s/server/node-token"
AGENT_TOKEN_FILE = "/var/lib/rancher/k3s/server/agent-token"
FULL_TOKEN = re.compile(r"K10([0-9a-f]{64})::\S+")
BOOTSTRAP_TTL = "20m"
"""Longer than an agent is given to be installed and to become Ready."""
BOOTSTRAP_FROM = (1, 28)
"""From here on every release takes an agent's kubelet certificate for a restart, and its token only where its Node is
gone. Source: k3s pull request 6663, issue 7797."""


Hide = Callable[[Secret], None]
"""Takes note of what is never to be shown."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Full tokens (`K10<hash of the CA>::...`). Only a server may have that of servers: it opens the whole cluster."""

    server: Secret
    agent: Secret


def read(server: K3sServer, authority_pem: str, hide: Hide) -> Tokens:
    """Both lasting tokens, each checked against the CA that the server shows."""
    files = (TOKEN_FILE, AGENT_TOKEN_FILE)
    result = server.remote.run(["sudo", "-n", "cat", *files])
    _hide(result.stdout, hide)
    server.check_sudo(result.stderr)
    if result.exit_code:
        raise Refused(
            "the k3s join token cannot be read",
            f"{server.where}: {last_line(result.stderr)}",
            f"try: {server.remote.login} 'sudo -n cat {' '.join(files)}'; "
            "the user needs sudo without a password, and K3S_EXISTING_NODE_IP has to be a k3s server",
            status=result.exit_code,
        )
    lines = [*result.stdout.splitlines(), "", ""]
    hashes = authority.hashes(authority_pem)
    for_servers, for_agents = (_checked(server, file, line, hashes) for file, line in zip(files, lines, strict=False))
    return Tokens(for_servers, for_agents)


def create(server: K3sServer, name: str, lasting: Tokens, hide: Hide) -> Secret:
    """A token with which one agent can join the cluster of the `lasting` ones, for a short time."""
    command = ["sudo", "-n", "k3s", "token", "create", "--ttl", BOOTSTRAP_TTL, "--description", _description(name)]
    said = server.run(command).stdout
    _hide(said, hide)
    return _checked(server, "k3s token create", said, frozenset({lasting.server.reveal()[3:67]}))


def discard(server: K3sServer, name: str) -> None:
    """Take back what `create` made for this agent, in killed runs too. The table that k3s prints holds no secret."""
    for line in server.run(["sudo", "-n", "k3s", "token", "list"]).stdout.splitlines():
        short, *words = line.split() or [""]
        if _description(name) in words:
            server.run(["sudo", "-n", "k3s", "token", "delete", short])


def _description(name: str) -> str:
    return f"homelab-{name}"


def _hide(printed: str, hide: Hide) -> None:
    """Each line, and what in it opens the cluster without the hash of its CA."""
    for line in printed.split():
        for secret in (line, line.rpartition(":")[2] or line):
            hide(Secret(secret))


def _checked(server: K3sServer, source: str, line: str, hashes: frozenset[str]) -> Secret:
    """The token in a line; raises unless it is one of the cluster with this CA."""
    match = FULL_TOKEN.fullmatch(line.strip())
    if not match:
        raise Misunderstood(
            "the k3s join token is not understood",
            f"{server.where}: {source} does not hold a token of the form K10<hash>::...",
            "look at the file on the server; a full token is needed, so that the cluster's CA can be checked",
        )
    if match[1] not in hashes:
        raise Refused(
            "the k3s join token belongs to another cluster",
            f"{server.where}: the token's CA hash is not that of the CA at {API}",
            "check K3S_EXISTING_NODE_IP; on that server: k3s token rotate, or restart k3s",
            status=0,
        )
    return Secret(match[0])
