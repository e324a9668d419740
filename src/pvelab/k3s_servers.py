"""The k3s servers that are there before anybody uses the lab: how many, of what kind, and where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import yaml

from pvelab.admin import Admin
from pvelab.catalogue import UnknownChoice
from pvelab.guest import ubuntu
from pvelab.network import K3S_PORT
from pvelab.spec import MOST_SERVERS

if TYPE_CHECKING:
    from pvelab.guest.existing import ExistingServer
    from pvelab.guest.machine import GuestMachine
    from pvelab.site import Site

DATASTORES = ("etcd", "sqlite")
PLACES = ("outside", "vm")
VIRTUAL = ("", "named", "unnamed")
_ADDRESS_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class K3sServers:
    """How a cluster was founded: `datastore` etcd or sqlite, `where` outside of Proxmox or in VMs that are not ours.

    `flags`: lines of each server's config.yaml, name=value with + between. `vip`: an address before all of them, which
    is in their certificates (named) or not (unnamed).
    """

    servers: int = 1
    datastore: str = ""
    where: str = "outside"
    flags: str = ""
    vip: str = ""

    def check(self) -> None:
        """Raises UnknownChoice."""
        if not 1 <= self.servers <= MOST_SERVERS:
            raise UnknownChoice(f"servers={self.servers}: give 1 to {MOST_SERVERS}")
        if self.datastore not in ("", *DATASTORES):
            raise UnknownChoice(f"datastore={self.datastore}: the lab emulates {' and '.join(DATASTORES)} only")
        if self.datastore == "sqlite" and self.servers > 1:
            raise UnknownChoice("datastore=sqlite: k3s on SQLite has one server")
        if self.where not in PLACES:
            raise UnknownChoice(f"where={self.where}: give {' or '.join(PLACES)}")
        if self.vip not in VIRTUAL:
            raise UnknownChoice(f"vip={self.vip}: give named or unnamed")

    def settings(self, virtual_address: str) -> dict[str, object]:
        """What every server's config.yaml holds."""
        pairs = [text.partition("=") for text in self.flags.split("+") if text]
        if any(not sign for _, sign, _ in pairs):
            raise UnknownChoice(f"flags={self.flags}: write name=value, + between them")
        found: dict[str, object] = {name: yaml.safe_load(value) for name, _, value in pairs}
        return found | ({"tls-san": [virtual_address]} if self.vip == "named" else {})


async def set_up(site: Site, plan: K3sServers) -> None:
    """Found the cluster and let the other servers join it, one after the other; all are Ready and voters then.

    Raises UnknownChoice, SeedFailed.
    """
    plan.check()
    datastore = plan.datastore or site.spec.datastore
    settings = site.k3s_settings = plan.settings(site.network.virtual)
    for number, name in enumerate(site.spec.k3s_servers[: plan.servers], start=1):
        joining = await _joining(site) if number > 1 else {}
        config = yaml.safe_dump(settings | joining) if settings or joining else ""
        server = replace(site.outside_server(number), datastore=datastore, config=config, joins=bool(joining))
        site.k3s_machines.append(name)
        await (Admin(site).start_existing(server) if plan.where == "outside" else _start_in_vm(site, server, number))
    if plan.vip:
        site.guests.clusters.stand_before(site.network.virtual, site.first_server().address)
    await Admin(site).wait_for_pods()


async def _joining(site: Site) -> dict[str, object]:
    first = site.first_server()
    token = await Admin(site).shell(first, "cat /var/lib/rancher/k3s/server/token")
    return {"server": f"https://{first.address}:{K3S_PORT}", "token": token.strip()}


async def _start_in_vm(site: Site, server: ExistingServer, number: int) -> None:
    """A VM that somebody else made on one of the nodes, with a fixed address, and k3s installed by its script."""
    admin, nodes = Admin(site), site.spec.nodes
    address = f"ip={server.address}/16,gw={site.network.gateway}"
    vm = await admin.create_vm(nodes[(number - 1) % len(nodes)], tags="", name=server.hostname, ipconfig0=address)
    await admin.grow_and_start(vm)
    await admin.wait_for_boot(vm)
    base = f"/nodes/{vm.node}/qemu/{vm.vmid}/status"
    ubuntu.keep_host_key(site.guests.machine_in(vm).disk, server.host_key)
    await admin.task("POST", f"{base}/stop")
    await admin.task("POST", f"{base}/start")
    await admin.wait(_ADDRESS_SECONDS)
    await install_server(site, site.guests.machine_in(vm), server)


async def install_server(site: Site, machine: GuestMachine, server: ExistingServer) -> None:
    """Run the install script for a server on a machine, and wait until its Node is Ready and votes."""
    admin = Admin(site)
    if server.config:
        await admin.write_config(machine, server.config)
    founds_etcd = server.datastore == "etcd" and not server.joins
    await admin.install_k3s(machine, "server --cluster-init" if founds_etcd else "server")
    await admin.wait_for_member(machine.hostname, is_server=True)
