"""Names of machines, as the resolver of this machine knows them: /etc/hosts, DNS, whatever nsswitch.conf has."""

from __future__ import annotations

import queue
import socket
import threading

LONGEST_LOOK_S = 5.0


def addresses_of(name: str) -> tuple[str, ...]:
    """IPv4 before IPv6; none where the name is not known, or nobody says so in time."""
    found: queue.SimpleQueue[tuple[str, ...]] = queue.SimpleQueue()
    threading.Thread(target=lambda: found.put(_looked_up(name)), daemon=True).start()
    try:
        return found.get(timeout=LONGEST_LOOK_S)
    except queue.Empty:
        return ()


def _looked_up(name: str) -> tuple[str, ...]:
    try:
        entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(sorted(dict.fromkeys(str(entry[4][0]) for entry in entries), key=lambda address: ":" in address))
