"""Which addresses answer: TCP connections, all at once, in threads that nobody has to wait for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

CONNECT_TIMEOUT_S = 5.0
NAME_NOT_KNOWN = "name not known"

Door = tuple[str, int]
"""Host and port."""


@dataclass(slots=True)
class Probes:
    """Knocks at doors and remembers what came of it. Times are real ones: the network does not know another clock."""

    timeout_s: float = CONNECT_TIMEOUT_S
    _trouble: dict[Door, str] = field(default_factory=dict)
    _address: dict[Door, str] = field(default_factory=dict)
    _knocked: set[Door] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _started_at: float = field(default_factory=time.monotonic)

    def knock(self, doors: Iterable[Door]) -> None:
        """Begin to try doors that have not been tried yet; each host's name is looked up once."""
        ports: dict[str, list[int]] = {}
        for host, port in dict.fromkeys(doors):
            if (host, port) not in self._knocked:
                self._knocked.add((host, port))
                ports.setdefault(host, []).append(port)
        for host, its_ports in ports.items():
            _in_background(self._look_up, host, its_ports)

    def wait_until(self, is_enough: Callable[[], bool], limit_s: float | None = None) -> bool:
        """Wait for news until there is enough of it; at most limit_s, and never beyond timeout_s in all."""
        ends_at = self._started_at + self.timeout_s
        if limit_s is not None:
            ends_at = min(ends_at, time.monotonic() + limit_s)
        with self._changed:
            return self._changed.wait_for(is_enough, max(ends_at - time.monotonic(), 0))

    def is_open(self, door: Door) -> bool:
        return self._trouble.get(door) == ""

    def address(self, door: Door) -> str | None:
        """The IP address at which an open door was found."""
        return self._address.get(door)

    def is_done(self, door: Door) -> bool:
        return door in self._trouble

    def all_done(self) -> bool:
        return len(self._trouble) == len(self._knocked)

    def trouble(self, door: Door) -> str:
        """Why a door did not open."""
        return self._trouble.get(door, f"no answer within {self.timeout_s:.0f} s")

    def _look_up(self, host: str, ports: Sequence[int]) -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            for port in ports:
                self._note((host, port), NAME_NOT_KNOWN)
            return
        addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
        for port in ports:
            _in_background(self._connect, (host, port), list(addresses))

    def _connect(self, door: Door, addresses: Sequence[str]) -> None:
        """Try the addresses of a door one after the other, as every client does."""
        trouble = "no address"
        for address in addresses:
            try:
                socket.create_connection((address, door[1]), self.timeout_s).close()
            except TimeoutError:
                trouble = f"no answer within {self.timeout_s:.0f} s"
            except OSError as error:
                trouble = (error.strerror or str(error)).lower()
            else:
                self._address[door] = address
                trouble = ""
                break
        self._note(door, trouble)

    def _note(self, door: Door, trouble: str) -> None:
        with self._changed:
            self._trouble[door] = trouble
            self._changed.notify_all()


def _in_background(work: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()
