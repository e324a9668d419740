"""Everything that runs on the lab's loop: doors, downloads, guests, the world; opened once, reset often."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pvelab import faults, seeds
from pvelab.assembly import Blueprint, new_world
from pvelab.clock import LabClock, SharedClock
from pvelab.commands.node import equip
from pvelab.environment import Papers, environment
from pvelab.guest import ubuntu
from pvelab.guest.existing import ExistingServer
from pvelab.guest.guests import Guests
from pvelab.guest.install_script import INSTALL_SCRIPT
from pvelab.guest.k3s_cluster import Cluster
from pvelab.guest.k3s_release import k3s_binary, release_files
from pvelab.guest.machine import GuestMachine
from pvelab.identity import Identity, known_hosts, new_identity, new_image_key, node_addresses, write_papers
from pvelab.interception import Traps
from pvelab.machine import Machine
from pvelab.neighbourhood import Neighbourhood
from pvelab.network import K3S_PORT, SOURCES_PORT, Network, claim_network
from pvelab.node_doors import NodeDoors
from pvelab.openpgp import SigningKey
from pvelab.qcow2 import qcow2_image
from pvelab.requestlog import RequestLog
from pvelab.sources import INSTALLER_PATH, Sources
from pvelab.spec import DAY_S, IMAGE_BYTES, K3S_RELEASES, LabSpec
from pvelab.sshd import SshHooks
from pvelab.state import Hooks, World

Repair = Callable[[], object]
_IMAGE_SEED = 2404
IMAGE_AGE_S = 40 * DAY_S
"""How long before the present the image was built."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a site is set up with."""

    spec: LabSpec
    folder: Path
    shared: SharedClock | None
    pace: float


