"""Whether a machine that is to become a server reaches etcd on those that are there, looked at from inside it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from homelab.k3s_manager.answers import EtcdMember
from homelab.k3s_manager.preflight import CURL
from homelab.k3s_manager.readiness import PACE
from homelab.runtime import Clock, Wait, wait_for
from homelab.shell import Shell

PATIENCE_S = 15
"""How long etcd on a server that restarts just now is given."""
LOOK = """\
for url in "$@"; do
  curl -sko /dev/null --noproxy '*' --connect-timeout 3 --max-time 5 "$url"
  echo "$? $url"
done
"""
UNREACHED = frozenset({6, 7, 28})
"""Exit codes of curl where no connection came about; etcd itself ends it for want of a certificate (35, 56)."""


def check(shell: Shell, name: str, members: Iterable[EtcdMember], clock: Clock) -> None:
    """Raise TimedOut unless the machine reaches these members of etcd at all of their addresses."""
    urls = sorted({url for member in members for url in member.urls})
    wait = Wait(
        f"{name}: etcd on the other servers cannot be reached from the VM",
        PATIENCE_S,
        clock,
        "open ports 2379 and 2380 between all servers, in both directions (Proxmox firewall, ufw)",
        PACE,
    )
    wait_for(lambda: unreached(shell, urls), lambda found: not found, wait, ", ".join)


def unreached(shell: Shell, urls: Iterable[str]) -> tuple[str, ...]:
    """Those of the URLs to which there is no connection from the machine, each with the reason."""
    said = shell.run(["sh", "-c", LOOK, "look", *urls], timeout_s=120).stdout
    codes = {url: int(code) for code, url in re.findall(r"^(\d+) (\S+)$", said, re.MULTILINE)}
    return tuple(f"{url}: {CURL[code]}" for url, code in codes.items() if code in UNREACHED)
