"""The named formats of Proxmox VE's parameters, and property strings such as `virtio,bridge=vmbr0`.

Texts are those of PVE::JSONSchema; a check raises FormatError with the text, its newline included.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Properties = Mapping[str, Mapping[str, Any]]
Errors = dict[str, str]

CONTENT_TYPES = ("images", "rootdir", "vztmpl", "iso", "backup", "snippets", "none", "import")
DNS_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?"
VOLUME_ID = re.compile(r"([A-Za-z][A-Za-z0-9\-_.]*[A-Za-z0-9]):(.+)", re.S)
MAC = re.compile(r"[0-9a-f][02468ace](?::[0-9a-f]{2}){5}", re.I)
_CPU_NAMES = """
486 athlon Broadwell Broadwell-IBRS Broadwell-noTSX Broadwell-noTSX-IBRS Cascadelake-Server Cascadelake-Server-noTSX
Cascadelake-Server-v2 Cascadelake-Server-v4 Cascadelake-Server-v5 ClearwaterForest Conroe Cooperlake Cooperlake-v2
core2duo coreduo EPYC EPYC-Genoa EPYC-Genoa-v2 EPYC-IBPB EPYC-Milan EPYC-Milan-v2 EPYC-Milan-v3 EPYC-Rome EPYC-Rome-v2
EPYC-Rome-v3 EPYC-Rome-v4 EPYC-Rome-v5 EPYC-Turin EPYC-v3 EPYC-v4 EPYC-v5 GraniteRapids Haswell Haswell-IBRS Haswell-
noTSX Haswell-noTSX-IBRS host Icelake-Client Icelake-Client-noTSX Icelake-Server Icelake-Server-noTSX Icelake-
Server-v3 Icelake-Server-v4 Icelake-Server-v5 Icelake-Server-v6 IvyBridge IvyBridge-IBRS KnightsMill kvm32 kvm64 max
Nehalem Nehalem-IBRS Opteron_G1 Opteron_G2 Opteron_G3 Opteron_G4 Opteron_G5 Penryn pentium pentium2 pentium3 phenom
qemu32 qemu64 SandyBridge SandyBridge-IBRS SapphireRapids SapphireRapids-v2 SierraForest Skylake-Client Skylake-
Client-IBRS Skylake-Client-noTSX-IBRS Skylake-Client-v4 Skylake-Server Skylake-Server-IBRS Skylake-Server-noTSX-IBRS
Skylake-Server-v4 Skylake-Server-v5 Westmere Westmere-IBRS x86-64-v1 x86-64-v2 x86-64-v2-AES x86-64-v3 x86-64-v4
"""
CPU_MODELS = frozenset(_CPU_NAMES.split())
CPU_FLAGS = (
    *("aes", "amd-no-ssb", "amd-ssbd", "hv-evmcs", "hv-tlbflush", "ibpb", "md-clear", "nested-virt", "pcid", "pdpe1gb"),
    *("spec-ctrl", "ssbd", "virt-ssbd"),
)
"""What a VM may ask for beside its model."""
TRUE_WORDS = ("1", "on", "yes", "true")
FALSE_WORDS = ("0", "off", "no", "false")


class FormatError(Exception):
    """A value does not have its format; errors holds them by path if it is a property string."""

    def __init__(self, text: str, errors: Errors | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.errors = errors or {}

    def __str__(self) -> str:
        lines = [f"{path}: {text}\n" for path, text in sorted(self.errors.items())]
        return self.text + "".join(lines)


def check_format(name: str, value: str) -> None:
    """Check a value against a named format or a list of it. Raises FormatError; unknown formats take anything."""
    if name in PATTERNS:
        pattern, text = PATTERNS[name]
        if not re.fullmatch(pattern, value, re.S):
            raise FormatError(text.replace("VALUE", value) + "\n")
    elif name in CHECKS:
        CHECKS[name](value)
    elif name.endswith("-list"):
        for part in split_list(value):
            check_format(name.removesuffix("-list"), part)


def split_list(text: str) -> list[str]:
    """The members of a list parameter: split at comma, semicolon, white space or NUL."""
    return [part for part in re.split(r"[,;\s\0]+", text) if part]


def check_properties(
    properties: Properties, values: Mapping[str, str], path: str, check: Callable[..., None], errors: Errors
) -> None:
    """Check named values against their schemas, as PVE::JSONSchema::check_object does; collects errors by path."""
    prefix = f"{path}." if path else ""
    for name, schema in properties.items():
        if name not in values:
            if not schema.get("optional") and "alias" not in schema:
                errors[prefix + name] = "property is missing and it is not optional"
            continue
        check(schema, values[name], prefix + name, errors)
        needed = schema.get("requires")
        if needed and needed not in values and prefix + name not in errors:
            errors[prefix + needed] = f"missing property required by '{prefix}{name}'"
    for name in values:
        if name not in properties:
            errors[prefix + name] = (
                "property is not defined in schema and the schema does not allow additional properties"
            )


def split_property_string(properties: Properties, text: str) -> dict[str, str]:
    """`a,k=v` as a mapping, with the default key and aliases resolved, unchecked. Raises FormatError."""
    found: dict[str, str] = {}
    default_key = next((name for name, schema in properties.items() if schema.get("default_key")), "")
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not part.strip():
            continue
        if not equals:
            if not default_key:
                raise FormatError("value without key, but schema does not define a default key\n")
            key, value = default_key, part
        elif not key or not value:
            raise FormatError("missing key in comma-separated list property\n")
        schema = properties.get(key, {})
        if "alias" in schema:
            if "keyAlias" in schema:
                found[schema["keyAlias"]] = key
            key = schema["alias"]
            schema = properties[key]
        if key in found:
            raise FormatError(f"duplicate key in comma-separated list property: {key}\n")
        found[key] = _boolean(value) if schema.get("type") == "boolean" else value
    return found


def join_property_string(properties: Properties, values: Mapping[str, str]) -> str:
    """The canonical spelling: the default key's value first, the others by name."""
    default_key = next((name for name, schema in properties.items() if schema.get("default_key")), "")
    first = [values[default_key]] if default_key in values else []
    return ",".join(first + [f"{key}={values[key]}" for key in sorted(values) if key != default_key])


