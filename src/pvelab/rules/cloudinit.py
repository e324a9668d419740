"""The cloud-init data that Proxmox writes for a VM."""

from __future__ import annotations

import hashlib
from urllib.parse import unquote

from pvelab import schema
from pvelab.answers import refused
from pvelab.rules import drives, storages, volume_names
from pvelab.state import Node, Vm, World

CUSTOM_KINDS = ("user", "network", "meta", "vendor")
IPCONFIG = {"format": "pve-qm-ipconfig"}
CICUSTOM = {"format": "pve-qm-cicustom"}
NETMASK_BITS = 32


def user_data(vm: Vm) -> str:
    """The #cloud-config that Proxmox generates."""
    config = vm.config
    hostname = config.get("name", f"VM{vm.vmid}").partition(".")[0]
    domain = config.get("searchdomain", "").partition(" ")[0]
    fqdn = config.get("name", hostname) if "." in config.get("name", "") else f"{hostname}.{domain}".rstrip(".")
    lines = ["#cloud-config", f"hostname: {hostname}", "manage_etc_hosts: true", f"fqdn: {fqdn}"]
    if "ciuser" in config:
        lines.append(f"user: {config['ciuser']}")
    if "cipassword" in config:
        lines.append(f"password: {config['cipassword']}")
    keys = [key.strip() for key in unquote(config.get("sshkeys", "")).splitlines() if key.strip()]
    if keys:
        lines += ["ssh_authorized_keys:", *(f"  - {key}" for key in keys)]
    lines += ["chpasswd:", "  expire: False"]
    if config.get("ciuser") != "root":
        lines += ["users:", "  - default"]
    if config.get("ciupgrade", "1") == "1":
        lines.append("package_upgrade: true")
    return "\n".join(lines) + "\n"


def network_data(world: World, vm: Vm) -> str:
    """The network configuration, version 1."""
    lines = ["version: 1", "config:"]
    for number in range(schema.COUNTS["net"]):
        if f"net{number}" in vm.config:
            lines += _network_card(world, vm, number)
    servers = vm.config.get("nameserver", "").split() or ["10.255.255.53"]
    lines += ["    - type: nameserver", "      address:", *(f"      - '{server}'" for server in servers)]
    domains = vm.config.get("searchdomain", "").split()
    if domains:
        lines += ["      search:", *(f"      - '{domain}'" for domain in domains)]
    return "\n".join(lines) + "\n"


def meta_data(world: World, vm: Vm) -> str:
    """The instance id: it changes whenever the other data does."""
    digest = hashlib.sha1((user_data(vm) + network_data(world, vm)).encode()).hexdigest()
    return f"instance-id: {digest}\n"


def drive(world: World, vm: Vm) -> str:
    """The option of the VM's cloud-init drive, empty if it has none."""
    for option, fields in drives.of_config(world, vm.config):
        if drives.is_cloudinit(fields):
            return option
    return ""


def generate(world: World, node: Node, vm: Vm, log: list[str]) -> None:
    """Write the drive: custom files where cicustom names them, generated data elsewhere. Raises ApiError."""
    seed = {"user": user_data(vm), "network": network_data(world, vm), "meta": meta_data(world, vm), "vendor": ""}
    custom = schema.parse_properties(CICUSTOM, vm.config.get("cicustom", ""))
    for kind, volid in custom.items():
        seed[kind] = _custom_file(world, node, volid)
    vm.cloudinit_seed = seed
    log.append("generating cloud-init ISO")


def _custom_file(world: World, node: Node, volid: str) -> str:
    storage, name = volume_names.split(volid)
    path = volume_names.path(storages.find(world, storage), name)
    if not node.files.is_file(path):
        raise refused(f"volume '{volid}' does not exist")
    return node.files.read(path).decode(errors="replace")


def _network_card(world: World, vm: Vm, number: int) -> list[str]:
    mac = drives.parse_net(world, vm.config[f"net{number}"])["macaddr"].lower()
    fields = schema.parse_properties(IPCONFIG, vm.config.get(f"ipconfig{number}", "ip=dhcp"))
    head = ["    - type: physical", f"      name: eth{number}", f"      mac_address: '{mac}'", "      subnets:"]
    return head + _subnets_v4(fields) + _subnets_v6(fields)


def _subnets_v4(fields: dict[str, str]) -> list[str]:
    address = fields.get("ip")
    if address == "dhcp":
        return ["      - type: dhcp4"]
    if not address:
        return []
    host, _, bits = address.partition("/")
    lines = ["      - type: static", f"        address: '{host}'", f"        netmask: '{_netmask(int(bits))}'"]
    return [*lines, f"        gateway: '{fields['gw']}'"] if "gw" in fields else lines


def _subnets_v6(fields: dict[str, str]) -> list[str]:
    address = fields.get("ip6")
    if address == "dhcp":
        return ["      - type: dhcp6"]
    if address == "auto":
        return ["      - type: ipv6_slaac"]
    if not address:
        return []
    lines = ["      - type: static6", f"        address: '{address}'"]
    return [*lines, f"        gateway: '{fields['gw6']}'"] if "gw6" in fields else lines


def _netmask(bits: int) -> str:
    mask = ((1 << bits) - 1) << (NETMASK_BITS - bits)
    return ".".join(str(mask >> shift & 255) for shift in (24, 16, 8, 0))
