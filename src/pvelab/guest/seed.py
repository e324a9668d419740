"""The documents on a VM's cloud-init drive, as the guest reads them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

_KNOWN = frozenset(
    {"hostname", "fqdn", "manage_etc_hosts", "preserve_hostname", "user", "password", "ssh_authorized_keys"}
    | {"chpasswd", "users", "groups", "package_update", "package_upgrade", "package_reboot_if_required", "packages"}
    | {"apt", "runcmd", "bootcmd", "write_files", "timezone", "locale", "keyboard", "ntp", "ssh_pwauth"}
    | {"disable_root", "ssh_deletekeys", "ssh_genkeytypes", "growpart", "resize_rootfs", "final_message"}
    | {"power_state", "swap", "mounts", "output", "merge_how", "ca_certs", "snap"}
)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it is: a cluster of guests reads a dozen documents at each beginning."""
_LISTS = ("packages", "runcmd", "bootcmd", "write_files", "users", "ssh_authorized_keys")


@dataclass(frozen=True, slots=True)
class Address:
    """What a network interface is to have: DHCP, or an address with its prefix."""

    address: str = ""
    prefix: int = 24

    @property
    def is_dhcp(self) -> bool:
        """To be asked for by DHCP."""
        return not self.address


@dataclass(slots=True)
class Seed:
    """User data over vendor data, the network by MAC (lower case), and what was wrong with the documents."""

    instance_id: str
    config: dict[str, Any]
    addresses: dict[str, Address]
    warnings: list[str] = field(default_factory=list)


def read_seed(documents: Mapping[str, str]) -> Seed:
    """Read user, vendor, network and meta; what cannot be read counts as empty and is warned about."""
    warnings: list[str] = []
    vendor = _cloud_config(documents.get("vendor", ""), "vendor-data", warnings)
    user = _cloud_config(documents.get("user", ""), "user-data", warnings)
    meta = _mapping(documents.get("meta", ""), "meta-data", warnings)
    network = _mapping(documents.get("network", ""), "network-config", warnings)
    return Seed(str(meta.get("instance-id", "nocloud")), {**vendor, **user}, _addresses(network), warnings)


def _cloud_config(text: str, kind: str, warnings: list[str]) -> dict[str, Any]:
    if not text.strip():
        return {}
    if not text.startswith("#cloud-config"):
        warnings.append(f"Unhandled non-multipart (text/x-not-multipart) userdata: '{text[:24]!r}...' ({kind})")
        return {}
    config = _mapping(text, kind, warnings)
    unknown = sorted(config.keys() - _KNOWN)
    wrong = sorted(key for key in _LISTS if not isinstance(config.get(key, []), list))
    if unknown or wrong:
        warnings.append(
            f"cloud-config failed schema validation! You may run 'sudo cloud-init schema --system' to check the details"
            f" ({kind}: {', '.join(unknown + wrong)})."
        )
    return {key: value for key, value in config.items() if key in _KNOWN and key not in wrong}


def _mapping(text: str, kind: str, warnings: list[str]) -> dict[str, Any]:
    try:
        document = yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as problem:
        first = str(problem).splitlines()[0]
        warnings.append(f"Failed loading yaml blob. Invalid format at {kind}: {first}")
        return {}
    if document is None:
        return {}
    if not isinstance(document, dict):
        warnings.append(f"Failed loading yaml blob. Yaml load allows dict root types, but got another instead: {kind}")
        return {}
    return {str(key): value for key, value in document.items()}


def _addresses(network: Mapping[str, Any]) -> dict[str, Address]:
    found: dict[str, Address] = {}
    for card in network.get("config", []) if network.get("version") == 1 else []:
        if card.get("type") == "physical":
            for subnet in card.get("subnets") or []:
                address = _subnet(subnet)
                if address is not None:
                    found[str(card.get("mac_address", "")).lower()] = address
    for card in network.get("ethernets", {}).values() if network.get("version") == 2 else []:
        mac = str(card.get("match", {}).get("macaddress", "")).lower()
        for text in card.get("addresses", []):
            found[mac] = _static(str(text))
        if card.get("dhcp4"):
            found[mac] = Address()
    return found


def _subnet(subnet: Mapping[str, Any]) -> Address | None:
    if subnet.get("type") in ("dhcp", "dhcp4"):
        return Address()
    if subnet.get("type") == "static":
        mask = subnet.get("netmask")
        address = str(subnet["address"])
        return _static(f"{address}/{mask}" if mask and "/" not in address else address)
    return None


def _static(text: str) -> Address:
    interface = ipaddress.ip_interface(text)
    return Address(str(interface.ip), interface.network.prefixlen)
