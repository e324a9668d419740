"""What one trusted node says of its cluster: the members' certificates and host keys, and the cluster's CA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from homelab.errors import HomelabError, Unreachable
from homelab.models import ClusterStatus
from homelab.proxmox import answers
from homelab.proxmox.answers import rows, text
from homelab.proxmox.reads import ROOT_CA
from homelab.proxmox.transport import Root, Transport
from homelab.shell import entries_in

KEY_FILES = "/etc/pve/nodes/*/ssh_known_hosts /etc/pve/priv/known_hosts /etc/ssh/ssh_known_hosts"
"""Since 8.2 each member has a file of its own, whose line does not end; before, one file held them all."""


@dataclass(frozen=True, slots=True)
class Word:
    """`certificates` by fingerprint and `host_keys` by their text give the member; `authority_pem` may be empty."""

    node: str
    certificates: dict[str, str]
    host_keys: dict[str, str]
    authority_pem: str
    authority_fingerprint: str

    def member(self, value: str) -> str | None:
        """Whose certificate or host key it is, as far as this node knows."""
        return self.certificates.get(value) or self.host_keys.get(value)

    @property
    def key_kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key.partition(" ")[0] for key in self.host_keys))


def word_of(wires: Sequence[Transport], root: Root | None) -> Word:
    """Asked over the first of these wires that answers; host keys are known to root alone.

    Raises HomelabError.
    """
    status = answers.cluster_status(_asked(wires, "/cluster/status"))
    here = next((member.name for member in status.members if member.is_local), "")
    listed = rows(_asked(wires, "/nodes"), "nodes")
    own = rows(_asked(wires, f"/nodes/{here}/certificates/info"), "certificates")
    authority = next((row for row in own if text(row, "filename") == ROOT_CA), {})
    return Word(
        here,
        {text(row, "ssl_fingerprint"): text(row, "node") for row in listed if row.get("ssl_fingerprint")},
        _host_keys(root, status) if root else {},
        str(authority.get("pem", "")),
        str(authority.get("fingerprint", "")),
    )


def _host_keys(root: Root, status: ClusterStatus) -> dict[str, str]:
    """Those of members alone: the files may name other machines too."""
    printed = root.run(["sh", "-c", f"grep -hs . {KEY_FILES}"]).stdout
    return {
        str(entry.key): member.name
        for entry in entries_in(printed)
        for member in status.members
        if not entry.is_revoked and any(map(entry.is_for, (member.name.lower(), member.address)))
    }


def _asked(wires: Sequence[Transport], path: str) -> Any:
    failure: HomelabError = Unreachable(f"GET {path}", "no node is reached", "see what is said of each node")
    for wire in wires:
        try:
            return wire.call("GET", path)
        except HomelabError as error:
            failure = error
    raise failure
