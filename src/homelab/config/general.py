"""The keys without a number: how to reach things, what every VM gets, how far a run may go."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from homelab.config.addresses import host, hosts, k3s_url, nameservers
from homelab.config.credentials import read_token
from homelab.config.public_keys import DEFAULT_FILES, public_keys
from homelab.config.reader import Reader
from homelab.config.values import (
    BadValue,
    boolean,
    file_path,
    image_name,
    image_url,
    key_fingerprint,
    matching,
    one_of,
    port,
    seconds,
    sha256,
    web_url,
    whole_number,
)
from homelab.errors import Problem
from homelab.settings import (
    ApiConfig,
    GuestConfig,
    ImageConfig,
    K3sConfig,
    Policy,
    Secret,
    SigningKey,
    SshConfig,
    StoppedVm,
    Via,
)

DEFAULT_IMAGE_URL = "https://cloud-images.ubuntu.com/noble/current/noble-server-cloudimg-amd64.img"
DEFAULT_K3S_INSTALL_URL = "https://get.k3s.io"
DEFAULT_START_TIMEOUT_S = 180.0

_KEY_AND_FINGERPRINT = ("IMAGE_SIGNING_KEY", "IMAGE_SIGNING_FINGERPRINT")
_guest_user = matching(r"[a-z_][a-z0-9_-]{0,31}", "it is not a Linux user name", "a Linux user name, such as ubuntu")
_ssh_user = matching(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}", "it is not a user name", "a user name, such as root")
_cpu_type = matching(
    r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "it is not a CPU type", "a CPU type of Proxmox, such as host or x86-64-v2-AES"
)
_k3s_version = matching(
    r"v[0-9]+\.[0-9]+\.[0-9]+(-rc[0-9]+)?\+k3s[0-9]+",
    "it is not a k3s release",
    "a k3s release as `k3s --version` prints it, such as v1.33.4+k3s1",
)


def read_api(reader: Reader, via: Via) -> ApiConfig:
    """The token and the trusted certificates; a token is needed unless the API is never asked."""
    return ApiConfig(read_token(reader, via), _ca_bundle(reader))


def read_ssh(reader: Reader) -> SshConfig:
    """How to log in. A key file that is not there is left to the agent and ssh_config, with a warning."""
    key_path = reader.path("SSH_KEY_PATH")
    if key_path and not reader.surroundings.files.is_file(key_path):
        reader.warnings.append(
            f"SSH_KEY_PATH: no file {reader.shown(str(key_path))}; the SSH agent and ssh_config choose the key"
        )
        key_path = None
    known_hosts = reader.path("SSH_KNOWN_HOSTS")
    if known_hosts and not reader.surroundings.files.is_file(known_hosts):
        reader.warnings.append(f"SSH_KNOWN_HOSTS: no file {reader.shown(str(known_hosts))}, so it vouches for no host")
    return SshConfig(
        user=reader.get("SSH_USER", _ssh_user, "root"),
        key_path=key_path,
        known_hosts=known_hosts,
        guest_port=reader.get("VM_SSH_PORT", port, 22),
    )


def read_guest(reader: Reader) -> GuestConfig:
    """What cloud-init gives every VM."""
    return GuestConfig(
        user=reader.get("CLOUD_USER", _guest_user, "ubuntu"),
        password=reader.get("CLOUD_PASSWORD", Secret, None),
        public_keys=_public_keys(reader),
        nameserver=reader.get("CLOUD_NAMESERVER", nameservers, None),
        upgrades_packages=reader.get("CLOUD_UPGRADE", boolean, False),
        cpu_type=reader.get("VM_CPU_TYPE", _cpu_type, "host"),
        start_timeout_s=reader.get("VM_START_TIMEOUT", seconds, DEFAULT_START_TIMEOUT_S),
    )


def read_image(reader: Reader) -> ImageConfig:
    """The cloud image: ISO_URL, else UBUNTU_IMG_URL, else Ubuntu LTS; ISO_NAME, else the name in the URL."""
    has_own_url = reader.text("ISO_URL") is not None
    fallback = None if has_own_url else reader.get("UBUNTU_IMG_URL", image_url, None)
    url = reader.get("ISO_URL", image_url, None) or fallback or DEFAULT_IMAGE_URL
    name = reader.get("ISO_NAME", image_name, None)
    if name is None and reader.text("ISO_NAME") is None:
        name = _name_in_url(reader, url)
    return ImageConfig(
        name=name or "",
        url=url,
        sha256=reader.get("IMAGE_SHA256", sha256, None),
        is_unverified=reader.get("IMAGE_UNVERIFIED", boolean, False),
        sums_url=reader.get("IMAGE_SHA256SUMS_URL", _sums_url(reader), None),
        signing_key=_signing_key(reader),
    )


def read_k3s(reader: Reader) -> K3sConfig:
    existing_servers = reader.get("K3S_EXISTING_NODE_IP", hosts, ())
    server_url = reader.get("K3S_SERVER_URL", k3s_url, None)
    if server_url and not reader.text("K3S_EXISTING_NODE_IP"):
        reader.warnings.append("K3S_SERVER_URL is not used: without K3S_EXISTING_NODE_IP nothing joins")
    return K3sConfig(
        existing_servers=existing_servers,
        version=reader.get("K3S_VERSION", _k3s_version, None),
        install_url=reader.get("K3S_INSTALL_URL", web_url, DEFAULT_K3S_INSTALL_URL),
        artifact_url=reader.get("K3S_ARTIFACT_URL", web_url, None),
        server_url=server_url,
        kubeconfigs=_kubeconfigs(reader),
        is_airgapped=reader.get("K3S_AIRGAP_IMAGES", boolean, False),
    )


def read_policy(reader: Reader) -> Policy:
    return Policy(
        stopped_vm=reader.get("STOPPED_VM", one_of(StoppedVm), StoppedVm.REPLACE),
        max_replacements=reader.get("MAX_REPLACEMENTS", whole_number(0, 10_000), 1),
        max_parallel=reader.get("MAX_PARALLEL", whole_number(1, 64), 8),
        host_reserve_mib=reader.get("HOST_RESERVE_MIB", whole_number(0, 16_777_216, "MiB"), 2048),
    )


def read_fallback_addresses(reader: Reader) -> tuple[str, ...]:
    """PVE_IPS, each address once; parts that cannot be used are warned about and left out."""
    usable: dict[str, None] = {}
    for part in re.split(r"[,;\s]+", reader.text("PVE_IPS") or ""):
        try:
            usable.update({host(part): None} if part else {})
        except BadValue:
            reader.warnings.append(
                f"PVE_IPS: {reader.shown(part)} is neither an address nor a host name and is not used"
            )
    return tuple(usable)


def _kubeconfigs(reader: Reader) -> tuple[Path, ...]:
    """The files of KUBECONFIG, separated by colons as kubectl takes them; else ~/kubeconfig."""
    expand = file_path(reader.surroundings.home)

    def files(text: str) -> tuple[Path, ...]:
        return tuple(expand(part) for part in text.split(":") if part)

    return reader.get("KUBECONFIG", files, (reader.surroundings.home / "kubeconfig",))


def _sums_url(reader: Reader) -> Callable[[str], str]:
    """A list of one's own choice is signed, or comes from a server that shows who it is."""

    def read(text: str) -> str:
        url = web_url(text)
        if not url.startswith("https://") and reader.text("IMAGE_SIGNING_KEY") is None:
            wanted = "a URL that begins with https://, or set IMAGE_SIGNING_KEY to the key that signs the list"
            raise BadValue("over http:// anybody on the way can change the list", wanted)
        return url

    return read