@dataclass(slots=True, eq=False)
class Site:
    """The lab as its own loop sees it; `open` it first, then `reset` it."""

    setting: Setting
    log: RequestLog = field(default_factory=RequestLog)
    repairs: list[Repair] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    traps: Traps = field(default_factory=Traps)
    image: bytes = qcow2_image(IMAGE_BYTES, _IMAGE_SEED)
    image_key: SigningKey = field(default_factory=new_image_key)
    spec: LabSpec = field(init=False)
    network: Network = field(init=False)
    clock: LabClock = field(init=False)
    sources: Sources = field(init=False)
    identity: Identity = field(init=False)
    papers: Papers = field(init=False)
    doors: NodeDoors = field(init=False)
    guests: Guests = field(init=False)
    world: World = field(init=False)
    neighbourhood: Neighbourhood = field(init=False)
    k3s_machines: list[str] = field(default_factory=list)
    """The k3s servers that the seed began with, by name."""
    k3s_addresses: list[str] = field(default_factory=list)
    """Where they were when the seed was done."""
    k3s_settings: dict[str, object] = field(default_factory=dict)
    """What all of them have in their config.yaml."""
    _hooks: SshHooks = field(init=False)
    _exits: AsyncExitStack = field(default_factory=AsyncExitStack)
    _begun: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self) -> None:
        """Claim a network and serve the downloads; the nodes' doors open with the first reset.

        Raises NoNetworkFree, OSError; `close` is due in any case.
        """
        self.network = claim_network()
        self._exits.callback(self.network.release)
        self.clock = LabClock(asyncio.get_running_loop(), self.setting.shared, self.setting.pace)
        self.clock.failures = self.failures
        self.sources = Sources(self.setting.folder / "www", self.log.add, self.present)
        await self.sources.start(self.network.sources, SOURCES_PORT)
        self._exits.push_async_callback(self.sources.stop)
        self._hooks = SshHooks(self.traps.on_ssh, self.log.add_ssh)
        self._move_to(self.setting.spec)
        self._exits.push_async_callback(self._close_doors)
        self.guests = Guests(
            self.clock, self.network, self.setting.folder / "spool", self._hooks, self.log.add_kubernetes
        )
        self._exits.push_async_callback(self.guests.close)
        self.neighbourhood = Neighbourhood(lambda: self.world, lambda: self.guests)
        self._exits.callback(self.clock.forget)

    async def close(self) -> None:
        """Close every socket and give the network back."""
        await self._exits.aclose()

    async def reset(self, spec: LabSpec, seed: str, options: Mapping[str, object]) -> None:
        """Begin again from a seed. Raises UnknownChoice, SeedFailed."""
        build, chosen = seeds.SEEDS.choose(seed, options)
        await self._clear()
        if spec.nodes != self.spec.nodes:
            await self.doors.close()
            self._move_to(spec)
        self.spec = spec
        self._publish()
        self._renew_world()
        self.clock.rewind(seeds.BUILT_BEFORE_S)
        try:
            await build(self, **chosen)
            self._write_kubeconfig()
            self._write_known_hosts()
        finally:
            self.clock.catch_up()
        await self.guests.settled()
        await self.doors.open()
        self.log.clear()

    async def fault(self, name: str, options: Mapping[str, object]) -> None:
        """Break something. Raises UnknownChoice."""
        function, chosen = faults.FAULTS.choose(name, options)
        await _finished(function(self, **chosen))

    async def clear_faults(self) -> None:
        """Repair what was broken, the latest first."""
        self.traps.waiting.clear()
        await self._finish_begun()
        while self.repairs:
            await _finished(self.repairs.pop()())

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Break something while a request that a fault has hit goes its way."""
        task = asyncio.get_running_loop().create_task(work)
        self._begun.add(task)

    async def _finish_begun(self) -> None:
        while self._begun:
            await self._begun.pop()

    def environment(self) -> dict[str, str]:
        """The variables of a ready `.env`."""
        found = environment(self.spec, self.network, self.papers)
        return found | ({"K3S_EXISTING_NODE_IP": self.k3s_addresses[0]} if self.k3s_addresses else {})

    @property
    def base_url(self) -> str:
        """Where downloads are."""
        return f"http://{self.network.sources}:{SOURCES_PORT}"

    def outside_server(self, number: int) -> ExistingServer:
        """K3s server `number` (from 1) of those that are not ours, with the datastore that the lab was asked for."""
        hostname = self.spec.k3s_servers[number - 1]
        return ExistingServer(
            address=self.network.outside(number),
            version=self.spec.k3s_version,
            binary=k3s_binary(self.spec.k3s_version),
            host_key=self.identity.host_keys[hostname],
            authorized_key=self.identity.person.public_line,
            hostname=hostname,
            datastore=self.spec.datastore,
        )

    def first_server(self) -> GuestMachine:
        """The k3s server that was there first. Raises NotRunning, KeyError."""
        return self.guest(self.k3s_machines[0])

    def first_cluster(self) -> Cluster:
        """The k3s cluster that was founded first. Raises StopIteration before there is one."""
        return next(iter(self.guests.clusters.by_hash.values()))

    def machine(self, hostname: str) -> Machine:
        """A node, a k3s server outside, or what runs in the VM of that name. Raises KeyError."""
        return self.world.nodes[hostname] if hostname in self.world.nodes else self.guest(hostname)

    def guest(self, hostname: str) -> GuestMachine:
        """A k3s server outside, or what runs in the VM of that name. Raises KeyError."""
        if hostname in self.guests.outsiders:
            return self.guests.outside(hostname)
        return self.guests.machine_in({vm.name: vm for vm in self.world.vms.values()}[hostname])

    def publish_image(self) -> None:
        """Serve the image with its signed checksums, and have the key at hand that signed them, as the lab begins."""
        self.papers.image_key_path.write_text(self.image_key.armored)
        self.sources.publish_image(self.spec.image_name, self.image, self.image_key, self.image_built_at)

    @property
    def image_built_at(self) -> float:
        """When the image was published, in Unix seconds."""
        return self.present() - IMAGE_AGE_S

    def present(self) -> float:
        """Unix time outside the seed's past."""
        return self.clock.now() + self.clock.behind_s

    async def _close_doors(self) -> None:
        await self.doors.close()

    async def _clear(self) -> None:
        self.clock.forget()
        self.doors.kill_commands()
        await self._finish_begun()
        self.repairs.clear()
        self.k3s_machines.clear()
        self.k3s_addresses.clear()
        self.k3s_settings.clear()
        self.traps.waiting.clear()
        await self.guests.clear()

    def _move_to(self, spec: LabSpec) -> None:
        self.spec = spec
        self.identity = new_identity(spec, self.network, self.image_key)
        self.papers = write_papers(self.identity, spec, self.network, self.setting.folder)
        self.doors = NodeDoors(lambda: self.world, self.identity, self.setting.folder / "tls", self._hooks)
        for name, address in node_addresses(spec, self.network).items():
            self.doors.add(name, address)

    def _publish(self) -> None:
        self.sources.clear()
        self.publish_image()
        self.sources.publish(INSTALLER_PATH, INSTALL_SCRIPT.encode())
        for version in K3S_RELEASES:
            self.sources.publish_release(version, release_files(version))

    def _renew_world(self) -> None:
        blueprint = Blueprint(self.spec, self.network, self.clock, self.setting.folder, self.identity)
        self.world = new_world(blueprint, self.guests)
        self.world.hooks = Hooks(self.traps.on_api, self.log.add_api)
        self.guests.world = self.world
        self.neighbourhood.clear()
        equip(self.world, self.neighbourhood)

    def _write_kubeconfig(self) -> None:
        """The administrator's, as somebody copies it from the server outside and puts its address in."""
        self.k3s_addresses[:] = [self.guest(name).address for name in self.k3s_machines]
        address, clusters = self.k3s_addresses[0], self.guests.clusters
        path = self.papers.kubeconfig_path
        path.touch(mode=0o600)
        path.write_bytes(clusters.kubeconfig(self.first_cluster(), f"https://{address}:{K3S_PORT}"))

    def _write_known_hosts(self) -> None:
        """Whoever set up the k3s servers has logged in to each of them."""
        servers = [self.guest(name) for name in self.k3s_machines]
        lines = {server.address: server.files.read(f"{ubuntu.HOST_KEY}.pub").decode() for server in servers}
        self.papers.known_hosts_path.write_text(known_hosts(self.identity, self.spec, self.network, lines))


async def _finished(result: object) -> None:
    if inspect.isawaitable(result):
        await result
