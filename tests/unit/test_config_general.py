"""The keys without a number."""

from __future__ import annotations

import base64
from pathlib import Path

import certifi
import pytest

from homelab.config import parse
from homelab.config.dotenv_file import LocalFiles
from homelab.config.general import DEFAULT_IMAGE_URL
from homelab.errors import ConfigError, Problem
from homelab.settings import Config, SigningKey, StoppedVm, Via

BASE = {"API_TOKEN": "root@pam!homelab=secret-canary", "NODE_1": "pve", "STORAGE_1": "local-zfs"}


def public_key(kind: str = "ssh-ed25519", comment: str = "me@laptop") -> str:
    name = kind.encode()
    blob = len(name).to_bytes(4, "big") + name + b"\0\0\0\x20" + bytes(32)
    return f"{kind} {base64.b64encode(blob).decode()} {comment}".strip()


def read(home: Path, via: Via = Via.AUTO, **more: str) -> Config:
    return parse(BASE | more, home=home, via=via, files=LocalFiles())


def problem(home: Path, **more: str) -> Problem:
    with pytest.raises(ConfigError) as error:
        read(home, Via.AUTO, **more)
    (only,) = error.value.problems
    return only


def test_defaults(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert (config.node_domain, config.fallback_addresses, config.api_port, config.ssh_port) == ("maas", (), 8006, 22)
    assert (config.ssh.user, config.ssh.key_path, config.ssh.known_hosts, config.ssh.guest_port) == (
        "root",
        None,
        None,
        22,
    )
    assert (config.guest.user, config.guest.password, config.guest.public_keys) == ("ubuntu", None, "")
    assert (config.guest.nameserver, config.guest.upgrades_packages) == (None, False)
    assert (config.guest.cpu_type, config.guest.start_timeout_s) == ("host", 180.0)
    assert (config.image.name, config.image.url) == ("noble-server-cloudimg-amd64.img", DEFAULT_IMAGE_URL)
    assert (config.image.sha256, config.image.is_unverified) == (None, False)
    assert (config.k3s.existing_servers, config.k3s.version, config.k3s.artifact_url) == ((), None, None)
    assert config.k3s.install_url == "https://get.k3s.io"
    policy = config.policy
    assert (policy.stopped_vm, policy.max_replacements, policy.max_parallel) == (StoppedVm.REPLACE, 1, 8)
    assert policy.host_reserve_mib == 2048


def test_empty_value_means_not_set(tmp_path: Path) -> None:
    assert read(tmp_path, VM_START_TIMEOUT="", CLOUD_USER=" ", K3S_EXISTING_NODE_IP="") == read(tmp_path)


def test_general_values_are_taken(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        NODE_DOMAIN="home.arpa",
        SSH_USER="admin",
        VM_SSH_PORT="2222",
        CLOUD_USER="me",
        CLOUD_PASSWORD="pass-canary",
        CLOUD_NAMESERVER="192.168.4.1",
        CLOUD_UPGRADE="yes",
        VM_CPU_TYPE="x86-64-v2-AES",
        VM_START_TIMEOUT="60",
        IMAGE_SHA256="ab" * 32,
        IMAGE_UNVERIFIED="1",
        K3S_EXISTING_NODE_IP="192.168.4.212",
        K3S_VERSION="v1.33.4+k3s1",
        K3S_INSTALL_URL="http://127.30.4.1:8080/install.sh",
        K3S_ARTIFACT_URL="http://127.30.4.1:8080/releases/",
        STOPPED_VM="keep",
        MAX_REPLACEMENTS="0",
        MAX_PARALLEL="64",
        HOST_RESERVE_MIB="0",
    )
    assert (config.node_domain, config.ssh.user, config.ssh.guest_port) == ("home.arpa", "admin", 2222)
    assert config.guest.password and config.guest.password.reveal() == "pass-canary"
    assert (config.guest.user, config.guest.nameserver, config.guest.upgrades_packages) == ("me", "192.168.4.1", True)
    assert (config.guest.cpu_type, config.guest.start_timeout_s) == ("x86-64-v2-AES", 60.0)
    assert (config.image.sha256, config.image.is_unverified) == ("ab" * 32, True)
    assert (config.k3s.existing_servers, config.k3s.version) == (("192.168.4.212",), "v1.33.4+k3s1")
    assert config.k3s.install_url == "http://127.30.4.1:8080/install.sh"
    assert config.k3s.artifact_url == "http://127.30.4.1:8080/releases"
    policy = config.policy
    assert (policy.stopped_vm, policy.max_replacements, policy.max_parallel) == (StoppedVm.KEEP, 0, 64)
    assert policy.host_reserve_mib == 0


# --- the token ---


def test_token_is_needed_for_the_api(tmp_path: Path) -> None:
    missing = problem(tmp_path, API_TOKEN="")
    assert (missing.what, missing.why) == ("API_TOKEN is not set", "neither .env nor the environment has it")
    assert "--via ssh" in missing.cure


def test_token_is_not_needed_over_ssh(tmp_path: Path) -> None:
    config = read(tmp_path, Via.SSH, API_TOKEN="")
    assert (config.api.token, config.warnings) == (None, ())


def test_malformed_token_is_named_and_not_shown(tmp_path: Path) -> None:
    assert problem(tmp_path, API_TOKEN="root@pam!homelab:secret-canary").what == "API_TOKEN cannot be used"


def test_malformed_token_is_only_a_warning_over_ssh(tmp_path: Path) -> None:
    config = read(tmp_path, Via.SSH, API_TOKEN="secret-canary")
    assert config.api.token is None
    assert config.warnings == (
        "API_TOKEN cannot be used: it does not have the form user@realm!tokenid=secret; --via ssh does not need it",
    )


# --- files ---


def test_public_key_file_is_taken_whole_without_comments(tmp_path: Path) -> None:
    keys = [public_key(), public_key("ssh-rsa", ""), f"no-pty {public_key('sk-ssh-ed25519@openssh.com')}"]
    (tmp_path / "keys.pub").write_text("# mine\n\n" + "\n".join(keys) + "\n")
    assert read(tmp_path, SSH_PUBKEY_PATH="~/keys.pub").guest.public_keys == "\n".join(keys)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n", "private key"),
        (b"PuTTY-User-Key-File-3: ssh-ed25519\ncanary\n", "private key"),
        (b"\n# nothing\n", "holds no key"),
        (b"---- BEGIN SSH2 PUBLIC KEY ----\n", "not an OpenSSH public key"),
        (b"ssh-ed25519\n", "not an OpenSSH public key"),
        (b"ssh-ed25519 AAA\n", "not an OpenSSH public key"),
        (b"ssh-ed25519 \xc3\xa4\xc3\xb6\n", "not an OpenSSH public key"),
        (public_key("ssh-rsa").replace("ssh-rsa", "ssh-ed25519").encode(), "not an OpenSSH public key"),
        (b"\xff\xfe\x00", "not text"),
    ],
)
def test_file_that_is_no_public_key_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "key.pub").write_bytes(content)
    refused = problem(tmp_path, SSH_PUBKEY_PATH="~/key.pub")
    assert why in refused.why
    assert refused.cure.startswith("set SSH_PUBKEY_PATH to")


