"""The k3s servers that were there before: somebody else's machines, outside Proxmox, with power unless a fault."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pvelab.guest import ubuntu
from pvelab.guest.install_files import unit_text
from pvelab.guest.k3s_settings import CONFIG_FILE
from pvelab.guest.machine import Disk, GuestMachine, Hardware, Nic, Surroundings
from pvelab.guest.systemd import ADMIN_FOLDER, WANTS_FOLDER

if TYPE_CHECKING:
    from pvelab.certs import SshKeyPair
    from pvelab.clock import LabClock

USER = "ubuntu"
_DISK_BYTES = 40 << 30
_BINARY = "/usr/local/bin/k3s"
_UNIT = f"{ADMIN_FOLDER}/k3s.service"


@dataclass(frozen=True, slots=True)
class ExistingServer:
    """What it is and who may log in; `datastore` is etcd or sqlite, `config` its /etc/rancher/k3s/config.yaml.

    A server that `joins` finds another one's address and the token in its config; one that does not founds a cluster.
    """

    address: str
    version: str
    binary: bytes
    host_key: SshKeyPair
    authorized_key: str
    hostname: str = "k3s-server"
    datastore: str = "etcd"
    config: str = ""
    joins: bool = False

    def installed(self, folder: Path, clock: LabClock) -> Disk:
        """A disk with Ubuntu and k3s, set up but not started yet."""
        disk = ubuntu.new_disk(folder, clock, _DISK_BYTES)
        ubuntu.set_hostname(disk, self.hostname)
        ubuntu.new_identity(disk)
        ubuntu.keep_host_key(disk, self.host_key)
        ubuntu.add_account(disk, USER, [self.authorized_key], sudo=True)
        founds_etcd = self.datastore == "etcd" and not self.joins
        words = ("server", "--cluster-init") if founds_etcd else ("server",)
        disk.files.provide(_BINARY, self.binary, mode=0o755)
        disk.files.make_link("/usr/local/bin/kubectl", "k3s")
        disk.files.provide(_UNIT, unit_text(_UNIT, _BINARY, words).encode())
        disk.files.provide(f"{_UNIT}.env", mode=0o600)
        disk.files.make_link(f"{WANTS_FOLDER}/k3s.service", _UNIT)
        if self.config:
            disk.files.provide(CONFIG_FILE, self.config.encode(), mode=0o600)
        disk.boots = 1
        return disk

    def switched_on(self, disk: Disk, surroundings: Surroundings) -> GuestMachine:
        """The machine, up at once; its k3s starts now."""
        nic = Nic("ens3", _mac(self.hostname), self.address)
        system_uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, self.hostname))
        machine = GuestMachine(disk, Hardware(system_uuid, disk_bytes=_DISK_BYTES, nics=(nic,)), surroundings)
        machine.address, machine.hostname, machine.name = self.address, self.hostname, self.hostname
        machine.has_sshd = machine.is_booted = True
        machine.cloud_init.status = "done"
        machine.systemd.boot()
        return machine


def _mac(hostname: str) -> str:
    """The address of its network card, the same at every start."""
    return f"52:54:00:{hashlib.sha256(hostname.encode()).digest()[:3].hex(':')}"
