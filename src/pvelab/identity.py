"""What a lab's machines are known by, and the files that let a person in; both outlive a reset."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pvelab import certs
from pvelab.environment import Papers
from pvelab.network import SSH_PORT, Network
from pvelab.openpgp import SigningKey
from pvelab.spec import LabSpec

TOKEN_USER, TOKEN_NAME = "root@pam", "lab"
IMAGE_SIGNER = "Lab Image Automatic Signing Key <images@lab>"
IMAGE_KEY_MADE_AT = 1_253_059_109
"""In 2009, as the key of Ubuntu's cloud images."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Certificates and host keys by machine, the person's key pair, the token's secret, the key that signs images."""

    authority_pem: bytes
    certificates: Mapping[str, certs.Issued]
    foreign: Mapping[str, certs.Issued]
    host_keys: Mapping[str, certs.SshKeyPair]
    person: certs.SshKeyPair
    token_secret: str
    image_key: SigningKey

    @property
    def token(self) -> str:
        """As one writes it into API_TOKEN."""
        return f"{TOKEN_USER}!{TOKEN_NAME}={self.token_secret}"


def new_image_key() -> SigningKey:
    """A key to sign images by."""
    return SigningKey(IMAGE_SIGNER, IMAGE_KEY_MADE_AT)


def new_identity(spec: LabSpec, network: Network, image_key: SigningKey) -> Identity:
    """Make every other key and certificate; `foreign` ones come from an authority that nobody trusts."""
    authority, stranger = certs.cluster_authority(), certs.cluster_authority()
    addresses = node_addresses(spec, network)
    return Identity(
        authority_pem=authority.certificate_pem,
        certificates={name: certs.node_certificate(authority, name, spec.domain, at) for name, at in addresses.items()},
        foreign={name: certs.node_certificate(stranger, name, spec.domain, at) for name, at in addresses.items()},
        host_keys={name: certs.ssh_key_pair(f"root@{name}") for name in (*addresses, *spec.k3s_servers)},
        person=certs.ssh_key_pair("person@lab"),
        token_secret=str(uuid.uuid4()),
        image_key=image_key,
    )


def node_addresses(spec: LabSpec, network: Network) -> dict[str, str]:
    """Each node's address."""
    return {node.name: network.node(number) for number, node in enumerate(spec.nodes, start=1)}


def known_hosts(identity: Identity, spec: LabSpec, network: Network, others: Mapping[str, str]) -> str:
    """The keys of the nodes, of k3s servers that are not ours, and of `others` by address, as a person learned them."""
    servers = {name: network.outside(number) for number, name in enumerate(spec.k3s_servers, start=1)}
    machines = node_addresses(spec, network) | servers
    keys = {address: identity.host_keys[name].public_line for name, address in machines.items()} | dict(others)
    return "".join(certs.known_hosts_line(address, SSH_PORT, line) + "\n" for address, line in keys.items())


def write_papers(identity: Identity, spec: LabSpec, network: Network, folder: Path) -> Papers:
    """Write CA, key pair, known_hosts and the key of the images into folder."""
    keys = folder / "ssh"
    keys.mkdir(parents=True, exist_ok=True)
    public_path = identity.person.write(keys / "id_ed25519")
    ca_path, known_hosts_path = folder / "pve-root-ca.pem", keys / "known_hosts"
    ca_path.write_bytes(identity.authority_pem)
    known_hosts_path.write_text(known_hosts(identity, spec, network, {}))
    image_key_path = folder / "image-signing-key.asc"
    image_key_path.write_text(identity.image_key.armored)
    return Papers(
        ca_path=ca_path,
        known_hosts_path=known_hosts_path,
        key_path=keys / "id_ed25519",
        public_key_path=public_path,
        kubeconfig_path=folder / "kubeconfig",
        token=identity.token,
        image_key_path=image_key_path,
        image_key_fingerprint=identity.image_key.fingerprint,
    )
