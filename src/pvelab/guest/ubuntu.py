"""What is on the disk of a machine that was installed from Ubuntu's cloud image."""

from __future__ import annotations

import secrets
from pathlib import Path

from pvelab.certs import SshKeyPair, ssh_key_pair
from pvelab.clock import LabClock
from pvelab.guest.journal import Journal
from pvelab.guest.machine import Disk
from pvelab.guest.systemd import VENDOR_FOLDER, WANTS_FOLDER
from pvelab.machine import Account
from pvelab.shell.files import FileSystem, Mounted

SYSTEM_BYTES = 1_900 << 20
"""What the image's own files take, of which the lab keeps only a few."""
LEAST_BYTES = 3 << 30
"""The size of the image's own file system; it grows to that of its disk at each boot."""
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
MACHINE_ID = "/etc/machine-id"
AGENT_UNIT = "qemu-guest-agent.service"
_FIRST_UID = 1000
_FOLDERS = (
    "/boot",
    "/etc/ssh",
    "/etc/systemd/system",
    "/home",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/srv",
    "/sys",
    "/tmp",
    "/usr/bin",
    "/usr/local/bin",
    "/usr/sbin",
    "/var/lib",
    "/var/log",
    "/var/tmp",
)
_UNITS = {
    "ssh": ("OpenBSD Secure Shell server", "/usr/sbin/sshd -D"),
    "cron": ("Regular background program processing daemon", "/usr/sbin/cron -f -P"),
    "systemd-timesyncd": ("Network Time Synchronization", "/usr/lib/systemd/systemd-timesyncd"),
    "unattended-upgrades": ("Unattended Upgrades Shutdown", "/usr/share/unattended-upgrades/shutdown"),
}
SERVICES = frozenset(command.split()[0] for _, command in _UNITS.values()) | {"/usr/sbin/qemu-ga"}
_OS_RELEASE = """PRETTY_NAME="Ubuntu 24.04.3 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04.3 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
"""


def new_disk(folder: Path, clock: LabClock, size_bytes: int) -> Disk:
    """A disk with the image on it, never booted."""
    files = FileSystem(folder, clock.now)
    files.mounted = [Mounted("/dev/sda1", "ext4", "/", max(size_bytes, LEAST_BYTES), SYSTEM_BYTES)]
    for path in _FOLDERS:
        files.make_folder(path, parents=True)
    files.change("/root", mode=0o700)
    for path in ("/tmp", "/var/tmp"):
        files.change(path, mode=0o1777)
    files.provide("/etc/os-release", _OS_RELEASE.encode())
    files.provide("/etc/hostname", b"ubuntu\n")
    files.provide(MACHINE_ID, b"")
    for name, (description, command) in _UNITS.items():
        add_unit(files, name, description, command, is_wanted=True)
    disk = Disk(files, Journal(clock.now))
    disk.accounts["root"] = Account("root", 0, "/root", sudo=True)
    return disk


def add_unit(files: FileSystem, name: str, description: str, command: str, *, is_wanted: bool) -> None:
    """Install a service as a package does."""
    path = f"{VENDOR_FOLDER}/{name}.service"
    install = "\n[Install]\nWantedBy=multi-user.target\n" if is_wanted else ""
    files.provide(path, f"[Unit]\nDescription={description}\n\n[Service]\nExecStart={command}\n{install}".encode())
    if is_wanted:
        files.make_folder(WANTS_FOLDER, parents=True)
        if not files.exists(f"{WANTS_FOLDER}/{name}.service"):
            files.make_link(f"{WANTS_FOLDER}/{name}.service", path)


def add_account(disk: Disk, name: str, keys: list[str], *, sudo: bool) -> None:
    """Make a user, or give one these keys instead of its own."""
    account = disk.accounts.get(name)
    if account is None:
        home = "/root" if name == "root" else f"/home/{name}"
        account = Account(name, _FIRST_UID + len(disk.accounts) - 1, home)
        disk.accounts[name] = account
        disk.files.make_folder(home, parents=True)
        disk.files.change(home, mode=0o750, owner=name)
    account.sudo = account.sudo or sudo
    account.authorized_keys[:] = keys
    folder = f"{account.home}/.ssh"
    disk.files.make_folder(folder, parents=True)
    disk.files.change(folder, mode=0o700, owner=name)
    lines = "".join(f"{key}\n" for key in keys)
    disk.files.provide(f"{folder}/authorized_keys", lines.encode(), mode=0o600, owner=name)


def new_identity(disk: Disk) -> None:
    """The machine id that systemd makes at the first boot, where none is there."""
    if not disk.files.read(MACHINE_ID).strip():
        disk.files.provide(MACHINE_ID, f"{secrets.token_hex(16)}\n".encode(), mode=0o444)


def keep_host_key(disk: Disk, key: SshKeyPair | None = None) -> None:
    """Put an SSH host key in place, a new one by default."""
    pair = key or ssh_key_pair(f"root@{disk.files.read('/etc/hostname').decode().strip()}")
    disk.files.provide(HOST_KEY, pair.private_openssh, mode=0o600)
    disk.files.provide(f"{HOST_KEY}.pub", f"{pair.public_line}\n".encode())


def set_hostname(disk: Disk, name: str) -> None:
    """Name the machine."""
    disk.files.provide("/etc/hostname", f"{name}\n".encode())
    disk.files.provide("/etc/hosts", f"127.0.1.1 {name} {name}\n127.0.0.1 localhost\n".encode())
