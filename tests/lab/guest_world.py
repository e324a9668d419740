"""A small world for tests of guests: one node, one storage, time that passes by sleeping, real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pvelab.certs import SshKeyPair, ssh_key_pair
from pvelab.clock import LabClock
from pvelab.guest.existing import ExistingServer
from pvelab.guest.guests import Guests
from pvelab.guest.k3s_cluster import Cluster
from pvelab.guest.k3s_release import k3s_binary
from pvelab.guest.k3s_tokens import ca_hash
from pvelab.guest.machine import GuestMachine
from pvelab.machine import Machine
from pvelab.network import Network, claim_network
from pvelab.qcow2 import qcow2_image
from pvelab.rules import cloudinit, storages
from pvelab.shell.contents import Memory
from pvelab.shell.coreutils import COMMANDS
from pvelab.shell.files import FileSystem
from pvelab.shell.run import Result, run
from pvelab.state import GIB, Node, Storage, Vm, Volume, World

PERSON = ssh_key_pair("person@lab")
VERSION = "v1.33.5+k3s1"
AGENT = "#cloud-config\npackages:\n  - qemu-guest-agent\n"
IMAGE = Memory(qcow2_image(3 * GIB, seed=7))


class SteppedClock:
    """A clock shared with the lab that moves only when somebody waits."""

    def __init__(self) -> None:
        self.time_s = 1_760_000_000.0

    def now(self) -> float:
        return self.time_s

    def advance(self, seconds: float) -> None:
        self.time_s += seconds

    def subscribe(self, listener: Callable[[], None]) -> None:
        del listener


class Bench:
    """The world with its guests."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.network = network
        self.clock = LabClock(asyncio.get_running_loop(), SteppedClock())
        self.guests = Guests(self.clock, network, folder / "guests")
        self.world = World(self.clock, folder, FileSystem(folder / "pve", self.clock.now), self.guests)
        self.node = Node(
            "pve1", network.node(1), self.clock, FileSystem(folder / "pve1", self.clock.now), commands=COMMANDS
        )
        self.node.files.make_folder("/var/lib/vz/images", parents=True)
        self.world.nodes["pve1"] = self.node
        storages.write(self.world, [Storage("local-lvm", "lvmthin", options={"content": "images"})])
        self.guests.world = self.world

    def vm(self, vmid: int = 100, name: str = "", vendor: str = AGENT, **config: str) -> Vm:
        """A VM from the cloud image, as Proxmox would have made it; still off."""
        wanted = {
            "name": name or f"vm{vmid}",
            "memory": "2048",
            "cores": "2",
            "scsi0": f"local-lvm:vm-{vmid}-disk-0,size=20G",
            "ide2": f"local-lvm:vm-{vmid}-cloudinit,media=cdrom",
            "boot": "order=scsi0",
            "net0": f"virtio=BC:24:11:00:00:{vmid:02X},bridge=vmbr0",
            "smbios1": f"uuid=00000000-0000-4000-8000-{vmid:012d}",
            "agent": "1",
            "ciuser": "ubuntu",
            "ciupgrade": "0",
            "ipconfig0": "ip=dhcp",
            "sshkeys": quote(PERSON.public_line, safe=""),
        }
        vm = Vm(vmid, "pve1", wanted | config, self.clock.now())
        self.world.vms[vmid] = vm
        self.new_disk(vm)
        vm.cloudinit_seed = {
            "user": cloudinit.user_data(vm),
            "network": cloudinit.network_data(self.world, vm),
            "meta": cloudinit.meta_data(self.world, vm),
            "vendor": vendor,
        }
        return vm

    def new_disk(self, vm: Vm, origin: Memory | None = IMAGE) -> None:
        """Give the VM another disk under the same name."""
        held = self.world.volumes.setdefault(("pve1", "local-lvm"), {})
        for name, size in ((f"vm-{vm.vmid}-disk-0", 20 * GIB), (f"vm-{vm.vmid}-cloudinit", 4 << 20)):
            held[name] = Volume("local-lvm", name, "raw", size, vm.vmid, self.clock.now(), origin=origin)

    def on(self, vm: Vm) -> GuestMachine:
        """Switch it on."""
        vm.qmp = "running"
        self.guests.power_on(vm)
        return self.guests.machine_in(vm)

    async def booted(self, vm: Vm) -> GuestMachine:
        """Switch it on and wait until cloud-init has finished."""
        machine = self.on(vm)
        await self.passes(40)
        return machine

    async def passes(self, seconds: float) -> None:
        """Let lab time pass, in small steps."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            await self.clock.sleep(0.5)

    def existing(self, datastore: str = "etcd", key: SshKeyPair = PERSON) -> GuestMachine:
        """The k3s server outside."""
        return self.guests.start_existing(
            ExistingServer(
                address=self.network.outside(1),
                version=VERSION,
                binary=k3s_binary(VERSION),
                host_key=ssh_key_pair("root@k3s-server"),
                authorized_key=key.public_line,
                datastore=datastore,
            )
        )

    @property
    def cluster(self) -> Cluster:
        """The existing server's cluster."""
        return self.guests.clusters.endpoints[self.network.outside(1)].cluster

    def cluster_of(self, machine: GuestMachine) -> Cluster:
        """The cluster whose CA a member of it keeps."""
        pem = machine.files.read("/var/lib/rancher/k3s/agent/server-ca.crt")
        return self.guests.clusters.by_hash[ca_hash(pem)]


async def shell(machine: Machine, line: str, user: str = "root", stdin: bytes = b"") -> Result:
    """Run a command line on a machine."""
    return await run(machine, user, line, stdin)


async def output(machine: Machine, line: str, user: str = "root", stdin: bytes = b"") -> str:
    """What a command line that succeeds prints."""
    result = await run(machine, user, line, stdin)
    assert result.exit_code == 0, result
    return result.out.decode()


Scenario = Callable[[Bench], Coroutine[Any, Any, None]]


def play(folder: Path, scenario: Scenario) -> None:
    """Run a scenario in a world of its own."""

    async def whole() -> None:
        network = claim_network()
        bench = Bench(folder, network)
        try:
            await scenario(bench)
        finally:
            await bench.guests.close()
            network.release()

    asyncio.run(whole())
