"""The admin who built a seed's world: root at a node's shell, and logged in to the guests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import yaml

from pvelab import progress, sources
from pvelab.api import ROOT_SSH, Api
from pvelab.guest import kube_nodes, kube_pods
from pvelab.guest.k3s_settings import CONFIG_FILE
from pvelab.machine import Machine
from pvelab.network import K3S_PORT
from pvelab.shell.run import run
from pvelab.spec import NodeSpec

if TYPE_CHECKING:
    from pvelab.guest.existing import ExistingServer
    from pvelab.site import Site
    from pvelab.state import Vm

USER = "ubuntu"
FIRST_VMID = 100
SNIPPET = "guest-agent.yaml"
_VENDOR_DATA = b"#cloud-config\npackages:\n  - qemu-guest-agent\n"
_IMAGE_ON_NODE = "/root/cloud.img"
_PATIENCE_S = 900.0
_LOOK_EVERY_S = 1.0


class SeedFailed(Exception):
    """The lab's own rules refused what a seed does."""


@dataclass(frozen=True, slots=True)
class Admin:
    """Builds by the cluster's own rules, in the lab's past."""

    site: Site

    async def wait(self, seconds: float) -> None:
        """Let lab time pass."""
        await self.site.clock.sleep(seconds)

    async def call(self, method: str, path: str, **params: str) -> Any:
        """One API call as root on the node that the path names."""
        node = path.split("/")[2] if path.startswith("/nodes/") else next(iter(self.site.world.nodes))
        answer = await Api(self.site.world).call(method, path, params, ROOT_SSH, node)
        return answer.data

    async def task(self, method: str, path: str, **params: str) -> None:
        """One call that starts a task, waited for. Raises SeedFailed."""
        upid = await self.call(method, path, **params)
        task = await progress.wait(self.site.world, upid)
        if task.exitstatus != "OK":
            raise SeedFailed(f"{method} {path}: {task.exitstatus}")

    async def start_existing(self, server: ExistingServer) -> None:
        """Switch a k3s server outside on, and wait until its Node is Ready and, with etcd, votes."""
        self.site.guests.start_existing(server)
        await self.wait_for_member(server.hostname, is_server=True)

    async def wait_for_member(self, name: str, *, is_server: bool) -> None:
        """Wait until a Node is Ready and, if a server with etcd, votes."""
        await self._until(lambda: self._has_joined(name, is_server=is_server), f"join of {name}")

    async def wait_for_pods(self) -> None:
        """Wait until k3s's own pods run."""
        await self._until(self._runs_pods, "start of the cluster's pods")

    async def create_vm(self, spec: NodeSpec, tags: str, **own: str) -> Vm:
        """Make a node's VM from the cloud image, with settings of its `own` beside the usual ones.

        It is not started, and its disk is as large as the image.
        """
        world = self.site.world
        vmid = max(world.vms, default=FIRST_VMID - 1) + 1
        node = world.nodes[spec.name]
        node.files.provide(_IMAGE_ON_NODE, self.site.image)
        node.files.provide(f"/var/lib/vz/snippets/{SNIPPET}", _VENDOR_DATA)
        await self.task("POST", f"/nodes/{spec.name}/qemu", vmid=str(vmid), **self._settings(spec, tags) | own)
        node.files.remove(_IMAGE_ON_NODE)
        return world.vms[vmid]

    async def grow_and_start(self, vm: Vm) -> None:
        """Give the disk its size and switch the VM on."""
        base = f"/nodes/{vm.node}/qemu/{vm.vmid}"
        await self.task("PUT", f"{base}/resize", disk="scsi0", size=self.site.spec.disk_size)
        await self.call("PUT", f"{base}/config", cicustom=f"vendor=local:snippets/{SNIPPET}")
        await self.task("POST", f"{base}/status/start")

    async def wait_for_boot(self, vm: Vm) -> None:
        """Wait until cloud-init has finished, then take the snippet away again."""
        await self._until(lambda: self.site.guests.machine_in(vm).cloud_init.status == "done", f"boot of {vm.name}")
        await self.call("PUT", f"/nodes/{vm.node}/qemu/{vm.vmid}/config", delete="cicustom")
        self.site.world.nodes[vm.node].files.remove(f"/var/lib/vz/snippets/{SNIPPET}")

    async def join(self, vm: Vm, role: str) -> None:
        """Install k3s in the guest as k3s's documents say, and wait until its Node is Ready and, if a server, votes."""
        machine, existing = self.site.guests.machine_in(vm), self.site.first_server()
        token = (await self.shell(existing, "cat /var/lib/rancher/k3s/server/token")).strip()
        flags = self.site.k3s_settings if role == "server" else {}
        joining = {"server": f"https://{existing.address}:{K3S_PORT}", "token": token}
        await self.write_config(machine, yaml.safe_dump(flags | joining))
        await self.install_k3s(machine, role)
        await self.wait_for_member(vm.name, is_server=role == "server")

    async def write_config(self, machine: Machine, config: str) -> None:
        """Write k3s's config.yaml, for root's eyes only."""
        await self.shell(machine, "mkdir -p /etc/rancher/k3s")
        await self.shell(machine, f"umask 077; cat > {CONFIG_FILE}", config.encode())

    async def install_k3s(self, machine: Machine, words: str) -> None:
        """Fetch the install script and let it install the lab's k3s as `words` (server or agent, and flags) say."""
        await self.shell(machine, f"curl -sfLo /root/install.sh {self.site.base_url}{sources.INSTALLER_PATH}")
        await self.shell(
            machine,
            f"INSTALL_K3S_VERSION={self.site.spec.k3s_version} INSTALL_K3S_EXEC='{words}' "
            f"INSTALL_K3S_ARTIFACT_URL={self.site.base_url}{sources.RELEASES_FOLDER} sh /root/install.sh",
        )
        await self.shell(machine, "rm /root/install.sh")

    async def shell(self, machine: Machine, line: str, stdin: bytes = b"") -> str:
        """Run a command line as root on a machine; its output. Raises SeedFailed."""
        result = await run(machine, "root", line, stdin)
        if result.exit_code:
            raise SeedFailed(f"{machine.hostname}: {line!r} ended with {result.exit_code}: {result.err.decode()}")
        return result.out.decode()

    def _settings(self, spec: NodeSpec, tags: str) -> dict[str, str]:
        storage = spec.disk_storage or spec.storage
        found = {
            "name": f"k3s-vm-{spec.name}",
            "cores": str(max(1, int(spec.cpus * spec.cpu_ratio))),
            "memory": str(int(spec.memory_mib * spec.memory_ratio)),
            "cpu": "host",
            "ostype": "l26",
            "scsihw": "virtio-scsi-single",
            "scsi0": f"{storage}:0,import-from={_IMAGE_ON_NODE},discard=on,iothread=1",
            "ide2": f"{storage}:cloudinit",
            "boot": "order=scsi0",
            "serial0": "socket",
            "agent": "1",
            "onboot": "1",
            "ciuser": USER,
            "ciupgrade": "0",
            "sshkeys": quote(self.site.identity.person.public_line, safe=""),
            "ipconfig0": "ip=dhcp",
        }
        found |= {"tags": tags} if tags else {}
        return found | {f"net{position}": f"virtio,bridge={bridge}" for position, bridge in enumerate(spec.bridges)}

    def _has_joined(self, name: str, *, is_server: bool) -> bool:
        """Is the Node Ready and, if a server with etcd, a voter?"""
        cluster = next(iter(self.site.guests.clusters.by_hash.values()), None)
        node = cluster.store.find("nodes", name) if cluster else None
        if cluster is None or node is None or not kube_nodes.is_ready(node):
            return False
        votes = any(member.name.startswith(f"{name}-") for member in cluster.etcd.voters)
        return votes or not is_server or not cluster.has_etcd

    def _runs_pods(self) -> bool:
        """Is every pod of the cluster healthy?"""
        cluster = next(iter(self.site.guests.clusters.by_hash.values()))
        return all(map(kube_pods.is_healthy, cluster.store.list("pods")))

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        waited_s = 0.0
        while not condition():
            if waited_s > _PATIENCE_S:
                raise SeedFailed(f"{what}: not done after {_PATIENCE_S:g} s")
            await self.wait(_LOOK_EVERY_S)
            waited_s += _LOOK_EVERY_S
