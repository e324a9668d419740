"""A new world as the spec describes it: nodes with their files, storages, bridges, accounts; one API token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pvelab.clock import LabClock
from pvelab.identity import TOKEN_NAME, TOKEN_USER, Identity
from pvelab.machine import Account, GuestSide
from pvelab.network import Network
from pvelab.rules import storages
from pvelab.shell.entries import Folder, Link
from pvelab.shell.files import FileSystem, Mounted
from pvelab.shell.overlaid import Overlaid
from pvelab.spec import GIB, LabSpec, NodeSpec, StorageSpec
from pvelab.state import Capacity, Interface, Node, Profile, Storage, Token, User, World

ROOT_DISK_BYTES = 94 * GIB
ROOT_FILES_BYTES = 3 * GIB
_OS_RELEASE = {
    major: (
        f'PRETTY_NAME="Debian GNU/Linux {number} ({name})"\nNAME="Debian GNU/Linux"\nVERSION_ID="{number}"\n'
        f'VERSION="{number} ({name})"\nVERSION_CODENAME={name}\nID=debian\n'
    )
    for major, number, name in (("9", "13", "trixie"), ("8", "12", "bookworm"))
}
_IN_FOLDER = "dir"
_SYSTEM_FOLDERS = ("/root", "/var/log", "/run")
_SHARED_FOLDERS = ("/tmp", "/var/tmp")
_STORAGE_FOLDERS = ("template/iso", "template/cache", "snippets", "import", "images", "dump")
_PROFILES = {
    "9.2": Profile(),
    "8.4": Profile(
        "8.4", "8.4.14", "b502d23c55afcba1", "9.2.0", "6.8.12-15-pve", "#1 SMP PREEMPT_DYNAMIC PMX 6.8.12-15"
    ),
    "8.2": Profile("8.2", "8.2.7", "3e0176e6bb2ade3b", "9.0.2", "6.8.12-2-pve", "#1 SMP PREEMPT_DYNAMIC PMX 6.8.12-2"),
}


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a world is built from."""

    spec: LabSpec
    network: Network
    clock: LabClock
    folder: Path
    identity: Identity

    def files(self, disk_bytes: int = ROOT_DISK_BYTES) -> FileSystem:
        """An empty file system of a machine."""
        return FileSystem(self.folder / "spool", self.clock.now, disk_bytes)


def new_world(blueprint: Blueprint, guests: GuestSide) -> World:
    """The cluster as it is after its nodes were installed, with nothing on them."""
    spec = blueprint.spec
    world = World(
        clock=blueprint.clock,
        folder=blueprint.folder / "spool",
        pve=blueprint.files(),
        guests=guests,
        profile=_PROFILES[spec.pve_version],
        cluster_name=spec.cluster,
    )
    for number, node_spec in enumerate(spec.nodes, start=1):
        node = world.nodes[node_spec.name] = _node(blueprint, number, node_spec)
        _share_cluster_files(node, world.pve)
        for storage in node_spec.storages:
            if storage.type != _IN_FOLDER:
                world.capacities[(node_spec.name, storage.name)] = Capacity(storage.size_bytes, 0)
    everywhere = {node.name for node in spec.nodes}
    shared = [_storage(one, set(nodes), everywhere, spec.pve_version) for one, nodes in spec.storages.values()]
    storages.write(world, shared)
    _write_cluster_files(blueprint, world)
    world.users[TOKEN_USER] = User(TOKEN_USER)
    token = Token(TOKEN_USER, TOKEN_NAME, blueprint.identity.token_secret, is_separated=False)
    world.tokens[token.tokenid] = token
    return world


def _node(blueprint: Blueprint, number: int, spec: NodeSpec) -> Node:
    address, identity = blueprint.network.node(number), blueprint.identity
    root = Account("root", 0, "/root", [identity.person.public_line], sudo=True)
    return Node(
        hostname=spec.name,
        address=address,
        clock=blueprint.clock,
        files=_node_files(blueprint, spec, address),
        nodeid=number,
        cpus=spec.cpus,
        memory_bytes=spec.memory_mib << 20,
        booted_at=blueprint.clock.now() - blueprint.spec.host_uptime_s,
        fingerprint=identity.certificates[spec.name].fingerprint,
        accounts={"root": root},
        interfaces=_interfaces(spec, address),
    )


def _interfaces(spec: NodeSpec, address: str) -> dict[str, Interface]:
    found: dict[str, Interface] = {}
    for position, bridge in enumerate(spec.bridges):
        port = f"eno{position + 1}"
        found[port] = Interface(port, "eth")
        network = address.rsplit(".", 2)[0]
        is_first = position == 0
        found[bridge] = Interface(
            bridge,
            cidr=f"{address}/16" if is_first else "",
            gateway=f"{network}.0.1" if is_first else "",
            ports=port,
        )
    return found


