"""Hosts, ports, static addresses: texts -> checked values. As in values.py, no reason repeats the text."""

from __future__ import annotations

import ipaddress
import re

from homelab.config.values import BadValue, port
from homelab.settings import is_address

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_CIDR = re.compile(r"[0-9A-Fa-f.:]+/[0-9]{1,3}")
_LONGEST_HOST_NAME = 253
_K3S_PORT = 6443
_HOST_WANTED = "an address or a host name, such as 192.168.4.11 or pve.maas"
_IP_CONFIG_WANTED = "dhcp, or an address with its gateway, such as ip=192.168.4.50/24,gw=192.168.4.1"
_DYNAMIC = {"ip": ("dhcp",), "ip6": ("dhcp", "auto")}
_GATEWAY_OF = {"ip": "gw", "ip6": "gw6"}
_VERSION_OF = {"ip": 4, "ip6": 6}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def host(text: str) -> str:
    """An address or a host name, without port."""
    if is_address(text):
        return text
    labels = text.split(".")
    is_name = len(text) <= _LONGEST_HOST_NAME and all(_LABEL.fullmatch(label) for label in labels)
    if not is_name or labels[-1].isdigit():
        raise BadValue("it is neither an address nor a host name", _HOST_WANTED)
    return text


def node_name(text: str) -> str:
    """A node as NODE_n names it: its Proxmox name, full host name, or address."""
    try:
        return host(text)
    except BadValue as bad:
        raise BadValue(bad.why, "the name of the Proxmox node; address and port belong into NODE_HOST_n") from bad


def host_and_port(text: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `[IPv6]` or `[IPv6]:port`."""
    bracketed = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", text)
    if bracketed:
        name, number = bracketed.groups()
    elif text.count(":") == 1:
        name, number = text.split(":")
    else:
        name, number = text, None
    try:
        return host(name), None if number is None else port(number)
    except BadValue as bad:
        raise BadValue(f"as host and port, {bad.why}", "host or host:port, such as 192.168.4.11:8006") from bad


def domain(text: str) -> str:
    try:
        return host(text.strip("."))
    except BadValue as bad:
        raise BadValue("it is not a domain", "the domain of the nodes, such as maas") from bad


def hosts(text: str) -> tuple[str, ...]:
    """Servers by address or host name, separated by commas or blanks; each once, in their order."""
    wanted = "addresses of k3s servers separated by commas, without https:// and port; a VIP belongs in K3S_SERVER_URL"
    try:
        found = tuple(dict.fromkeys(host(part) for part in re.split(r"[,;\s]+", text) if part))
    except BadValue as bad:
        raise BadValue(bad.why, wanted) from bad
    if not found:
        raise BadValue("it names no server", wanted)
    return found


def k3s_url(text: str) -> str:
    """Where members join, as https://HOST:PORT; the port is 6443 unless it is given."""
    wanted = "the address at which any k3s server answers, such as https://192.168.4.200:6443"
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "https":
        raise BadValue("k3s is joined over https only", wanted)
    try:
        name, number = host_and_port((rest if separator else text).rstrip("/"))
    except BadValue as bad:
        raise BadValue(bad.why, wanted) from bad
    return f"https://{f'[{name}]' if ':' in name else name}:{number or _K3S_PORT}"


def nameservers(text: str) -> str:
    """Addresses separated by commas or spaces, as Proxmox wants them: separated by spaces."""
    parts = [part for part in re.split(r"[,\s]+", text) if part]
    if not parts or not all(is_address(part) for part in parts):
        raise BadValue("not every part of it is an address", "addresses of name servers, such as 192.168.4.1")
    return " ".join(parts)


def ip_config(text: str) -> str:
    """CLOUD_IP_CONFIG as Proxmox' ipconfig0: `dhcp` becomes `ip=dhcp`, the rest is checked and kept."""
    if text.lower() == "dhcp":
        return "ip=dhcp"
    given: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in ("ip", "gw", "ip6", "gw6") or name in given:
            raise BadValue("it is not made of ip=, gw=, ip6= and gw6=, each at most once", _IP_CONFIG_WANTED)
        given[name] = value
    for family, gateway in _GATEWAY_OF.items():
        _check_family(family, given.get(family), given.get(gateway))
    return ",".join(f"{name}={value}" for name, value in given.items())


def static_addresses(checked_ip_config: str) -> tuple[Address, ...]:
    """The fixed addresses in what ip_config() returned."""
    parts = dict(part.split("=", 1) for part in checked_ip_config.split(","))
    fixed = (value for family, value in parts.items() if family in _DYNAMIC and value not in _DYNAMIC[family])
    return tuple(ipaddress.ip_interface(value).ip for value in fixed)


def _check_family(family: str, address: str | None, gateway: str | None) -> None:
    """Check ip with gw, or ip6 with gw6."""
    if address is None or address in _DYNAMIC[family]:
        if gateway is not None:
            raise BadValue("a gateway needs a fixed address beside it", _IP_CONFIG_WANTED)
        return
    try:
        interface = ipaddress.ip_interface(address)
        router = None if gateway is None else ipaddress.ip_address(gateway)
    except ValueError:
        raise BadValue("an address or gateway in it cannot be read", _IP_CONFIG_WANTED) from None
    if not _CIDR.fullmatch(address) or interface.version != _VERSION_OF[family]:
        raise BadValue("an address in it lacks its /prefix or is of the other IP version", _IP_CONFIG_WANTED)
    _check_in_network(interface, router)


def _check_in_network(
    interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface,
    router: Address | None,
) -> None:
    """A /32 or /128 stands alone; everything else is a host of its network, as is its router."""
    network = interface.network
    if network.num_addresses > 2 and interface.ip in (network.network_address, network.broadcast_address):
        raise BadValue("its address is the one of the network itself, not of a host", _IP_CONFIG_WANTED)
    if router is None or network.num_addresses == 1 or router.is_link_local:
        return
    if router not in network or router == interface.ip:
        raise BadValue("its gateway is not another host of its network", _IP_CONFIG_WANTED)
