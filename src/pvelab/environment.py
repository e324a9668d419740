"""The ready `.env`: what somebody with this cluster would have written down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pvelab import sources
from pvelab.network import API_PORT, SOURCES_PORT, SSH_PORT, Network
from pvelab.spec import LabSpec, NodeSpec

_NEEDS_NO_QUOTES = re.compile(r"[\w./:@%+,-]*")


@dataclass(frozen=True, slots=True)
class Papers:
    """Files that let a person in, the API token, and the key by which images are signed."""

    ca_path: Path
    known_hosts_path: Path
    key_path: Path
    public_key_path: Path
    kubeconfig_path: Path
    token: str
    image_key_path: Path
    image_key_fingerprint: str


def environment(spec: LabSpec, network: Network, papers: Papers) -> dict[str, str]:
    """Every variable, by name."""
    base_url = f"http://{network.sources}:{SOURCES_PORT}"
    addresses = [network.node(number) for number in range(1, len(spec.nodes) + 1)]
    found = {
        "API_TOKEN": papers.token,
        "PVE_IPS": ", ".join(addresses),
        "PROXMOX_PORT": str(API_PORT),
        "PROXMOX_CA_BUNDLE": str(papers.ca_path),
        "SSH_PORT": str(SSH_PORT),
        "SSH_KNOWN_HOSTS": str(papers.known_hosts_path),
        "SSH_KEY_PATH": str(papers.key_path),
        "SSH_PUBKEY_PATH": str(papers.public_key_path),
        "VM_SSH_PORT": str(SSH_PORT),
        "VM_DISK_SIZE": spec.disk_size,
        "ISO_NAME": spec.image_name,
        "ISO_URL": f"{base_url}{sources.IMAGE_FOLDER}/{spec.image_name}",
        "IMAGE_SIGNING_KEY": str(papers.image_key_path),
        "IMAGE_SIGNING_FINGERPRINT": papers.image_key_fingerprint,
        "K3S_EXISTING_NODE_IP": network.outside(1),
        "K3S_INSTALL_URL": base_url + sources.INSTALLER_PATH,
        "K3S_ARTIFACT_URL": base_url + sources.RELEASES_FOLDER,
        "KUBECONFIG": str(papers.kubeconfig_path),
    }
    for number, node in enumerate(spec.nodes, start=1):
        found.update(node_environment(number, node))
    return found


def node_environment(number: int, node: NodeSpec) -> dict[str, str]:
    """The variables of node `number`."""
    found = {
        f"NODE_{number}": node.name,
        f"STORAGE_{number}": node.storage,
        f"CPU_RATIO_{number}": str(node.cpu_ratio),
        f"MEMORY_RATIO_{number}": str(node.memory_ratio),
        f"NETWORK_IFACES_{number}": ", ".join(node.bridges),
    }
    if node.disk_storage:
        found[f"IMG_STORAGE_{number}"] = node.disk_storage
    return found


def dotenv_text(values: Mapping[str, str]) -> str:
    """The variables as lines of a `.env` file."""
    return "".join(f"{name}={_quoted(value)}\n" for name, value in values.items())


def _quoted(value: str) -> str:
    if _NEEDS_NO_QUOTES.fullmatch(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
