"""What can be wrong with single guests and k3s servers; machines are named as VMs are, servers outside by host name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from pvelab import breakage
from pvelab.catalogue import Catalogue, UnknownChoice
from pvelab.commands.neighbours import STATES, Neighbour
from pvelab.guest.ailments import ALL, Ailment, Flapping, Wall
from pvelab.guest.guests import NotRunning
from pvelab.guest.k3s_release import release_files
from pvelab.sources import RELEASES_FOLDER, Damage
from pvelab.spec import K3S_RELEASES

if TYPE_CHECKING:
    from pvelab.site import Site

FAULTS = Catalogue("fault")
LEFT_BYTES = 40 << 20
"""What a full disk of a guest has left: too little for k3s to unpack itself."""
CLOUD_INIT = ("error", "degraded", "hang")
DAMAGES = {"truncated": Damage.TRUNCATED, "wrong-checksum": Damage.WRONG_CONTENT, "missing": Damage.MISSING}
TROUBLES = {
    "memory-cgroup": Ailment.NO_CGROUP,
    "containerd": Ailment.CONTAINERD,
    "apparmor": Ailment.APPARMOR,
    "no-registry": Ailment.NO_IMAGES,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a node's neighbour table, of one node or of all."""

    address: str
    mac: str = ""
    vm: str = ""
    state: str = "STALE"
    device: str = "vmbr0"
    node: str = ALL


def _check(site: Site, machine: str) -> None:
    """Raises UnknownChoice for a machine that is neither there nor may come."""
    known = [*site.k3s_machines, *site.guests.outsiders, *(f"k3s-vm-{node.name}" for node in site.spec.nodes)]
    vms = [vm.name for vm in site.world.vms.values()]
    if machine not in (ALL, *known, *vms):
        raise UnknownChoice(f"no machine {machine!r}; there are or may be: {', '.join(dict.fromkeys([*known, *vms]))}")


def _plant(site: Site, machine: str, ailment: Ailment, how: object = True) -> None:
    _check(site, machine)
    site.repairs.append(site.guests.ailments.plant(machine, ailment, how))


@FAULTS.add("guest-ssh")
async def guest_ssh(site: Site, machine: str = ALL, mode: Literal["refused", "hang"] = "refused") -> None:
    """Nothing listens on the SSH port of a guest or k3s server, now and at each later boot; its agent answers."""
    if mode not in ("refused", "hang"):
        raise UnknownChoice(f"mode={mode}: give refused or hang")
    site.repairs.append(partial(_look_at_ssh, site, machine))
    _plant(site, machine, Ailment.SSH, mode)
    await _look_at_ssh(site, machine)


async def _look_at_ssh(site: Site, machine: str) -> None:
    site.guests.look_at_ssh(machine)
    await site.guests.settled()


@FAULTS.add("neighbour", Entry)
def neighbour(site: Site, plan: Entry) -> None:
    """A node's neighbour table (ip neigh) has this entry for an address, instead of what it would have.

    A REACHABLE one is another machine, which answers a ping; any other is gone once somebody answers. Without a mac:
    that of the VM named by vm.
    """
    if plan.state not in STATES:
        raise UnknownChoice(f"state={plan.state}: give {', '.join(STATES)}")
    mac = plan.mac
    if plan.vm:
        _check(site, plan.vm)
        mac = site.guest(plan.vm).hardware.nics[0].mac
    table = site.neighbourhood.planted
    for node in site.world.nodes.values():
        if plan.node in (ALL, node.hostname):
            table[node.hostname, plan.address] = Neighbour(plan.address, plan.device, mac.lower(), plan.state)
            site.repairs.append(partial(table.pop, (node.hostname, plan.address), None))


@FAULTS.add("unheard")
def unheard(site: Site, vm: str) -> None:
    """No node has exchanged a packet with this VM, so that no neighbour table has it until somebody pings it."""
    _check(site, vm)
    site.neighbourhood.unheard.add(vm)
    site.repairs.append(partial(site.neighbourhood.unheard.discard, vm))


@FAULTS.add("server-off")
def server_off(site: Site, machine: str) -> None:
    """A k3s server outside has no power, until it is repaired."""
    if machine not in site.guests.outsiders:
        raise UnknownChoice(f"no k3s server {machine!r} outside, only: {', '.join(site.guests.outsiders)}")
    site.guests.existing_off(machine)
    site.repairs.append(partial(site.guests.existing_on, machine))


