"""The formats that Proxmox VE's API schema names, written from its documentation; one not listed here is refused."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

Property = Mapping[str, Any]

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_STORAGE = r"[a-zA-Z][a-zA-Z0-9_.-]*[a-zA-Z0-9]"
_VOLUME = rf"{_STORAGE}:.+"
_DISK = r"(?:ide|sata|scsi|virtio)\d+|efidisk0|tpmstate0|net\d+|usb\d+|hostpci\d+"
_PATTERNS: Mapping[str, str] = {
    "dns-name": rf"(?:{_LABEL}\.)*{_LABEL}",
    "disk-size": r"\d+(?:\.\d+)?[KMGT]?",
    "mac-addr": r"(?i:[0-9a-f][02468ace](?::[0-9a-f]{2}){5})",
    "pve-bridge-id": r"[-_.\w]+",
    "pve-configid": r"[a-zA-Z][a-zA-Z0-9_-]+",
    "pve-cpuset": r"\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*",
    "pve-ha-resource-or-vm-id": r"(?:vm:|ct:)?[1-9]\d{2,8}",
    "pve-hotplug-features": r"0|1|(?:network|disk|cpu|memory|usb|cloudinit)"
    r"(?:,(?:network|disk|cpu|memory|usb|cloudinit))*",
    "pve-iface": r"[a-zA-Z][a-zA-Z0-9_]{1,20}(?:[:.]\d+)?",
    "pve-node": _LABEL,
    "pve-poolid": r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+){0,2}",
    "pve-qm-bootdisk": _DISK,
    "pve-storage-content": r"images|rootdir|vztmpl|iso|backup|snippets|import|none",
    "pve-storage-id": _STORAGE,
    "pve-storage-path": r"/[^\0]*",
    "pve-tag": r"[a-zA-Z0-9_][a-zA-Z0-9_+.-]*",
    "pve-task-status-type": r"ok|error|warning|unknown",
    "pve-vmid": r"[1-9]\d{2,8}",
    "pve-volume-id": _VOLUME,
    "pve-volume-id-or-absolute-path": rf"/.+|{_VOLUME}",
    "pve-volume-id-or-qm-path": rf"none|cdrom|/.+|{_VOLUME}",
    "string": r"[\s\S]*",
    "urlencoded": r"[-%a-zA-Z0-9_.!~*'()]*",
}
_SEPARATORS = re.compile(r"[,;\s\0]+")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_host(text: str) -> bool:
    return _is_address(text) or re.fullmatch(_PATTERNS["dns-name"], text) is not None


def _is_network(text: str, version: int) -> bool:
    """An address with its prefix length."""
    try:
        return "/" in text and ipaddress.ip_interface(text).version == version
    except ValueError:
        return False


def _is_of_version(text: str, version: int) -> bool:
    return _is_address(text) and ipaddress.ip_address(text).version == version


_CHECKS: Mapping[str, Callable[[str], bool]] = {
    "address": _is_host,
    "ip": _is_address,
    "ipv4": lambda text: _is_of_version(text, 4),
    "ipv6": lambda text: _is_of_version(text, 6),
    "pve-ipv4-config": lambda text: text == "dhcp" or _is_network(text, 4),
    "pve-ipv6-config": lambda text: text in ("dhcp", "auto") or _is_network(text, 6),
    "pve-boot-devices": lambda text: all(re.fullmatch(_DISK, one) for one in text.split(";")),
}

_TEXT: Property = {"type": "string", "optional": 1}
_FLAG: Property = {"type": "boolean", "optional": 1}
_NUMBER: Property = {"type": "integer", "optional": 1, "minimum": 0}
_SNIPPET: Property = {**_TEXT, "format": "pve-volume-id"}
PROPERTY_STRINGS: Mapping[str, Mapping[str, Property]] = {
    "pve-qm-boot": {
        "legacy": {**_TEXT, "default_key": 1, "pattern": "[acdn]{1,4}"},
        "order": {**_TEXT, "format": "pve-boot-devices"},
    },
    "pve-qm-cicustom": {"meta": _SNIPPET, "network": _SNIPPET, "user": _SNIPPET, "vendor": _SNIPPET},
    "pve-qm-ipconfig": {
        "gw": {**_TEXT, "format": "ipv4", "requires": "ip"},
        "gw6": {**_TEXT, "format": "ipv6", "requires": "ip6"},
        "ip": {**_TEXT, "format": "pve-ipv4-config"},
        "ip6": {**_TEXT, "format": "pve-ipv6-config"},
    },
    "pve-qm-smbios1": {
        "base64": _FLAG,
        "family": _TEXT,
        "manufacturer": _TEXT,
        "product": _TEXT,
        "serial": _TEXT,
        "sku": _TEXT,
        "uuid": {**_TEXT, "pattern": "[a-fA-F0-9]{8}(?:-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}"},
        "version": _TEXT,
    },
    "pve-startup-order": {"down": _NUMBER, "order": {**_NUMBER, "default_key": 1}, "up": _NUMBER},
    "pve-vm-cpu-conf": {
        "cputype": {
            "type": "string",
            "default_key": 1,
            "pattern": r"host|max|kvm(?:32|64)|qemu(?:32|64)|x86-64-v(?:2|2-AES|3|4)|custom-\S+",
        },
        "flags": _TEXT,
        "hidden": _FLAG,
        "hv-vendor-id": _TEXT,
        "phys-bits": _TEXT,
        "reported-model": _TEXT,
    },
}
"""The fields of formats that are property strings and that the published schema only names."""


def problem(name: str, text: str) -> str:
    """Why a text is not of the named format; nothing if it is."""
    if name in _CHECKS:
        return "" if _CHECKS[name](text) else f"{text!r} is no {name}"
    if name in _PATTERNS:
        return "" if re.fullmatch(_PATTERNS[name], text) else f"{text!r} is no {name}"
    single = name.removesuffix("-list")
    if single != name:
        problems = (problem(single, one) for one in _SEPARATORS.split(text) if one)
        return next(filter(None, problems), "")
    return f"there is no check for the format {name!r}"
