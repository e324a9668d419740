"""The machines inside VMs, and the k3s servers outside: what the nodes that power them see of them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pvelab.door import Door, Listener
from pvelab.guest import ubuntu
from pvelab.guest.agent import Agent
from pvelab.guest.ailments import ALL, Ailment, Ailments
from pvelab.guest.boot import Boot
from pvelab.guest.clusters import Clusters
from pvelab.guest.commands import GUEST_COMMANDS, program
from pvelab.guest.doorkeeper import Doorkeeper
from pvelab.guest.existing import ExistingServer
from pvelab.guest.k3s_command import k3s
from pvelab.guest.k3s_endpoint import K3sServing
from pvelab.guest.kube_requests import Served
from pvelab.guest.kubectl import kubectl
from pvelab.guest.leases import Leases
from pvelab.guest.machine import Disk, GuestMachine, Hardware, Nic, Surroundings
from pvelab.guest.seed import read_seed
from pvelab.machine import AgentSilent
from pvelab.network import SSH_PORT, Network
from pvelab.rules import cloudinit, drives, power, volume_names, volumes
from pvelab.rules.images import QCOW2_MAGIC
from pvelab.shell.coreutils import COMMANDS
from pvelab.sshd import SshHooks, SshServer, host_key
from pvelab.state import MIB, Vm, Volume, World

if TYPE_CHECKING:
    from pvelab.clock import LabClock

SHUT_HANGING = "hang"
_NIC = re.compile(r"(?:\w+=)?((?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})")
_UUID = re.compile(r"uuid=([0-9a-fA-F-]+)")
_BOOT_SECTOR_END = 510


class NotRunning(KeyError):
    """The VM has no machine in it at the moment."""


@dataclass(slots=True, eq=False)
class Inside:
    """A machine that has power, its agent, and the door to its sshd once that listens."""

    machine: GuestMachine
    agent: Agent
    door: Door | None = None


@dataclass(slots=True, eq=False)
class Outsider:
    """A k3s server that is no VM: as what it was installed, its disk, and what runs on it while it has power."""

    spec: ExistingServer
    disk: Disk
    inside: Inside | None = None


@dataclass(slots=True, eq=False)
class Guests:
    """Implements GuestSide. `stuck`, `silent` and `crashing` hold names of VMs, or ALL, that a fault has hit."""

    clock: LabClock
    network: Network
    folder: Path
    ssh: SshHooks = field(default_factory=SshHooks)
    record: Callable[[Served], None] = lambda _: None
    stuck: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    crashing: set[str] = field(default_factory=set)
    world: World = field(init=False)
    """Set as soon as there is one, before any VM is switched on."""
    clusters: Clusters = field(init=False)
    ailments: Ailments = field(default_factory=Ailments)
    _leases: Leases = field(init=False)
    _disks: dict[Volume, Disk] = field(default_factory=dict)
    _inside: dict[int, Inside] = field(default_factory=dict)
    _outside: dict[str, Outsider] = field(default_factory=dict)
    _doorkeeper: Doorkeeper = field(default_factory=Doorkeeper)

    def __post_init__(self) -> None:
        self.clusters = Clusters(self.clock, K3sServing(self.clock, self.folder, self.record), self._doorkeeper)
        self._leases = Leases(self.network.guest)
        self.clock.settled = self._doorkeeper.opened

    # --- GuestSide ---

    def power_on(self, vm: Vm) -> None:
        """QEMU has started; the guest boots unless its disk holds no system or a fault keeps it from it."""
        self.power_off(vm)
        volume = self._boot_volume(vm)
        disk = self._system_on(volume)
        hardware = _hardware(vm, volume.size_bytes if volume else 0)
        machine = GuestMachine(disk or self._empty_disk(), hardware, self._surroundings())
        machine.name = vm.name
        machine.crashes_k3s = lambda: self._is_hit(self.crashing, vm)
        inside = Inside(machine, Agent(machine))
        self._inside[vm.vmid] = inside
        if disk is not None and not self._is_hit(self.stuck, vm):
            seed = read_seed(vm.cloudinit_seed) if cloudinit.drive(self.world, vm) else None
            Boot(machine, seed, self._leases, lambda: self._open(inside)).start()

    def power_off(self, vm: Vm) -> None:
        """The power is cut."""
        inside = self._inside.pop(vm.vmid, None)
        if inside:
            self._cut(inside)

    def pause(self, vm: Vm) -> None:
        """The processors stand still: connections get no answer."""
        inside = self._inside.get(vm.vmid)
        if inside and not inside.machine.is_paused:
            inside.machine.pause()
            if inside.door:
                self._doorkeeper.hang(inside.door)

    def resume(self, vm: Vm) -> None:
        """They go on."""
        inside = self._inside.get(vm.vmid)
        if inside and inside.machine.is_paused:
            inside.machine.resume()
            if inside.door:
                self._listen(inside, inside.door)

    def remove(self, vm: Vm) -> None:
        """The VM is gone; so are the machines on disks that no storage has any more."""
        self.power_off(vm)
        kept = {volume for held in self.world.volumes.values() for volume in held.values()}
        self._disks = {volume: disk for volume, disk in self._disks.items() if volume in kept}

    def obeys_acpi(self, vm: Vm) -> bool:
        """Does the guest shut down when asked?"""
        inside = self._inside.get(vm.vmid)
        return inside is not None and inside.machine.has_sshd and not inside.machine.is_paused

    def agent(self, vm: Vm, command: str, params: Mapping[str, Any]) -> Any:
        """What the guest agent answers. Raises AgentSilent, AgentError."""
        inside = self._inside.get(vm.vmid)
        if inside is None or not inside.agent.answers or self._is_hit(self.silent, vm):
            raise AgentSilent
        return inside.agent.ask(command, params)

    # --- what the lab's other rooms ask ---

    def machine_in(self, vm: Vm) -> GuestMachine:
        """The machine in a VM that is switched on. Raises NotRunning."""
        inside = self._inside.get(vm.vmid)
        if inside is None:
            raise NotRunning(vm.name)
        return inside.machine

    @property
    def existing(self) -> GuestMachine:
        """The first k3s server outside. Raises NotRunning before `start_existing`, and while it is off."""
        return self.outside(self._first_outside())

    @property
    def outsiders(self) -> list[str]:
        """The names of the k3s servers outside, in the order in which they came."""
        return list(self._outside)

    def outside(self, hostname: str) -> GuestMachine:
        """The k3s server outside of that name. Raises NotRunning."""
        inside = self._outsider(hostname).inside
        if inside is None:
            raise NotRunning(hostname)
        return inside.machine

    def look_at_ssh(self, name: str) -> None:
        """The ailments of a machine's sshd (or of all, ALL) have changed: its door is now as they say."""
        for inside in self._powered():
            door, machine = inside.door, inside.machine
            if door and not machine.is_paused and name in (ALL, machine.name):
                if machine.ails(Ailment.SSH):
                    self._doorkeeper.close(door)
                self._listen(inside, door)

    def door_of(self, hostname: str) -> Door | None:
        """The door to the sshd of a machine that is switched on."""
        return next((one.door for one in self._powered() if one.machine.hostname == hostname), None)

    def start_existing(self, spec: ExistingServer) -> GuestMachine:
        """Install and switch on a k3s server outside; its k3s is up some seconds later."""
        self._outside[spec.hostname] = Outsider(spec, spec.installed(self.folder, self.clock))
        return self.existing_on(spec.hostname)

    def existing_off(self, hostname: str = "") -> None:
        """Cut the power of a k3s server outside, the first if none is named. Raises NotRunning if there is none."""
        outsider = self._outsider(hostname or self._first_outside())
        if outsider.inside:
            self._cut(outsider.inside)
            outsider.inside = None

    def existing_on(self, hostname: str = "") -> GuestMachine:
        """Switch a k3s server outside on, the first if none is named. Raises NotRunning before `start_existing`."""
        outsider = self._outsider(hostname or self._first_outside())
        machine = outsider.spec.switched_on(outsider.disk, self._surroundings())
        outsider.inside = Inside(machine, Agent(machine))
        self._open(outsider.inside)
        return machine

    def move_outsider(self, hostname: str, address: str) -> None:
        """A k3s server outside reboots and gets another address. Raises NotRunning."""
        outsider = self._outsider(hostname)
        self.existing_off(hostname)
        outsider.spec = replace(outsider.spec, address=address)
        self.existing_on(hostname)

    def reboot_elsewhere(self, vm: Vm) -> None:
        """The machine in a VM reboots, and DHCP gives its cards other addresses. Raises NotRunning."""
        machine = self.machine_in(vm)
        for nic in machine.hardware.nics:
            self._leases.forget(machine.machine_id, nic.mac.lower())
        self.power_on(vm)

    async def clear(self) -> None:
        """Switch everything off and forget it: disks, leases, clusters, faults."""
        for inside in self._powered():
            self._cut(inside)
        self._inside.clear()
        self._disks.clear()
        self._outside.clear()
        for hit in (self.stuck, self.silent, self.crashing):
            hit.clear()
        self.ailments.clear()
        self.clusters.forget()
        await self.settled()
        self.clusters = Clusters(self.clock, K3sServing(self.clock, self.folder, self.record), self._doorkeeper)
        self._leases = Leases(self.network.guest)

    async def settled(self) -> None:
        """Wait until doors that are being opened or closed are open or closed."""
        await self._doorkeeper.settled()

    async def close(self) -> None:
        """The end of the lab."""
        await self.clear()

    # --- parts ---

    def _surroundings(self) -> Surroundings:
        return Surroundings(self.clock, self.clusters, self.ailments, COMMANDS, GUEST_COMMANDS, k3s, kubectl, program)

    def _powered(self) -> list[Inside]:
        return [*self._inside.values(), *(one.inside for one in self._outside.values() if one.inside)]

    def _first_outside(self) -> str:
        return next(iter(self._outside), "the existing k3s server")

    def _outsider(self, hostname: str) -> Outsider:
        if hostname not in self._outside:
            raise NotRunning(hostname)
        return self._outside[hostname]

    def _is_hit(self, names: set[str], vm: Vm) -> bool:
        return vm.name in names or ALL in names

    def _boot_volume(self, vm: Vm) -> Volume | None:
        option = drives.boot_disk(self.world, vm.config)
        if not option:
            return None
        storage, name = volume_names.split(drives.parse(self.world, option, vm.config[option])["file"])
        return volumes.find(volumes.at(self.world, self.world.nodes[vm.node], storage), name)

    def _system_on(self, volume: Volume | None) -> Disk | None:
        """The system on a disk; None if there is nothing to boot from."""
        if volume is None:
            return None
        if volume not in self._disks and _is_bootable(volume):
            self._disks[volume] = ubuntu.new_disk(self.folder, self.clock, volume.size_bytes)
        return self._disks.get(volume)

    def _empty_disk(self) -> Disk:
        return ubuntu.new_disk(self.folder, self.clock, 0)

    def _open(self, inside: Inside) -> None:
        machine = inside.machine
        if not machine.address:
            return

        async def serve(address: str, port: int) -> Listener:
            server = SshServer(lambda: machine, self.ssh)
            await server.listen(host_key(machine.files), address, port)
            return server

        inside.door = Door(machine.address, SSH_PORT, serve)
        self._listen(inside, inside.door)

    def _listen(self, inside: Inside, door: Door) -> None:
        """Open the door; an address that is taken or not in the lab leaves the machine out of reach."""
        machine = inside.machine

        def failed(error: OSError) -> None:
            text = f"error: Bind to port {SSH_PORT} on {machine.address} failed: {error.strerror}."
            machine.journal.write(machine.boot_id, "ssh.service", "sshd", text)

        if SHUT_HANGING in machine.ails(Ailment.SSH):
            self._doorkeeper.hang(door)
        elif not machine.ails(Ailment.SSH):
            self._doorkeeper.open(door, lambda: not machine.is_off.is_set(), failed)

    def _cut(self, inside: Inside) -> None:
        inside.machine.cut_power()
        if inside.door:
            self._doorkeeper.close(inside.door)


def _is_bootable(volume: Volume) -> bool:
    """Was it made from an image with a boot sector, or from a qcow2 image, whose inside the lab does not read?"""
    if volume.origin is None:
        return False
    head = next(volume.origin.chunks(), b"")[: _BOOT_SECTOR_END + 2]
    return head.startswith(QCOW2_MAGIC) or head[_BOOT_SECTOR_END:] == b"\x55\xaa"


def _hardware(vm: Vm, disk_bytes: int) -> Hardware:
    uuids = _UUID.search(vm.config.get("smbios1", ""))
    cards = sorted((option for option in vm.config if drives.NET.fullmatch(option)), key=lambda option: int(option[3:]))
    macs = [found[1] for option in cards if (found := _NIC.search(vm.config[option]))]
    return Hardware(
        system_uuid=uuids[1].lower() if uuids else str(uuid.uuid4()),
        cpus=power.cores(vm),
        memory_mib=power.memory_bytes(vm) // MIB,
        disk_bytes=disk_bytes,
        nics=tuple(Nic(f"eth{number}", mac.lower()) for number, mac in enumerate(macs)),
        has_agent_port=vm.config.get("agent", "0").split(",")[0] in ("1", "enabled=1"),
    )
