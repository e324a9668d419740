"""/nodes/{node}: name servers, services and certificates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pvelab.routes.call import Call, route

SERVICE = "/nodes/{node}/services/{service}"
NAMES: Mapping[str, str] = {
    "chrony": "chrony, an NTP client/server",
    "corosync": "Corosync Cluster Engine",
    "cron": "Regular background program processing daemon",
    "ksmtuned": "Kernel Samepage Merging (KSM) Tuning Daemon",
    "lxcfs": "FUSE filesystem for LXC",
    "postfix": "Postfix Mail Transport Agent",
    "proxmox-firewall": "Proxmox nftables firewall",
    "pve-cluster": "The Proxmox VE cluster filesystem",
    "pve-firewall": "Proxmox VE firewall",
    "pve-ha-crm": "PVE Cluster HA Resource Manager Daemon",
    "pve-ha-lrm": "PVE Local HA Resource Manager Daemon",
    "pve-lxc-syscalld": "Proxmox VE LXC Syscall Daemon",
    "pvedaemon": "PVE API Daemon",
    "pvefw-logger": "Proxmox VE firewall logger",
    "pveproxy": "PVE API Proxy Server",
    "pvescheduler": "Proxmox VE scheduler",
    "pvestatd": "PVE Status Daemon",
    "qmeventd": "PVE Qemu Event Daemon",
    "spiceproxy": "PVE SPICE Proxy Server",
    "sshd": "OpenBSD Secure Shell server",
    "syslog": "syslog.service",
    "systemd-journald": "Journal Service",
    "systemd-timesyncd": "systemd-timesyncd.service",
}
"""What Proxmox lists, in its order; a unit that is not installed is described by its own name."""
_RUNNING = {"active-state": "active", "state": "running", "unit-state": "enabled"}
_NOT_INSTALLED = {"active-state": "inactive", "state": "dead", "unit-state": "not-found"}
_NOT_STARTED = {"active-state": "inactive", "state": "dead", "unit-state": "enabled"}


@route("GET", "/nodes/{node}/dns")
def name_servers(call: Call) -> dict[str, str]:
    path = "/etc/resolv.conf"
    text = call.node.files.read(path).decode() if call.node.files.is_file(path) else ""
    shown = {f"dns{n}": address for n, address in enumerate(re.findall(r"^nameserver\s+(\S+)", text, re.M)[:3], 1)}
    domain = re.search(r"^(?:search|domain)\s+(\S+)", text, re.M)
    return {**shown, "search": domain[1]} if domain else shown


@route("GET", "/nodes/{node}/services")
def list_services(call: Call) -> list[dict[str, str]]:
    return [_service(call, name) for name in NAMES]


@route("GET", SERVICE)
def index(_call: Call) -> list[dict[str, str]]:
    return [{"subdir": name} for name in ("state", "start", "stop", "restart", "reload")]


@route("GET", f"{SERVICE}/state")
def read_service(call: Call) -> dict[str, str]:
    return _service(call, call.params["service"])


@route("GET", "/nodes/{node}/certificates")
def certificate_index(_call: Call) -> list[dict[str, str]]:
    return [{"name": name} for name in ("acme", "custom", "info")]


@route("GET", "/nodes/{node}/certificates/info")
def certificates(call: Call) -> list[dict[str, Any]]:
    folder = f"/nodes/{call.node.hostname}"
    paths = ("/pve-root-ca.pem", f"{folder}/pve-ssl.pem", f"{folder}/pveproxy-ssl.pem")
    return [_certificate(path, call.world.pve.read(path)) for path in paths if call.world.pve.is_file(path)]


def _service(call: Call, name: str) -> dict[str, str]:
    state = _NOT_INSTALLED if NAMES[name] == f"{name}.service" else _RUNNING
    if name == "corosync" and not call.world.cluster_name:
        state = _NOT_STARTED
    return {"desc": NAMES[name], "name": name, "service": name, **state}


def _certificate(path: str, pem: bytes) -> dict[str, Any]:
    certificate = x509.load_pem_x509_certificate(pem)
    key = certificate.public_key()
    bits = key.key_size if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) else 0
    return {
        "filename": path.rpartition("/")[2],
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
        "issuer": _oneline(certificate.issuer),
        "notafter": int(certificate.not_valid_after_utc.timestamp()),
        "notbefore": int(certificate.not_valid_before_utc.timestamp()),
        "pem": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "public-key-bits": bits,
        "public-key-type": "rsaEncryption" if isinstance(key, rsa.RSAPublicKey) else "id-ecPublicKey",
        "san": _other_names(certificate),
        "subject": _oneline(certificate.subject),
    }


def _oneline(name: x509.Name) -> str:
    """A name as OpenSSL writes it on one line."""
    return "".join(f"/{part.rfc4514_attribute_name}={part.value!s}" for part in name)


def _other_names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(one.value) for one in found]
