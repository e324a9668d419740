"""What a starting k3s meets on its way to the server that it was told to join.

Source: k3s, pkg/clientaccess/token.go (getCACerts).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pvelab.guest.k3s_join import Refusal, Stage
from pvelab.guest.timestamps import timestamp

if TYPE_CHECKING:
    from pvelab.guest.clusters import Endpoint
    from pvelab.guest.k3s_cluster import Cluster
    from pvelab.guest.machine import GuestMachine

PEER_PORT = 2380
CERTIFICATE_S = 365 * 86_400.0
"""How long what a server shows is valid; it begins when its cluster was founded."""
_UNREACHABLE = 'failed to get CA certs: Get "{}/cacerts": {}'
_UNTRUSTED = 'CA cert validation failed: Get "{}/cacerts": tls: failed to verify certificate: x509: {}'
_TIMEOUT = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"


def reach(guest: GuestMachine, url: str) -> Cluster | Refusal:
    """The cluster behind a URL, once its server's certificate is found good; or why not."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    if not _is_address(host):
        return _refused(_UNREACHABLE.format(url, f"dial tcp: lookup {host} on 127.0.0.53:53: no such host"))
    wall = guest.wall(host, port)
    endpoint = None if wall else guest.surroundings.clusters.at(url)
    if wall and wall.is_silent:
        return _refused(_UNREACHABLE.format(url, _TIMEOUT))
    if endpoint is None:
        text = f"dial tcp {parts.netloc}: connect: connection refused"
        return _refused(_UNREACHABLE.format(url, text))
    trouble = _mistrust(guest, endpoint, host)
    if trouble:
        return _refused(_UNTRUSTED.format(url, trouble))
    if not endpoint.is_serving:
        text = "failed to retrieve configuration from server: https://127.0.0.1:6444/v1-k3s/config: 503"
        return Refusal(Stage.CONFIGURATION, f"{text} Service Unavailable")
    return endpoint.cluster


def has_peers(guest: GuestMachine, cluster: Cluster) -> bool:
    """Can this machine talk to the etcd of every server that runs?"""
    return not any(guest.wall(address, PEER_PORT) for address in cluster.servers)


def _mistrust(guest: GuestMachine, endpoint: Endpoint, host: str) -> str:
    """What is wrong with the certificate that a server shows to this machine; empty if nothing is."""
    now, begins = guest.now(), endpoint.cluster.founded_at
    for is_wrong, word, limit in (
        (now < begins, "before", begins),
        (now > begins + CERTIFICATE_S, "after", begins + CERTIFICATE_S),
    ):
        if is_wrong:
            moments = f"current time {timestamp(now)} is {word} {timestamp(limit)}"
            return f"certificate has expired or is not yet valid: {moments}"
    addresses = [name for name in endpoint.names if _is_address(name)]
    return "" if host in addresses else f"certificate is valid for {', '.join(addresses)}, not {host}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refused(text: str) -> Refusal:
    return Refusal(Stage.CONNECTION, text)
