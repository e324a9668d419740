"""What can be broken in a running lab, each with its repair."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pvelab import breakage, guest_faults, image_faults, k3s_faults, request_faults
from pvelab.catalogue import Catalogue, UnknownChoice
from pvelab.identity import TOKEN_NAME, TOKEN_USER
from pvelab.rules import roles, storages
from pvelab.state import Acl

if TYPE_CHECKING:
    from pvelab.site import Site
    from pvelab.state import Node, Task

FAULTS = Catalogue("fault")
ALL = "all"
LEFT_FREE_BYTES = 50 << 20
LACKING_ROLE = "LabLacking"
FAULTS.include(guest_faults.FAULTS)
FAULTS.include(k3s_faults.FAULTS)
FAULTS.add("at", request_faults.At)(request_faults.at_request)
FAULTS.add("on", request_faults.On)(request_faults.on_requests)
FAULTS.add("image-broken")(image_faults.image_broken)
FAULTS.add("sums-broken")(image_faults.sums_broken)
FAULTS.add("image-renewed")(image_faults.image_renewed)


@FAULTS.add("node-down")
async def node_down(site: Site, node: str, mode: Literal["refused", "hang"] = "refused") -> None:
    """A node is off, its VMs too: connections are refused, or with mode=hang time out."""
    found = _node(site, node)
    await breakage.power_off(site, found, _mode(mode))


@FAULTS.add("api-down")
async def api_down(site: Site, node: str = ALL, mode: Literal["refused", "hang"] = "refused") -> None:
    """Nothing listens on port 8006, of one node or of all; SSH answers."""
    for found in _nodes(site, node):
        await _shut(site, found, "api", mode)


@FAULTS.add("ssh-refused")
async def ssh_refused(site: Site, node: str = ALL, mode: Literal["refused", "hang"] = "refused") -> None:
    """Nothing listens on the SSH port, of one node or of all; the API answers."""
    for found in _nodes(site, node):
        await _shut(site, found, "ssh", mode)


@FAULTS.add("bad-certificate")
def bad_certificate(site: Site, node: str = ALL) -> None:
    """The API shows a certificate that another authority signed, on one node or on all."""
    for found in _nodes(site, node):
        breakage.show_foreign(site, found)


@FAULTS.add("stuck-boot")
def stuck_boot(site: Site, vm: str = ALL) -> None:
    """Guests started from now on never come past their kernel: one VM by name, or all."""
    site.guests.stuck.add(vm)
    site.repairs.append(lambda: site.guests.stuck.discard(vm))


@FAULTS.add("agent-missing")
def agent_missing(site: Site, vm: str = ALL) -> None:
    """The guest agent is never installed or does not answer: one VM by name, or all."""
    site.guests.silent.add(vm)
    site.repairs.append(lambda: site.guests.silent.discard(vm))


@FAULTS.add("task-fails")
def task_fails(site: Site, kind: str, text: str = "broken by the lab", node: str = ALL) -> None:
    """Tasks of a kind (qmcreate, qmstart, resize, imgcopy...) fail with that text, on one node or on all."""
    nodes = {found.hostname for found in _nodes(site, node)}

    def fails(task: Task) -> str | None:
        return text if task.type == kind and task.node in nodes else None

    before, site.world.hooks.task_fault = site.world.hooks.task_fault, fails
    site.repairs.append(lambda: setattr(site.world.hooks, "task_fault", before))


@FAULTS.add("storage-full")
def storage_full(site: Site, node: str, storage: str) -> None:
    """A storage of a node has 50 MiB left."""
    found = _node(site, node)
    known = storages.all_storages(site.world)
    if storage not in known or not storages.is_on(known[storage], found):
        raise UnknownChoice(f"no storage {storage!r} on {node}")
    breakage.fill_storage(site, found, known[storage], LEFT_FREE_BYTES)


@FAULTS.add("storage-offline")
def storage_offline(site: Site, storage: str) -> None:
    """The server of a shared storage is away: its volumes cannot be reached from any node."""
    known = storages.all_storages(site.world)
    if storage not in known or not known[storage].is_shared:
        raise UnknownChoice(f"no shared storage {storage!r}")
    site.world.offline_storages.add(storage)
    site.repairs.append(lambda: site.world.offline_storages.discard(storage))


@FAULTS.add("config-missing")
def config_missing(site: Site, node: str = ALL) -> None:
    """The cluster file system does not run: /etc/pve is empty, API and tools cannot tell who asks."""
    for found in _nodes(site, node):
        breakage.unmount_config(site, found)


@FAULTS.add("no-quorum")
def no_quorum(site: Site) -> None:
    """The members do not hear one another, so that none may write to /etc/pve; their APIs answer."""
    site.world.is_split = True
    site.repairs.append(lambda: setattr(site.world, "is_split", False))


@FAULTS.add("token-lacks")
def token_lacks(site: Site, privileges: str, path: str = "/") -> None:
    """The lab's API token has every privilege but these (with + between them), there and below."""
    lacking = frozenset(privileges.split("+"))
    known = roles.privileges(site.world.profile.release)
    if not lacking <= known:
        raise UnknownChoice(f"no privilege {min(lacking - known)!r} in Proxmox VE {site.world.profile.release}")
    token = site.world.tokens[f"{TOKEN_USER}!{TOKEN_NAME}"]
    before = (site.world.roles, site.world.acls, token.is_separated)
    site.world.roles = {**site.world.roles, LACKING_ROLE: known - lacking}
    above = set() if path == "/" else {Acl("/", token.tokenid, "Administrator")}
    site.world.acls = site.world.acls | above | {Acl(path, token.tokenid, LACKING_ROLE)}
    token.is_separated = True

    def give_back() -> None:
        site.world.roles, site.world.acls, token.is_separated = before

    site.repairs.append(give_back)


