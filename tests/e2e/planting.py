"""How something that is amiss before a run is planted in a lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from e2e.world import twin
from pvelab.lab import Lab
from pvelab.shell.files import Mounted
from pvelab.state import World

EVERY = ["pve1", "pve2", "pve3"]
GIB = 1024**3
ONLY_PVE2 = {"NODE_ENABLED_1": "0", "NODE_ENABLED_3": "0"}
TWO_SERVERS = "two servers"
Settings = Mapping[str, str | None]


@dataclass(frozen=True)
class Fault:
    """Something that is amiss, and all that doctor says of it: where, how bad, what, and a part of the cure."""

    name: str
    plant: Callable[[Lab], object]
    nodes: list[str]
    what: str
    cure: str
    settings: Settings = field(default_factory=dict)
    severity: str = "error"

    def settings_in(self, lab: Lab) -> Settings:
        """The settings with it; the addresses of the lab are known by now."""
        addresses = f"{lab.network.outside(1)}, {lab.network.outside(90)}"
        return {key: addresses if value == TWO_SERVERS else value for key, value in self.settings.items()}


def broken(name: str, **options: object) -> Callable[[Lab], object]:
    return lambda lab: lab.fault(name, **options)


def typed(node: str, command: str) -> Callable[[Lab], object]:
    """What somebody typed as root on a node."""
    return lambda lab: lab.shell(node, command)


def changed(change: Callable[[World], object]) -> Callable[[Lab], object]:
    return lambda lab: lab.look(change)


def nothing(_: Lab) -> None:
    """The fault lies in the settings."""


def full_root(world: World) -> None:
    """The root file system of pve2 is full; its images lie on another one."""
    files = world.nodes["pve2"].files
    (root,) = files.mounted
    files.mounted.append(Mounted("/dev/sdb1", "ext4", "/var/lib/vz", 90 * GIB, 0))
    root.other_bytes += files.usage("/").available_bytes - 4096


def unknown_host_key(lab: Lab) -> None:
    """Nobody has logged in to pve2 from here yet."""
    path = Path(lab.env["SSH_KNOWN_HOSTS"])
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "pve2" not in line and lab.network.node(2) not in line))


def other_cluster(lab: Lab) -> None:
    """There is a second cluster, and somebody has logged in to its server."""
    lab.fault("other-cluster")
    path, key = Path(lab.env["SSH_KNOWN_HOSTS"]), lab.shell("k3s-other", "cat /etc/ssh/ssh_host_ed25519_key.pub")
    path.write_text(f"{path.read_text()}\n[{lab.network.outside(90)}]:{lab.env['VM_SSH_PORT']} {key}")


def twins(lab: Lab) -> None:
    for vmid in (150, 151):
        twin(lab, vmid, "pve2", "k3s-vm-pve2")