@FAULTS.add("wall")
def wall(
    site: Site, machine: str = ALL, port: int = 6443, to: str = ALL, mode: Literal["drop", "reject"] = "drop"
) -> None:
    """A firewall keeps a guest from a port of an address, or of all: packets are dropped, or rejected.

    6443: it cannot join; 2380: a server becomes no member; 8080 to the download server: it gets no files.
    """
    if mode not in ("drop", "reject"):
        raise UnknownChoice(f"mode={mode}: give drop or reject")
    _plant(site, machine, Ailment.WALL, Wall(to, port, mode == "drop"))


@FAULTS.add("clock-skew")
def clock_skew(site: Site, machine: str = ALL, seconds: float = -600.0) -> None:
    """The clock of a guest is ahead by so many seconds (negative: behind), and not synchronised."""
    _plant(site, machine, Ailment.CLOCK, float(seconds))


@FAULTS.add("no-default-route")
def no_default_route(site: Site, machine: str = ALL) -> None:
    """A guest has no default route; k3s does not start without one."""
    _plant(site, machine, Ailment.NO_ROUTE)


@FAULTS.add("guest-disk-full")
def guest_disk_full(site: Site, machine: str, left: int = LEFT_BYTES) -> None:
    """The file systems of a machine that is on have so many bytes left."""
    _check(site, machine)
    try:
        breakage.fill_files(site, site.guest(machine).files, left)
    except (KeyError, NotRunning):
        raise UnknownChoice(f"{machine} is not on") from None


@FAULTS.add("k3s-trouble")
def k3s_trouble(
    site: Site, kind: Literal["memory-cgroup", "containerd", "apparmor", "no-registry"], machine: str = ALL
) -> None:
    """k3s finds its machine wanting at its next start.

    memory-cgroup, containerd: it ends; apparmor (no apparmor_parser), no-registry: Ready, but no container starts.
    """
    if kind not in TROUBLES:
        raise UnknownChoice(f"kind={kind}: give {', '.join(TROUBLES)}")
    _plant(site, machine, TROUBLES[kind])


@FAULTS.add("node-flaps")
def node_flaps(site: Site, machine: str = ALL, after: float = 10.0, seconds: float = 60.0) -> None:
    """A Node whose k3s starts from now on is Ready, `after` so many seconds NotReady, and Ready again in the end."""
    _plant(site, machine, Ailment.FLAPS, Flapping(float(after), float(seconds)))


@FAULTS.add("cloud-init")
def cloud_init(site: Site, how: Literal["error", "degraded", "hang"], machine: str = ALL) -> None:
    """cloud-init of a guest that boots from now on ends in error (exit 1), degraded (2), or never."""
    if how not in CLOUD_INIT:
        raise UnknownChoice(f"how={how}: give {', '.join(CLOUD_INIT)}")
    _plant(site, machine, Ailment.CLOUD_INIT, how)


@FAULTS.add("apt-lock")
def apt_lock(site: Site, machine: str = ALL) -> None:
    """Something holds dpkg's lock in a guest: apt-get fails, and cloud-init's packages are not installed."""
    _plant(site, machine, Ailment.APT_LOCK)


@FAULTS.add("guest-hostname")
def guest_hostname(site: Site, machine: str, name: str = "ubuntu") -> None:
    """A guest that boots from now on has that host name, whatever its cloud-init data say."""
    _plant(site, machine, Ailment.HOSTNAME, name)


@FAULTS.add("new-address")
async def new_address(site: Site, machine: str) -> None:
    """A machine that is on reboots, and DHCP gives it another address; the repair is a reset of the lab."""
    _check(site, machine)
    if machine in site.guests.outsiders:
        site.guests.move_outsider(machine, site.network.moved(site.spec.k3s_servers.index(machine) + 1))
    else:
        vm = next((vm for vm in site.world.vms.values() if vm.name == machine and vm.is_running), None)
        if vm is None:
            raise UnknownChoice(f"{machine} is not on")
        site.guests.reboot_elsewhere(vm)
    await site.guests.settled()


@FAULTS.add("k3s-download")
def k3s_download(site: Site, how: Literal["truncated", "wrong-checksum", "missing"], file: str = "k3s") -> None:
    """The release server sends half of a release's file, another file, or 404: k3s, or the archive of images."""
    if how not in DAMAGES:
        raise UnknownChoice(f"how={how}: give {', '.join(DAMAGES)}")
    if file not in release_files(K3S_RELEASES[0]):
        raise UnknownChoice(f"file={file}: give {', '.join(release_files(K3S_RELEASES[0]))}")
    for version in K3S_RELEASES:
        site.sources.damaged[f"{RELEASES_FOLDER}/{version}/{file}"] = DAMAGES[how]
    site.repairs.append(site.sources.damaged.clear)
