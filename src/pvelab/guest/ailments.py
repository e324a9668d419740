"""What is wrong with single machines, by a fault; it outlives their power cycles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

ALL = "all"


class Ailment(Enum):
    """The kinds. What stands behind a kind is how it shows, as `Ailments.plant` is given it."""

    SSH = "refused or hang"
    WALL = "a Wall"
    CLOCK = "seconds by which the clock is ahead"
    NO_ROUTE = "no default route"
    NO_CGROUP = "no memory cgroup"
    CONTAINERD = "containerd ends"
    APPARMOR = "apparmor_parser is missing"
    NO_IMAGES = "no registry can be reached"
    FLAPS = "a Flapping"
    CLOUD_INIT = "error, degraded or hang"
    APT_LOCK = "something holds apt's lock"
    HOSTNAME = "the name that it boots with"


@dataclass(frozen=True, slots=True)
class Wall:
    """A firewall between a machine and an address (or all) and port: packets are dropped, or rejected."""

    to: str
    port: int
    is_silent: bool

    def stops(self, host: str, port: int) -> bool:
        """Does a connection end here?"""
        return self.to in (ALL, host) and self.port == port


@dataclass(frozen=True, slots=True)
class Flapping:
    """A Node that is Ready at first is not so after some seconds, for some seconds."""

    after_s: float
    for_s: float


@dataclass(slots=True)
class Ailments:
    """Machines are named as their VMs are, or by the host name of a server outside; ALL is every machine."""

    _held: list[tuple[str, Ailment, object]] = field(default_factory=list)

    def plant(self, machine: str, ailment: Ailment, how: object = True) -> Callable[[], None]:
        """Let a machine have it; the repair."""
        entry = (machine, ailment, how)
        self._held.append(entry)
        return lambda: self._held.remove(entry) if entry in self._held else None

    def of(self, machine: str, ailment: Ailment) -> list[object]:
        """How a machine has it, the newest last; empty if it does not."""
        return [how for name, kind, how in self._held if kind is ailment and name in (ALL, machine)]

    def clear(self) -> None:
        """Everything is well again."""
        self._held.clear()
