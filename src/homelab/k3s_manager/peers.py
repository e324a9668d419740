"""Whether a machine that is to become a server and the servers that are there reach one another's etcd."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from homelab.k3s_manager.answers import EtcdMember
from homelab.k3s_manager.preflight import CURL
from homelab.k3s_manager.readiness import PACE
from homelab.k3s_manager.remote import Remote
from homelab.k3s_manager.servers import Servers
from homelab.runtime import Clock, Wait, wait_for
from homelab.shell import Shell

PORTS = (2379, 2380)
PATIENCE_S = 15
"""How long etcd on a server that restarts just now is given."""
LOOK = """\
for url in "$@"; do
  curl -sko /dev/null --noproxy '*' --connect-timeout 3 --max-time 5 "$url"
  echo "$? $url"
done
"""
LOOK_TIMEOUT_S = 120
NO_ANSWER = 28
UNREACHED = frozenset({6, 7, NO_ANSWER})
"""Exit codes of curl where no connection came about; etcd itself ends it for want of a certificate (35, 56)."""
CURE = "open ports 2379 and 2380 between all servers, in both directions (Proxmox firewall, ufw)"


def check(shell: Shell, name: str, members: Iterable[EtcdMember], clock: Clock) -> None:
    """Raise TimedOut unless the machine reaches these members of etcd at all of their addresses."""
    urls = sorted({url for member in members for url in member.urls})
    what = f"{name}: etcd on the other servers cannot be reached from the VM"
    wait = Wait(what, PATIENCE_S, clock, CURE, PACE)
    wait_for(lambda: _without_way(shell, urls, UNREACHED), lambda found: not found, wait, ", ".join)


def check_way_back(servers: Servers, shell: Shell, name: str, clock: Clock) -> None:
    """Raise TimedOut where packets to the machine's etcd from the server that is asked are dropped.

    Nothing listens there yet: a refusal shows that the way is open.
    """
    host = shell.machine.host
    urls = [f"https://{f'[{host}]' if ':' in host else host}:{port}" for port in PORTS]
    what = f"{name}: its etcd could not be reached from the other servers"
    wait = Wait(what, PATIENCE_S, clock, CURE, PACE)

    def look() -> tuple[str, ...]:
        return servers.ask(lambda server: _without_way(server.remote, urls, {NO_ANSWER}))

    wait_for(look, lambda found: not found, wait, ", ".join)


def _without_way(remote: Remote, urls: Iterable[str], codes: Collection[int]) -> tuple[str, ...]:
    """The URLs for which curl ends with one of these codes on a machine, each with the reason."""
    said = remote.run(["sh", "-c", LOOK, "look", *urls], timeout_s=LOOK_TIMEOUT_S).stdout
    ended = {url: int(code) for code, url in re.findall(r"^(\d+) (\S+)$", said, re.MULTILINE)}
    return tuple(f"{url} from {remote.where}: {CURL[code]}" for url, code in ended.items() if code in codes)
