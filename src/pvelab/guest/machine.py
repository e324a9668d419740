"""A machine that runs Ubuntu: in a VM of the lab, or the k3s server outside."""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pvelab.clock import in_background
from pvelab.guest.ailments import Ailment, Ailments, Wall
from pvelab.guest.journal import Journal
from pvelab.guest.k3s_release import version_of
from pvelab.guest.systemd import Program, Run, Systemd

if TYPE_CHECKING:
    from pvelab.clock import Callback, LabClock
    from pvelab.guest.clusters import Clusters
    from pvelab.machine import Account, Command, Process
    from pvelab.shell.files import FileSystem

T = TypeVar("T")
GuestCommand = Callable[["GuestMachine", "Process"], Awaitable[int]]
BINARY_FOLDERS = ("/usr/local/bin", "/opt/bin", "/usr/bin")


@dataclass(frozen=True, slots=True)
class Nic:
    """A network interface as the guest sees it."""

    name: str
    mac: str
    address: str = ""
    prefix: int = 24


@dataclass(frozen=True, slots=True)
class Hardware:
    """What QEMU shows to the guest."""

    system_uuid: str
    cpus: int = 2
    memory_mib: int = 4096
    disk_bytes: int = 20 << 30
    nics: tuple[Nic, ...] = ()
    has_agent_port: bool = False


@dataclass(slots=True, eq=False, repr=False)
class Disk:
    """What outlives a power cut: files, accounts, journal, and how far cloud-init has come with it."""

    files: FileSystem
    journal: Journal
    accounts: dict[str, Account] = field(default_factory=dict)
    instance_id: str = ""
    boots: int = 0


