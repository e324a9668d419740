"""The lab's certificates and SSH keys: a cluster CA as Proxmox makes it, node certificates, the person's key pair."""

from __future__ import annotations

import datetime
import ipaddress
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_YEARS_OF_AN_AUTHORITY = 10
_DAYS_OF_A_CERTIFICATE = 730


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its private key, both PEM."""

    certificate_pem: bytes
    key_pem: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate as Proxmox shows it: upper-case hex pairs between colons."""
        digest = x509.load_pem_x509_certificate(self.certificate_pem).fingerprint(hashes.SHA256())
        return digest.hex(":").upper()

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write NAME.pem and NAME.key (0600) into folder and return both paths."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.certificate_pem)
        _write_private(key, self.key_pem)
        return certificate, key


class Authority:
    """A certificate authority that signs server and client certificates."""

    def __init__(self, subject: x509.Name) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.subject = subject
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._certificate = (
            _unsigned(subject, subject, self._key, 365 * _YEARS_OF_AN_AUTHORITY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(self._identifier, critical=False)
            .add_extension(self._issued_by(), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def certificate_pem(self) -> bytes:
        """What clients trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, subject: x509.Name, alternative_names: Sequence[str]) -> Issued:
        """Sign a server certificate for these DNS names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([_general_name(name) for name in alternative_names])
        unsigned = self._for(subject, key, ExtendedKeyUsageOID.SERVER_AUTH).add_extension(names, critical=False)
        return self._signed(unsigned, key)

    def issue_client(self, subject: x509.Name, days: float = _DAYS_OF_A_CERTIFICATE) -> Issued:
        """Sign a certificate by which a client shows who it is; it began a day ago, and ends so many days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._signed(self._for(subject, key, ExtendedKeyUsageOID.CLIENT_AUTH, days), key)

    def _for(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        usage: x509.ObjectIdentifier,
        days: float = _DAYS_OF_A_CERTIFICATE,
    ) -> x509.CertificateBuilder:
        return (
            _unsigned(subject, self.subject, key, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(self._issued_by(), critical=False)
        )

    def _signed(self, unsigned: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> Issued:
        certificate = unsigned.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key))

    def _issued_by(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)


def cluster_authority() -> Authority:
    """The CA that a Proxmox cluster makes for itself (`/etc/pve/pve-root-ca.pem`)."""
    return Authority(
        _name(
            (NameOID.COMMON_NAME, "Proxmox Virtual Environment"),
            (NameOID.ORGANIZATIONAL_UNIT_NAME, str(uuid.uuid4())),
            (NameOID.ORGANIZATION_NAME, "PVE Cluster Manager CA"),
        )
    )


def node_certificate(authority: Authority, node: str, domain: str, address: str) -> Issued:
    """The certificate of a node's API (`pve-ssl.pem`), valid for its names and addresses."""
    subject = _name(
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "PVE Cluster Node"),
        (NameOID.ORGANIZATION_NAME, "Proxmox Virtual Environment"),
        (NameOID.COMMON_NAME, f"{node}.{domain}"),
    )
    return authority.issue(subject, ["127.0.0.1", "::1", "localhost", address, node, f"{node}.{domain}"])


@dataclass(frozen=True, slots=True)
class SshKeyPair:
    """An ed25519 key pair in OpenSSH's formats."""

    private_openssh: bytes
    public_line: str

    def write(self, private_path: Path) -> Path:
        """Write the private key (0600) and PATH.pub beside it; return the latter."""
        _write_private(private_path, self.private_openssh)
        public_path = private_path.with_name(private_path.name + ".pub")
        public_path.write_text(self.public_line + "\n")
        return public_path


def ssh_key_pair(comment: str) -> SshKeyPair:
    """Make a new key pair."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return SshKeyPair(private, f"{public.decode()} {comment}")


def known_hosts_line(address: str, port: int, public_line: str) -> str:
    """One line of a known_hosts file, its comment left out."""
    host = address if port == 22 else f"[{address}]:{port}"
    kind, key = public_line.split()[:2]
    return f"{host} {kind} {key}"


def _name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
