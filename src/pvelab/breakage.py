"""How things of a lab are broken, each with its repair; the faults are made of these."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from pvelab.guest.guests import NotRunning
from pvelab.rules import power, storages
from pvelab.shell.entries import Folder
from pvelab.shell.files import FileSystem, Mounted
from pvelab.state import Capacity, Node, Storage

if TYPE_CHECKING:
    from pvelab.door import Door
    from pvelab.site import Site

Service = Literal["api", "ssh"]


async def shut(site: Site, node: Node, service: Service, mode: Literal["refused", "hang"] = "refused") -> None:
    """Nothing listens at a node's API or SSH, or with mode=hang connections time out."""
    if service == "api":
        node.api = "hangs" if mode == "hang" else "refuses"
        site.repairs.append(lambda: setattr(node, "api", "answers"))
    await shut_door(site, (site.doors.api if service == "api" else site.doors.ssh)[node.hostname], mode)


async def power_off(site: Site, node: Node, mode: Literal["refused", "hang"] = "refused") -> None:
    """A node loses power, and with it its VMs and whatever it was doing; nobody is told how that ended."""
    site.doors.cut(node.hostname)
    power.node_went_down(site.world, node)
    site.repairs.append(lambda: power.node_came_up(site.world, node))
    await shut(site, node, "api", mode)
    await shut(site, node, "ssh", mode)


async def shut_door(site: Site, door: Door, mode: Literal["refused", "hang"] = "refused") -> None:
    """Nothing listens at a door, or with mode=hang connections time out."""
    await (door.hang() if mode == "hang" else door.close())
    site.repairs.append(door.open)


def show_foreign(site: Site, node: Node) -> None:
    """A node's API shows a certificate that another authority signed."""
    site.doors.show_foreign(node.hostname, True)
    site.repairs.append(partial(site.doors.show_foreign, node.hostname, False))


def unmount_config(site: Site, node: Node) -> None:
    """The cluster file system of a node is away: /etc/pve is an empty folder."""
    etc = node.files.entry("/etc")
    if not isinstance(etc, Folder) or not node.has_config:
        return
    node.has_config, mounted = False, etc.children["pve"]
    etc.children["pve"] = Folder("root", 0o755, site.clock.now())

    def mount() -> None:
        node.has_config, etc.children["pve"] = True, mounted

    site.repairs.append(mount)


def fill_machine(site: Site, hostname: str, left_bytes: int) -> None:
    """Every file system of a machine, and every storage of a node, has no more than that left."""
    node = site.world.nodes.get(hostname)
    if node is None:
        try:
            fill_files(site, site.machine(hostname).files, left_bytes)
        except (KeyError, NotRunning):
            return
        return
    fill_files(site, node.files, left_bytes)
    for storage in storages.all_storages(site.world).values():
        if storages.is_on(storage, node) and not storage.is_disabled:
            fill_storage(site, node, storage, left_bytes)


def fill_files(site: Site, files: FileSystem, left_bytes: int) -> None:
    """Every file system of a machine has no more than that left."""
    for mounted in files.mounted:
        _take(site, mounted, files.usage(mounted.point).available_bytes - left_bytes)


def fill_storage(site: Site, node: Node, storage: Storage, left_bytes: int) -> None:
    """A storage of a node has no more than that left."""
    room = storages.room(site.world, storage, node)
    is_folder = storages.in_folder(storage)
    holder = node.files.usage(storage.path).mounted if is_folder else site.world.capacities[storages.key(storage, node)]
    _take(site, holder, room.available_bytes - left_bytes)


def _take(site: Site, holder: Mounted | Capacity, wanted_bytes: int) -> None:
    taken_bytes = max(0, wanted_bytes)
    holder.other_bytes += taken_bytes
    site.repairs.append(lambda: setattr(holder, "other_bytes", holder.other_bytes - taken_bytes))