@FAULTS.add("bridge-missing")
def bridge_missing(site: Site, node: str, bridge: str = "vmbr0") -> None:
    """A node has no such bridge."""
    found = _node(site, node)
    if bridge not in found.interfaces:
        raise UnknownChoice(f"no bridge {bridge!r} on {node}")
    missing = found.interfaces.pop(bridge)
    site.repairs.append(lambda: found.interfaces.update({bridge: missing}))


@FAULTS.add("bridge-down")
def bridge_down(site: Site, node: str, bridge: str = "vmbr0") -> None:
    """A bridge of a node is configured and not up."""
    found = _node(site, node)
    if bridge not in found.interfaces:
        raise UnknownChoice(f"no bridge {bridge!r} on {node}")
    interface = found.interfaces[bridge]
    interface.is_active = False
    site.repairs.append(lambda: setattr(interface, "is_active", True))


@FAULTS.add("host-clock")
def host_clock(site: Site, node: str, seconds: float = -600.0) -> None:
    """The clock of a node is ahead by so many seconds (negative: behind)."""
    found = _node(site, node)
    found.clock_skew_s += seconds
    site.repairs.append(lambda: setattr(found, "clock_skew_s", found.clock_skew_s - seconds))


@FAULTS.add("other-release")
def other_release(site: Site, version: str) -> None:
    """The nodes call themselves by another release of Proxmox VE (such as 8.1.4), and go on as they are."""
    before = site.world.profile
    site.world.profile = replace(before, version=version)
    site.repairs.append(lambda: setattr(site.world, "profile", before))


@FAULTS.add("join-fails")
async def join_fails(site: Site, how: Literal["token-unreadable", "server-down", "k3s-crash"], vm: str = ALL) -> None:
    """k3s cannot be joined: the token cannot be read, the existing server is off, or k3s crashes in one VM."""
    if how == "token-unreadable":
        account = site.guests.existing.accounts["ubuntu"]
        account.sudo = False
        site.repairs.append(lambda: setattr(account, "sudo", True))
    elif how == "server-down":
        site.guests.existing_off()
        site.repairs.append(site.guests.existing_on)
    elif how == "k3s-crash":
        site.guests.crashing.add(vm)
        site.repairs.append(lambda: site.guests.crashing.discard(vm))
    else:
        raise UnknownChoice(f"how={how}: give token-unreadable, server-down or k3s-crash")


async def _shut(site: Site, node: Node, service: Literal["api", "ssh"], mode: str) -> None:
    await breakage.shut(site, node, service, _mode(mode))


def _mode(mode: str) -> Literal["refused", "hang"]:
    if mode not in ("refused", "hang"):
        raise UnknownChoice(f"mode={mode}: give refused or hang")
    return "hang" if mode == "hang" else "refused"


def _nodes(site: Site, name: str) -> list[Node]:
    return list(site.world.nodes.values()) if name == ALL else [_node(site, name)]


def _node(site: Site, name: str) -> Node:
    if name not in site.world.nodes:
        raise UnknownChoice(f"no node {name!r}; there are: {', '.join(site.world.nodes)}")
    return site.world.nodes[name]
