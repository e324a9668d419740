"""What can be wrong with the k3s cluster itself: ghosts, tokens, servers, its API."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from pvelab import breakage
from pvelab.catalogue import Catalogue, UnknownChoice
from pvelab.guest import kube_nodes
from pvelab.guest.ailments import ALL
from pvelab.guest.k3s_cluster import EVICTION_S
from pvelab.guest.k3s_settings import DATA_FOLDER
from pvelab.k3s_pods import pod_on

if TYPE_CHECKING:
    from pvelab.guest.etcd import Etcd, Member
    from pvelab.site import Site

FAULTS = Catalogue("fault")
FAULTS.add("pod-on")(pod_on)
OTHER_SERVER = "k3s-other"
LOST_REMOVAL_S = 7.0
TOKENS = ("foreign", "rotated", "missing")


@FAULTS.add("node-password")
def node_password(site: Site, node: str) -> None:
    """A Secret binds the name of a node that is not there to the password of a disk that is gone."""
    store, name = site.first_cluster().store, kube_nodes.secret_name(node)
    if store.find("nodes", node) or store.find("secrets", name, kube_nodes.SECRETS):
        raise UnknownChoice(f"there is a Node {node} or its password already")
    store.create("secrets", kube_nodes.password_secret(node, secrets.token_hex(16)))

    def repair() -> None:
        if store.find("secrets", name, kube_nodes.SECRETS) and not store.find("nodes", node):
            store.delete("secrets", name, kube_nodes.SECRETS)

    site.repairs.append(repair)


@FAULTS.add("ghost-member")
def ghost_member(site: Site, node: str) -> None:
    """etcd has a voter of that name whose machine and Node are gone; it counts for the quorum."""
    _add_member(site, _etcd(site), node, is_learner=False)


@FAULTS.add("learner")
def learner(site: Site, node: str = "k3s-halfway", for_ever: int = 0) -> None:
    """etcd has a learner that makes no progress; k3s takes it out 5 minutes later (for_ever=1: never)."""
    cluster, etcd = site.first_cluster(), _etcd(site)
    member = _add_member(site, etcd, node, is_learner=True)
    if not int(for_ever):
        cluster.timer.after(EVICTION_S, partial(_take_out, etcd, member))


def _etcd(site: Site) -> Etcd:
    if not site.first_cluster().has_etcd:
        raise UnknownChoice("the cluster is on SQLite and has no etcd")
    return site.first_cluster().etcd


def _add_member(site: Site, etcd: Etcd, node: str, *, is_learner: bool) -> Member:
    member = etcd.add_ghost(f"{node}-{secrets.token_hex(4)}", site.network.outside(200), is_learner=is_learner)
    site.repairs.append(partial(_take_out, etcd, member))
    return member


def _take_out(etcd: Etcd, member: Member) -> None:
    if member in etcd.members:
        etcd.members.remove(member)


@FAULTS.add("server-token")
def server_token(site: Site, how: Literal["foreign", "rotated", "missing"], machine: str = ALL) -> None:
    """The token files of a k3s server hold another cluster's token (foreign) or an old password, or are gone."""
    if how not in TOKENS:
        raise UnknownChoice(f"how={how}: give {', '.join(TOKENS)}")
    tokens = site.first_cluster().tokens
    texts = {
        "foreign": f"K10{secrets.token_hex(32)}::server:{secrets.token_hex(16)}\n",
        "rotated": f"{tokens.full('server:' + secrets.token_hex(16))}\n",
    }
    path = f"{DATA_FOLDER}/server/token"
    for name in _servers(site, machine):
        files = site.guest(name).files
        held = files.read(path)
        if how == "missing":
            files.remove(path)
        else:
            files.provide(path, texts[how].encode(), mode=0o600)
        site.repairs.append(partial(files.provide, path, held, mode=0o600))


@FAULTS.add("kubernetes-api")
async def kubernetes_api(site: Site, machine: str = ALL, mode: Literal["refused", "hang"] = "refused") -> None:
    """Nothing listens on port 6443 of a k3s server, or with mode=hang connections time out; k3s and SSH go on."""
    if mode not in ("refused", "hang"):
        raise UnknownChoice(f"mode={mode}: give refused or hang")
    for name in _servers(site, machine):
        door = site.guests.clusters.door_at(site.guest(name).address)
        if door is None:
            raise UnknownChoice(f"{name} does not listen on 6443")
        await breakage.shut_door(site, door, "hang" if mode == "hang" else "refused")


@FAULTS.add("other-cluster")
async def other_cluster(site: Site) -> None:
    """Another server outside, k3s-other, has a cluster and a CA of its own; its address is 127.X.3.90."""
    own = site.outside_server(1)
    spec = replace(own, address=site.network.outside(90), hostname=OTHER_SERVER, datastore="etcd", config="")
    site.guests.start_existing(spec)
    await site.clock.sleep(20.0)
    await site.guests.settled()
    site.repairs.append(partial(site.guests.existing_off, OTHER_SERVER))


@FAULTS.add("lost-removal")
def lost_removal(site: Site) -> None:
    """A member that was taken out of etcd is back when a server stops within 7 s after (k3s before autumn 2025)."""
    cluster = site.first_cluster()
    cluster.forgets_removals_s = LOST_REMOVAL_S
    site.repairs.append(lambda: setattr(cluster, "forgets_removals_s", 0.0))


def _servers(site: Site, machine: str) -> list[str]:
    servers = [server.node_name for server in site.first_cluster().servers.values()]
    if machine != ALL and machine not in servers:
        raise UnknownChoice(f"no k3s server {machine!r} runs; there are: {', '.join(servers)}")
    return servers if machine == ALL else [machine]
