"""The machines that a run deals with before it has VMs: where they are, and what each of them shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from homelab.errors import Problem, Unreachable
from homelab.proxmox.node_entries import own_hosts
from homelab.proxmox.probing import Door, Probes
from homelab.settings import Config, NodeConfig, Via
from homelab.shell import Shell, Shells
from homelab.trusting.shown import Doors, Shown

LOOKS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Place:
    """An address at which a machine may be; `node` is None for those of PVE_IPS. A port of 0 is not asked."""

    host: str
    api_port: int
    ssh_port: int
    node: NodeConfig | None = None
    is_server: bool = False


@dataclass(frozen=True, slots=True)
class Met:
    """What a machine shows, its certificate first; and why something that answers shows nothing."""

    place: Place
    shown: tuple[Shown, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Machines:
    """Knocks at every address at once, and looks at what opens."""

    config: Config
    via: Via
    shells: Shells
    doors: Doors

    def nodes(self) -> list[Met]:
        """Addresses at which nobody answers are left out. Over --via ssh no API is looked at."""
        probes, places = Probes(), self._places()
        probes.knock(door for place in places for door in _doors(place))
        probes.wait_until(probes.all_done)
        found = [place for place in places if any(map(probes.is_open, _doors(place)))]
        with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
            return list(pool.map(lambda place: self._met(place, probes), found))

    def servers(self) -> list[Met]:
        """The existing k3s servers."""
        ssh = self.config.ssh
        with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
            return list(
                pool.map(
                    lambda address: _shown(
                        Place(address, 0, ssh.guest_port, is_server=True),
                        [self._key_of(self.shells.server(address, ssh.guest_port, self.config.guest.user))],
                    ),
                    self.config.k3s.existing_servers,
                )
            )

    def _places(self) -> list[Place]:
        wishes, api = self.config.wishes, self.via is not Via.SSH
        of_nodes = [
            Place(host, node.api_port if api else 0, node.ssh_port, node)
            for node in self.config.nodes
            if wishes.is_worked_on(node.number)
            for host in own_hosts(node, self.config.node_domain)
        ]
        taken = {place.host for place in of_nodes}
        others = [
            Place(host, self.config.api_port if api else 0, self.config.ssh_port)
            for host in self.config.fallback_addresses
            if host not in taken
        ]
        return of_nodes + others

    def _met(self, place: Place, probes: Probes) -> Met:
        looks: list[Callable[[], Shown]] = []
        if probes.is_open((place.host, place.api_port)):
            looks.append(lambda: self.doors.certificate(place.host, place.api_port, place.node))
        if probes.is_open((place.host, place.ssh_port)):
            looks.append(self._key_of(self.shells.node(place.host, place.ssh_port)))
        return _shown(place, looks)

    def _key_of(self, shell: Shell) -> Callable[[], Shown]:
        return lambda: self.doors.host_key(shell)


def _doors(place: Place) -> Sequence[Door]:
    return [(place.host, port) for port in (place.api_port, place.ssh_port) if port]


def _shown(place: Place, looks: Iterable[Callable[[], Shown]]) -> Met:
    shown, problems = [], []
    for look in looks:
        try:
            shown.append(look())
        except Unreachable as error:
            problems.append(error.problem)
    return Met(place, tuple(shown), tuple(problems))