def test_public_key_file_that_is_set_and_missing_is_refused(tmp_path: Path) -> None:
    assert problem(tmp_path, SSH_PUBKEY_PATH="~/no.pub").why == "the file cannot be read (No such file or directory)"


@pytest.mark.parametrize("path", ["/dev/zero", "~"])
def test_public_key_path_that_is_no_regular_file_is_refused(tmp_path: Path, path: str) -> None:
    assert problem(tmp_path, SSH_PUBKEY_PATH=path).why == "the file cannot be read (it is not a regular file)"


def test_first_default_public_key_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_rsa.pub").write_text(public_key("ssh-rsa"))
    (tmp_path / ".ssh/id_ecdsa.pub").write_text(public_key("ecdsa-sha2-nistp256"))
    assert read(tmp_path).guest.public_keys == public_key("ecdsa-sha2-nistp256")


def test_damaged_default_public_key_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519.pub").write_text("damaged")
    (tmp_path / ".ssh/id_rsa.pub").write_text(public_key("ssh-rsa"))
    config = read(tmp_path)
    assert config.guest.public_keys == public_key("ssh-rsa")
    assert "id_ed25519.pub is not used as public key" in config.warnings[0]


def test_ssh_files_that_are_there_are_used(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    (tmp_path / "hosts").touch()
    ssh = read(tmp_path, SSH_KEY_PATH="~/key", SSH_KNOWN_HOSTS="~/hosts").ssh
    assert (ssh.key_path, ssh.known_hosts) == (tmp_path / "key", tmp_path / "hosts")


def test_ssh_files_that_are_missing_are_warned_about(tmp_path: Path) -> None:
    config = read(tmp_path, SSH_KEY_PATH="~/key", SSH_KNOWN_HOSTS="~/hosts")
    assert (config.ssh.key_path, config.ssh.known_hosts) == (None, tmp_path / "hosts")
    assert config.warnings == (
        f"SSH_KEY_PATH: no file '{tmp_path}/key'; the SSH agent and ssh_config choose the key",
        f"SSH_KNOWN_HOSTS: no file '{tmp_path}/hosts', so it vouches for no host",
    )


def test_path_that_is_too_long_for_the_system_is_no_file() -> None:
    assert not LocalFiles().is_file(Path("/" + "x" * 5000))


def test_ca_bundle_is_taken_when_tls_can_load_it(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("# Überschrift\n" + _one_certificate(Path(certifi.where())))
    assert read(tmp_path, PROXMOX_CA_BUNDLE="~/ca.pem").api.ca_bundle == tmp_path / "ca.pem"


@pytest.mark.parametrize(
    "content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----"]
)
def test_ca_bundle_without_certificate_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "ca.pem").write_text(content)
    assert "no certificate" in problem(tmp_path, PROXMOX_CA_BUNDLE="~/ca.pem").why


