"""What a machine has to be like before k3s is set up on it, looked at from inside it, in one command."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import MappingProxyType

from homelab.errors import NodeFailed
from homelab.k3s_manager import authority
from homelab.runtime import Clock
from homelab.shell import Shell

PATIENCE_S = 60
"""How long a machine that has just booted is given to set its clock, and to get its route and its network."""
PACE_S = 5
MOST_SKEW_S = 30
LOOK = """\
echo "name=$(hostname)"
echo "route=$(ip -4 route show default | head -n 1)$(ip -6 route show default | head -n 1)"
echo "before=$(date +%s)"
curl -sfik --max-time 10 "$1"
code=$?
echo
echo "after=$(date +%s)"
echo "curl=$code"
"""
CURL: Mapping[int, str] = MappingProxyType(
    {
        0: "what answers is no k3s server",
        6: "its name is not known there",
        7: "the connection is refused",
        22: "what answers is no k3s server",
        28: "no answer in time",
        35: "what answers is no k3s server",
        127: "curl is not installed there",
    }
)
"""Exit codes of curl. Source: curl(1)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What it is to be, and to see. `authorities` are fingerprints of the cluster's CA."""

    name: str
    server_url: str
    authorities: frozenset[str]


@dataclass(frozen=True, slots=True)
class Inside:
    """How a machine is, and what it sees at the server's address.

    `ahead_s` is how far its clock is ahead of the server's; 0 where that is not known.
    """

    name: str
    has_route: bool
    curl_code: int
    ahead_s: float
    authorities: frozenset[str]


def check(shell: Shell, wanted: Wanted, clock: Clock) -> None:
    """Raise NodeFailed unless k3s can be set up there; what may come right by itself is given time."""
    deadline = clock.now() + PATIENCE_S
    while True:
        inside = look(shell, wanted.server_url)
        _check_identity(inside, wanted)
        trouble = _passing_trouble(inside, wanted)
        if trouble is None:
            return
        if clock.now() >= deadline:
            raise trouble
        clock.sleep(PACE_S)


def look(shell: Shell, server_url: str) -> Inside:
    """Source: hostname, date, ip route; GET /cacerts on the server, which needs no authentication."""
    said = shell.run(["sh", "-c", LOOK, "look", f"{server_url}/cacerts"], timeout_s=60).stdout
    values = dict(re.findall(r"^(name|route|(?:before|after|curl)(?==\d+$))=(.*?)\s*$", said, re.MULTILINE))
    return Inside(
        values.get("name", ""),
        bool(values.get("route")),
        int(values.get("curl", "0")),
        _ahead_s(values.get("before", ""), values.get("after", ""), said),
        authority.fingerprints(said),
    )


def _ahead_s(before_s: str, after_s: str, said: str) -> float:
    """By the header `Date` of the server's answer, which was given between these two."""
    dated = re.search(r"^date: (.+?)\s*$", said, re.MULTILINE | re.IGNORECASE)
    if not before_s or not after_s or not dated:
        return 0.0
    try:
        server_s = parsedate_to_datetime(dated[1]).timestamp()
    except ValueError:
        return 0.0
    return max(int(before_s) - server_s, 0.0) + min(int(after_s) - server_s, 0.0)


def _check_identity(inside: Inside, wanted: Wanted) -> None:
    """Raise NodeFailed on what no waiting changes: another name, another cluster."""
    if inside.name != wanted.name:
        raise NodeFailed(
            f"{wanted.name}: the VM calls itself {inside.name or '(nothing)'}",
            "it would join under the wrong name",
            f"sudo hostnamectl set-hostname {wanted.name} in the VM, then run again",
        )
    if inside.authorities and not inside.authorities & wanted.authorities:
        raise NodeFailed(
            f"{wanted.name}: another cluster answers in the VM at {wanted.server_url}",
            "the CA that it shows there is not that of the cluster it is to join",
            "the address leads elsewhere from there: check K3S_SERVER_URL, NETWORK_IFACES_n, and who else has it",
        )


def _passing_trouble(inside: Inside, wanted: Wanted) -> NodeFailed | None:
    if not inside.has_route:
        return NodeFailed(
            f"{wanted.name}: the VM has no default route",
            "k3s does not start without one",
            "check CLOUD_IP_CONFIG_n (gw=) or DHCP",
        )
    if not inside.authorities:
        return NodeFailed(
            f"{wanted.name}: the k3s server cannot be reached from the VM",
            f"{wanted.server_url}/cacerts: {CURL.get(inside.curl_code, f'curl exit code {inside.curl_code}')}",
            "check the bridge in NETWORK_IFACES_n, and firewalls between the VM and K3S_EXISTING_NODE_IP",
        )
    skew_s = abs(inside.ahead_s)
    if skew_s > MOST_SKEW_S:
        return NodeFailed(
            f"{wanted.name}: the clock of the VM is {skew_s:.0f} s {'fast' if inside.ahead_s > 0 else 'slow'}",
            f"by that of {wanted.server_url}, and certificates and tokens go by the time",
            "timedatectl on both shows which of them is wrong; let it reach a time server (NTP, UDP port 123)",
        )
    return None