def _signing_key(reader: Reader) -> SigningKey | None:
    """The publisher's key and its fingerprint: one is nothing without the other."""
    wanted = "the file of the publisher's OpenPGP key, as gpg --export --armor writes it"

    def armored(text: str) -> str:
        content = reader.content(file_path(reader.surroundings.home)(text), wanted)
        if "-----BEGIN PGP PUBLIC KEY BLOCK-----" not in content:
            raise BadValue("the file holds no armored OpenPGP public key", wanted)
        return content

    key = reader.get("IMAGE_SIGNING_KEY", armored, None)
    fingerprint = reader.get("IMAGE_SIGNING_FINGERPRINT", key_fingerprint, None)
    for name, other in (_KEY_AND_FINGERPRINT, _KEY_AND_FINGERPRINT[::-1]):
        if reader.text(name) is None and reader.text(other) is not None:
            why = f"{other} is, and says nothing by itself"
            cure = f"set {name} too, or remove {other}: Ubuntu's own key comes with homelab"
            reader.problems.append(Problem(f"{name} is not set", why, cure))
    return SigningKey(key, fingerprint) if key and fingerprint else None


def _ca_bundle(reader: Reader) -> Path | None:
    """PROXMOX_CA_BUNDLE, once it is known that TLS can load it."""

    def loadable(text: str) -> Path:
        path = file_path(reader.surroundings.home)(text)
        _check_certificates(reader.content(path, wanted))
        return path

    wanted = "a file of PEM certificates, such as a copy of the cluster's /etc/pve/pve-root-ca.pem"
    return reader.get("PROXMOX_CA_BUNDLE", loadable, None)


def _check_certificates(text: str) -> None:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text.encode("ascii", "replace").decode())
    except (ssl.SSLError, ValueError):
        raise BadValue("the file holds no certificate that TLS can read", "a file of PEM certificates") from None


def _public_keys(reader: Reader) -> str:
    """The keys of SSH_PUBKEY_PATH, else of the first usable default file, else none."""
    wanted = "the path of an OpenSSH public key file, such as ~/.ssh/id_ed25519.pub"
    expand = file_path(reader.surroundings.home)
    if reader.text("SSH_PUBKEY_PATH") is not None:
        return reader.get("SSH_PUBKEY_PATH", lambda text: public_keys(reader.content(expand(text), wanted)), "")
    for path in (reader.surroundings.home / ".ssh" / name for name in DEFAULT_FILES):
        if reader.surroundings.files.is_file(path):
            try:
                return public_keys(reader.content(path, wanted))
            except BadValue as bad:
                reader.warnings.append(f"{path} is not used as public key: {bad.why}")
    return ""


def _name_in_url(reader: Reader, url: str) -> str | None:
    """The file name at the end of the URL; a problem if an image cannot have that name."""
    try:
        return image_name(PurePosixPath(urlsplit(url).path).name)
    except BadValue as bad:
        why = "the URL of the image does not end in a file name of a disk image"
        reader.problems.append(Problem("ISO_NAME is not set", why, f"set ISO_NAME to {bad.wanted}"))
        return None