@dataclass(slots=True)
class CloudInit:
    """What `cloud-init status` tells of this boot."""

    status: str = "not started"
    detail: str = ""
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    datasource: str = "nocloud"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What machines share: time, clusters, the programs and commands that they can run."""

    clock: LabClock
    clusters: Clusters
    ailments: Ailments
    commands: Mapping[str, Command]
    guest_commands: Mapping[str, GuestCommand]
    k3s: GuestCommand
    kubectl: GuestCommand
    programs: Callable[[Run], Program | None]


@dataclass(slots=True, eq=False, repr=False)
class GuestMachine:
    """One power cycle of a machine; the next one has a new object on the same disk."""

    disk: Disk
    hardware: Hardware
    surroundings: Surroundings
    address: str = ""
    hostname: str = "ubuntu"
    boot_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    booted_at: float = 0.0
    is_booted: bool = False
    is_paused: bool = False
    has_sshd: bool = False
    name: str = ""
    """As faults name it: its VM, or the host name of a server outside."""
    crashes_k3s: Callable[[], bool] = lambda: False
    """A fault: does k3s of this machine end at once whenever it is started?"""
    without_offload: set[str] = field(default_factory=set)
    """Network devices that do not leave checksums to somebody else."""
    cloud_init: CloudInit = field(default_factory=CloudInit)
    is_off: asyncio.Event = field(default_factory=asyncio.Event)
    systemd: Systemd = field(init=False)
    clock: LabClock = field(init=False)
    files: FileSystem = field(init=False)
    accounts: dict[str, Account] = field(init=False)
    journal: Journal = field(init=False)
    _frozen: list[Callback] = field(default_factory=list)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.clock = self.surroundings.clock
        self.files, self.accounts, self.journal = self.disk.files, self.disk.accounts, self.disk.journal
        self.systemd = Systemd(self, self.surroundings.programs)
        self.booted_at = self.clock.now()
        self._mount_kernel_files()

    def _mount_kernel_files(self) -> None:
        self.files.mount("/sys/class/dmi/id", lambda: {"product_uuid": f"{self.hardware.system_uuid}\n".encode()})
        self.files.change("/sys/class/dmi/id", mode=0o700)
        self.files.mount("/proc", lambda: _proc(self))

    @property
    def commands(self) -> Mapping[str, Command]:
        """By the word typed, k3s only where a binary of it lies in a folder of binaries."""
        return Commands(self)

    @property
    def machine_id(self) -> str:
        """/etc/machine-id, empty before the first boot."""
        path = "/etc/machine-id"
        return self.files.read(path).decode().strip() if self.files.is_file(path) else ""

    def now(self) -> float:
        """Unix time as this machine believes it is."""
        return self.clock.now() + sum(how for how in self.ails(Ailment.CLOCK) if isinstance(how, float))

    def ails(self, ailment: Ailment) -> list[object]:
        """How the machine has this ailment; empty if it does not."""
        return self.surroundings.ailments.of(self.name or self.hostname, ailment)

    def wall(self, host: str, port: int) -> Wall | None:
        """The firewall, if one is there, that keeps this machine from an address and port."""
        walls = (how for how in self.ails(Ailment.WALL) if isinstance(how, Wall))
        return next((one for one in walls if one.stops(host, port)), None)

    def after(self, delay_s: float, callback: Callback) -> None:
        """Call back in this machine's time: never once it is off, and not before it goes on while it is paused."""

        def due() -> Awaitable[None] | None:
            if self.is_off.is_set():
                return None
            if self.is_paused:
                self._frozen.append(callback)
                return None
            return callback()

        self.clock.after(delay_s, due)

    def background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something on the machine that nobody waits for; it ends with the power."""
        context = contextvars.copy_context()
        context.run(in_background.set, True)
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def pause(self) -> None:
        """Stand still."""
        self.is_paused = True
        for program in self.systemd.running():
            program.pause()

    def resume(self) -> None:
        """Go on."""
        self.is_paused = False
        for program in self.systemd.running():
            program.resume()
        frozen, self._frozen = self._frozen, []
        for callback in frozen:
            self.after(0, callback)

    def cut_power(self) -> None:
        """End, with whatever runs."""
        self.is_off.set()
        self.has_sshd = False
        self.systemd.halt()
        for task in self._tasks:
            task.cancel()

    def k3s_binary(self, name: str) -> str:
        """The path of a k3s binary, or of a link to one, that this word runs; empty if there is none."""
        for folder in BINARY_FOLDERS:
            path = f"{folder}/{name}"
            if self.files.is_file(path) and self.files.entry(path).mode & 0o111 and self.k3s_version(path):
                return path
        return ""

    def k3s_version(self, path: str) -> str | None:
        """The version of the k3s binary at path, None if that is not one."""
        if not self.files.is_file(path):
            return None
        content = self.files.content(path)
        return version_of(content.data()) if content.size_bytes < (1 << 20) else None


class Commands(Mapping[str, "Command"]):
    """The commands of a guest at this moment."""

    def __init__(self, guest: GuestMachine) -> None:
        self._guest = guest

    def __getitem__(self, word: str) -> Command:
        surroundings = self._guest.surroundings
        if word in surroundings.guest_commands:
            return partial(surroundings.guest_commands[word], self._guest)
        if word in surroundings.commands:
            return surroundings.commands[word]
        if self._guest.k3s_binary(word):
            return partial(surroundings.kubectl if word == "kubectl" else surroundings.k3s, self._guest)
        raise KeyError(word)

    def __iter__(self) -> Iterator[str]:
        yield from self._guest.surroundings.guest_commands
        yield from self._guest.surroundings.commands

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _proc(guest: GuestMachine) -> Mapping[str, bytes]:
    uptime_s = guest.clock.now() - guest.booted_at
    memory_kib = guest.hardware.memory_mib * 1024
    return {
        "uptime": f"{uptime_s:.2f} {uptime_s:.2f}\n".encode(),
        "meminfo": f"MemTotal: {memory_kib:15} kB\nMemAvailable: {memory_kib * 3 // 4:11} kB\n".encode(),
        "sys/kernel/random/boot_id": f"{guest.boot_id}\n".encode(),
        "sys/kernel/hostname": f"{guest.hostname}\n".encode(),
        "version": b"Linux version 6.8.0-86-generic (buildd@lcy02-amd64-020)\n",
    }