def _boolean(value: str) -> str:
    word = value.lower()
    return "1" if word in TRUE_WORDS else "0" if word in FALSE_WORDS else value


def _one_of(values: Iterable[str], text: str) -> Callable[[str], None]:
    allowed = frozenset(values)

    def check(value: str) -> None:
        if value not in allowed:
            raise FormatError(text.replace("VALUE", value) + "\n")

    return check


def _parsed(parse: Callable[[str], object], text: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        try:
            parse(value)
        except ValueError:
            raise FormatError(text + "\n") from None

    return check


def _network_configuration(version: int, words: tuple[str, ...]) -> Callable[[str], None]:
    parse = ipaddress.IPv4Interface if version == 4 else ipaddress.IPv6Interface
    text = f"value does not look like a valid ipv{version} network configuration\n"

    def check(value: str) -> None:
        if value in words:
            return
        try:
            parse(value)
        except ValueError:
            raise FormatError(text) from None
        if "/" not in value:
            raise FormatError(text)

    return check


def _volume_or_path(words: tuple[str, ...]) -> Callable[[str], None]:
    def check(value: str) -> None:
        if value not in words and not value.startswith("/"):
            check_format("pve-volume-id", value)

    return check


def _address(value: str) -> None:
    if not re.fullmatch(PATTERNS["dns-name"][0], value):
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise FormatError(f"value does not look like a valid address: {value}\n") from None


def _processor(value: str) -> None:
    fields = split_property_string(PROPERTY_FORMATS["pve-vm-cpu-conf"], value)
    model = fields.get("cputype", "kvm64")
    if model not in CPU_MODELS and not model.startswith("custom-"):
        raise FormatError(f"Built-in cputype '{model}' is not defined (missing 'custom-' prefix?)\n")
    flags = [flag for flag in fields.get("flags", "").split(";") if flag]
    if any(flag[1:] not in CPU_FLAGS for flag in flags):
        raise FormatError(f"VM-specific CPU flags must be a subset of: {', '.join(CPU_FLAGS)}\n")
    if "reported-model" in fields:
        raise FormatError("Property 'reported-model' not allowed in VM-specific CPU config.\n")


def _boot(value: str) -> None:
    if not value.strip() or re.fullmatch(r"(legacy=)?[acdn]{1,4}", value):
        return
    devices = value.removeprefix("order=") if value.startswith("order=") else None
    if devices is None:
        raise FormatError("format error\nboot.legacy: value does not match the regex pattern\n")
    for device in split_list(devices):
        if not re.fullmatch(r"(ide|sata|scsi|virtio|net|usb|hostpci)\d+|efidisk0", device):
            raise FormatError(
                "format error\nboot.order: invalid format - value does not look like a valid boot device"
                f" - '{device}'\n\n"
            )


PATTERNS: dict[str, tuple[str, str]] = {
    "pve-vmid": (r"[1-9][0-9]{2,8}", "value does not look like a valid VM ID"),
    "pve-node": (DNS_LABEL, "value does not look like a valid node name"),
    "pve-storage-id": (r"[A-Za-z][A-Za-z0-9\-_.]*[A-Za-z0-9]", "storage ID 'VALUE' contains illegal characters"),
    "pve-volume-id": (VOLUME_ID.pattern, "unable to parse volume ID 'VALUE'"),
    "pve-configid": (r"[A-Za-z][\w\-]+", "invalid configuration ID 'VALUE'"),
    "pve-tag": (r"[A-Za-z0-9_][A-Za-z0-9_\-+.]*", "invalid characters in tag"),
    "pve-poolid": (r"[A-Za-z0-9.\-_]+(/[A-Za-z0-9.\-_]+){0,2}", "pool name 'VALUE' contains invalid characters"),
    "pve-iface": (r"[a-zA-Z][a-zA-Z0-9_]{1,20}([:.]\d+)?", "invalid network interface name 'VALUE'"),
    "dns-name": (rf"{DNS_LABEL}(?:\.{DNS_LABEL})*", "value does not look like a valid DNS name"),
    "mac-addr": (
        MAC.pattern.replace("a-f", "a-fA-F").replace("ace", "aceACE"),
        "value does not look like a valid unicast MAC address",
    ),
    "urlencoded": (r"[-%a-zA-Z0-9_.!~*'()]*", "invalid urlencoded string: VALUE"),
    "disk-size": (r"\d+(\.\d+)?[KMGT]?", "value does not look like a valid disk size: VALUE"),
    "pve-bridge-id": (r"[-_.\w]+", "invalid bridge ID 'VALUE'"),
    "pve-task-status-type": (r"(?i:ok|error|warning|unknown)", "invalid status 'VALUE'"),
    "pve-storage-path": (r"/[^;()]+.*", "value does not look like a valid absolute path"),
    "pve-qm-bootdisk": (r"(ide|sata|scsi|virtio)\d+", "invalid boot disk 'VALUE'"),
    "pve-hotplug-features": (
        r"[01]|(network|disk|cpu|memory|usb|cloudinit)([,;\s]+(network|disk|cpu|memory|usb|cloudinit))*",
        "unable to parse hotplug option",
    ),
    "pve-startup-order": (
        r"(\d+|order=\d+|up=\d+|down=\d+)?(,(order=\d+|up=\d+|down=\d+))*",
        "unable to parse startup options",
    ),
}

CHECKS: dict[str, Callable[[str], None]] = {
    "pve-storage-content": _one_of(CONTENT_TYPES, "invalid content type 'VALUE'"),
    "ipv4": _parsed(ipaddress.IPv4Address, "value does not look like a valid IPv4 address"),
    "ipv6": _parsed(ipaddress.IPv6Address, "value does not look like a valid IPv6 address"),
    "ip": _parsed(ipaddress.ip_address, "value does not look like a valid IP address"),
    "address": _address,
    "CIDR": _parsed(ipaddress.ip_interface, "value does not look like a valid CIDR network"),
    "pve-ipv4-config": _network_configuration(4, ("dhcp",)),
    "pve-ipv6-config": _network_configuration(6, ("dhcp", "auto")),
    "pve-volume-id-or-qm-path": _volume_or_path(("none", "cdrom")),
    "pve-volume-id-or-absolute-path": _volume_or_path(()),
    "pve-qm-boot": _boot,
    "pve-vm-cpu-conf": _processor,
}

_CUSTOM_FILE = {"type": "string", "optional": 1, "format": "pve-volume-id"}
PROPERTY_FORMATS: dict[str, Properties] = {
    "pve-qm-cicustom": dict.fromkeys(("meta", "network", "user", "vendor"), _CUSTOM_FILE),
    "pve-qm-ipconfig": {
        "ip": {"type": "string", "optional": 1, "format": "pve-ipv4-config"},
        "gw": {"type": "string", "optional": 1, "format": "ipv4", "requires": "ip"},
        "ip6": {"type": "string", "optional": 1, "format": "pve-ipv6-config"},
        "gw6": {"type": "string", "optional": 1, "format": "ipv6", "requires": "ip6"},
    },
    "pve-qm-smbios1": {
        "uuid": {"type": "string", "optional": 1, "pattern": "[a-fA-F0-9]{8}(?:-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}"},
        "base64": {"type": "boolean", "optional": 1},
        **{
            name: {"type": "string", "optional": 1}
            for name in ("version", "serial", "manufacturer", "product", "sku", "family")
        },
    },
    "pve-qm-watchdog": {
        "model": {"type": "string", "optional": 1, "default_key": 1, "enum": ["i6300esb", "ib700"]},
        "action": {
            "type": "string",
            "optional": 1,
            "enum": ["reset", "shutdown", "poweroff", "pause", "debug", "none"],
        },
    },
    "pve-vm-cpu-conf": {
        "cputype": {"type": "string", "optional": 1, "default_key": 1},
        "reported-model": {"type": "string", "optional": 1},
        "hidden": {"type": "boolean", "optional": 1},
        "hv-vendor-id": {"type": "string", "optional": 1, "pattern": "[a-zA-Z0-9]{1,12}"},
        "flags": {"type": "string", "optional": 1, "pattern": "[+-][a-zA-Z0-9\\-_.]+(;[+-][a-zA-Z0-9\\-_.]+)*"},
        "level": {"type": "integer", "optional": 1},
        "phys-bits": {"type": "string", "optional": 1, "pattern": "host|\\d+"},
        "guest-phys-bits": {"type": "integer", "optional": 1, "minimum": 32, "maximum": 64},
    },
}