# --- image ---


def test_image_address_falls_back_to_the_older_key(tmp_path: Path) -> None:
    older = "https://example.org/jammy-server-cloudimg-amd64.img"
    image = read(tmp_path, UBUNTU_IMG_URL=older).image
    assert (image.url, image.name) == (older, "jammy-server-cloudimg-amd64.img")
    assert read(tmp_path, UBUNTU_IMG_URL="unused", ISO_URL=DEFAULT_IMAGE_URL).image.url == DEFAULT_IMAGE_URL


def test_image_name_is_independent_of_its_address(tmp_path: Path) -> None:
    image = read(tmp_path, ISO_NAME="mine.img", ISO_URL="https://example.org/download?id=7").image
    assert (image.name, image.url) == ("mine.img", "https://example.org/download?id=7")


def test_image_address_without_a_file_name_asks_for_one(tmp_path: Path) -> None:
    missing = problem(tmp_path, ISO_URL="https://example.org/download?id=7")
    assert missing.what == "ISO_NAME is not set"
    assert missing.cure.startswith("set ISO_NAME to")


CHECKED_BY = "A" * 40
ARMORED = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME\n-----END PGP PUBLIC KEY BLOCK-----\n"


def test_a_publisher_s_key_is_taken_with_its_fingerprint_however_that_is_written(tmp_path: Path) -> None:
    (tmp_path / "key.asc").write_text(ARMORED)
    spaced = " ".join(["aaaa"] * 10)
    for fingerprint in (CHECKED_BY, f"0x{CHECKED_BY}", spaced, ":".join(["AA"] * 20)):
        image = read(tmp_path, IMAGE_SIGNING_KEY="~/key.asc", IMAGE_SIGNING_FINGERPRINT=fingerprint).image
        assert image.signing_key == SigningKey(ARMORED, CHECKED_BY)


@pytest.mark.parametrize(
    ("content", "fingerprint", "what", "why"),
    [
        (None, CHECKED_BY, "IMAGE_SIGNING_KEY cannot be used", "the file cannot be read"),
        ("ssh-rsa AAAA", CHECKED_BY, "IMAGE_SIGNING_KEY cannot be used", "holds no armored OpenPGP public key"),
        (ARMORED, "7DB87C81", "IMAGE_SIGNING_FINGERPRINT='7DB87C81' cannot be used", "not the whole fingerprint"),
        (ARMORED, None, "IMAGE_SIGNING_FINGERPRINT is not set", "IMAGE_SIGNING_KEY is, and says nothing by itself"),
    ],
)
def test_a_publisher_s_key_that_cannot_be_checked_is_a_problem(
    tmp_path: Path, content: str | None, fingerprint: str | None, what: str, why: str
) -> None:
    if content is not None:
        (tmp_path / "key.asc").write_text(content)
    found = problem(tmp_path, IMAGE_SIGNING_KEY="~/key.asc", IMAGE_SIGNING_FINGERPRINT=fingerprint or "")
    assert (found.what, why in found.why) == (what, True)