def _node_files(blueprint: Blueprint, spec: NodeSpec, address: str) -> FileSystem:
    files, domain = blueprint.files(), blueprint.spec.domain
    files.mounted = [Mounted("/dev/mapper/pve-root", "ext4", "/", ROOT_DISK_BYTES, ROOT_FILES_BYTES)]
    for path in _SYSTEM_FOLDERS:
        files.make_folder(path, parents=True)
    for path in _SHARED_FOLDERS:
        files.make_folder(path, parents=True, mode=0o1777)
    for storage in spec.storages:
        for name in _STORAGE_FOLDERS if storage.type == _IN_FOLDER else ():
            files.make_folder(f"{storage.path}/{name}", parents=True)
    files.provide("/etc/network/interfaces", _network(spec, address).encode())
    files.provide("/etc/os-release", _OS_RELEASE[blueprint.spec.pve_version[0]].encode())
    files.provide("/etc/hostname", f"{spec.name}\n".encode())
    files.provide("/etc/hosts", f"127.0.0.1 localhost\n{address} {spec.name}.{domain} {spec.name}\n".encode())
    return files


def _network(spec: NodeSpec, address: str) -> str:
    """As the installer writes it: each bridge with one port, the first with the node's address."""
    stanzas = ["auto lo\niface lo inet loopback\n"]
    gateway = address.rsplit(".", 2)[0] + ".0.1"
    for number, bridge in enumerate(spec.bridges, 1):
        has_address = number == 1
        static = f"\taddress {address}/16\n\tgateway {gateway}\n" if has_address else ""
        ports = f"\tbridge-ports eno{number}\n\tbridge-stp off\n\tbridge-fd 0\n"
        kind = "static" if has_address else "manual"
        stanzas.append(f"iface eno{number} inet manual\n")
        stanzas.append(f"auto {bridge}\niface {bridge} inet {kind}\n{static}{ports}")
    return "\n".join(stanzas)


def _share_cluster_files(node: Node, pve: FileSystem) -> None:
    """/etc/pve is one file system on all members, in which each finds its own folder under `local`."""
    etc = node.files.entry("/etc")
    if isinstance(etc, Folder):
        now, home = node.clock.now(), f"nodes/{node.hostname}"
        own = {"local": Link("root", now, home), "qemu-server": Link("root", now, f"{home}/qemu-server")}
        etc.children["pve"] = Folder("root", 0o755, now, Overlaid(pve.root.children, own))


def _storage(spec: StorageSpec, nodes: set[str], everywhere: set[str], release: str) -> Storage:
    options = {"path": spec.path} if spec.path else {}
    if spec.type == "lvmthin":
        options |= {"thinpool": "data", "vgname": "pve"}
    elif spec.type == "zfspool":
        options |= {"pool": "rpool/data", "sparse": "1"}
    options["content"] = ",".join(spec.content)
    if nodes != everywhere:
        options["nodes"] = ",".join(sorted(nodes))
    return storages.from_options(spec.name, spec.type, options, release)


def _write_cluster_files(blueprint: Blueprint, world: World) -> None:
    identity = blueprint.identity
    world.pve.provide("/pve-root-ca.pem", identity.authority_pem, mode=0o640)
    for name in world.nodes:
        folder = f"/nodes/{name}"
        kind, key = identity.host_keys[name].public_line.split()[:2]
        world.pve.provide(f"{folder}/ssh_known_hosts", f"{name} {kind} {key}".encode(), mode=0o640)
        world.pve.provide(f"{folder}/pve-ssl.pem", identity.certificates[name].certificate_pem, mode=0o640)
    world.pve.provide("/datacenter.cfg", b"keyboard: en-us\n", mode=0o640)
    if world.cluster_name:
        world.pve.provide("/corosync.conf", _corosync(world).encode(), mode=0o640)


def _corosync(world: World) -> str:
    members = "".join(
        f"  node {{\n    name: {node.hostname}\n    nodeid: {node.nodeid}\n    quorum_votes: 1\n"
        f"    ring0_addr: {node.address}\n  }}\n"
        for node in world.nodes.values()
    )
    return (
        "logging {\n  debug: off\n  to_syslog: yes\n}\n\n"
        f"nodelist {{\n{members}}}\n\n"
        "quorum {\n  provider: corosync_votequorum\n}\n\n"
        f"totem {{\n  cluster_name: {world.cluster_name}\n  config_version: {len(world.nodes)}\n"
        "  interface {\n    linknumber: 0\n  }\n  ip_version: ipv4-6\n  link_mode: passive\n"
        "  secauth: on\n  version: 2\n}\n"
    )