def test_a_fingerprint_without_its_key_is_a_problem(tmp_path: Path) -> None:
    found = problem(tmp_path, IMAGE_SIGNING_FINGERPRINT=CHECKED_BY)
    assert found.what == "IMAGE_SIGNING_KEY is not set"
    assert "Ubuntu's own key comes with homelab" in found.cure


def test_a_list_of_checksums_comes_by_https_or_with_a_key(tmp_path: Path) -> None:
    (tmp_path / "key.asc").write_text(ARMORED)
    assert read(tmp_path, IMAGE_SHA256SUMS_URL="https://example.org/SUMS").image.sums_url == "https://example.org/SUMS"
    key, listed = "~/key.asc", "http://example.org/SUMS"
    signed = read(tmp_path, IMAGE_SHA256SUMS_URL=listed, IMAGE_SIGNING_KEY=key, IMAGE_SIGNING_FINGERPRINT=CHECKED_BY)
    assert signed.image.sums_url == listed
    found = problem(tmp_path, IMAGE_SHA256SUMS_URL="http://example.org/SUMS")
    assert "anybody on the way can change the list" in found.why
    assert "IMAGE_SIGNING_KEY" in found.cure


# --- PVE_IPS ---


def test_unusable_parts_of_the_address_list_are_left_out(tmp_path: Path) -> None:
    config = read(tmp_path, PVE_IPS=" 192.168.4.11, 192.168.1.11;pve.maas 192.168.4.11, 192.168.4.0/24,,\x07 ")
    assert config.fallback_addresses == ("192.168.4.11", "192.168.1.11", "pve.maas")
    assert config.warnings == (
        "PVE_IPS: '192.168.4.0/24' is neither an address nor a host name and is not used",
        "PVE_IPS: '\\x07' is neither an address nor a host name and is not used",
    )


def test_value_with_a_control_character_is_refused_and_shown_escaped(tmp_path: Path) -> None:
    refused = problem(tmp_path, SSH_USER="ro\x1b[31mot")
    assert refused.what == "SSH_USER='ro\\x1b[31mot' cannot be used"
    assert "cannot be printed" in refused.why


def test_long_value_is_shortened_in_the_message(tmp_path: Path) -> None:
    assert problem(tmp_path, SSH_USER="x" * 500).what == f"SSH_USER='{'x' * 80}...' cannot be used"


def _one_certificate(bundle: Path) -> str:
    text = bundle.read_text(encoding="utf-8")
    end = "-----END CERTIFICATE-----\n"
    return text[text.index("-----BEGIN") : text.index(end) + len(end)]


# --- k3s ---


def test_several_servers_a_shared_address_and_kubeconfigs_are_read(tmp_path: Path) -> None:
    k3s = read(
        tmp_path,
        K3S_EXISTING_NODE_IP="192.168.4.212, k3s.maas",
        K3S_SERVER_URL="192.168.4.200",
        KUBECONFIG="~/one:/two:",
    ).k3s

    assert k3s.existing_servers == ("192.168.4.212", "k3s.maas")
    assert k3s.server_url == "https://192.168.4.200:6443"
    assert k3s.kubeconfigs == (tmp_path / "one", Path("/two"))


def test_kubeconfig_is_looked_for_in_the_home_directory(tmp_path: Path) -> None:
    assert read(tmp_path).k3s.kubeconfigs == (tmp_path / "kubeconfig",)


def test_shared_address_without_servers_is_warned_about(tmp_path: Path) -> None:
    config = read(tmp_path, K3S_SERVER_URL="192.168.4.200")

    assert not config.k3s.is_join_wanted
    assert config.warnings == ("K3S_SERVER_URL is not used: without K3S_EXISTING_NODE_IP nothing joins",)
