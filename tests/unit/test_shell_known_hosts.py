"""known_hosts and ssh_config read as OpenSSH reads them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from homelab.errors import Unreachable
from homelab.shell import ChangedHostKey, HostKey, KnownHosts, UnknownHostKey
from homelab.shell.client_config import Wanted, host_options
from homelab.shell.known_hosts import Strictness

KEY = HostKey("ssh-ed25519", "AAAA1111")
OTHER = HostKey("ssh-ed25519", "AAAA2222")
RSA = HostKey("ssh-rsa", "AAAA3333")


def hashed(name: str) -> str:
    salt = b"0123456789abcdef0123"
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def known(tmp_path: Path, text: str, **options: object) -> KnownHosts:
    path = tmp_path / "known_hosts"
    path.write_text(text)
    return KnownHosts((tmp_path / "missing", path), path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "port"),
    [
        ("pve1", 22),
        ("other,pve1,192.0.2.1", 22),
        ("PVE*", 22),
        ("pve?", 22),
        ("!pve9,pve*", 22),
        ("[pve1]:2222", 2222),
        ("pve1", 2222),
        (hashed("pve1"), 22),
        (hashed("[pve1]:2222"), 2222),
    ],
    ids=[
        "name",
        "list",
        "star",
        "question-mark",
        "other-ruled-out",
        "port",
        "port-falls-back-to-name",
        "hashed",
        "hashed-port",
    ],
)
def test_line_for_the_host_vouches_for_its_key(tmp_path: Path, names: str, port: int) -> None:
    hosts = known(tmp_path, f"# comment\n\nbroken\n{names} {KEY} a comment\n")
    hosts.check("pve1", port, KEY)
    assert hosts.key_kinds("pve1", port) == ("ssh-ed25519",)


@pytest.mark.parametrize(
    "line", ["pve*,!pve1", "pve12", "[pve1]:2223", "|1|no base64|x", hashed("pve2"), "@cert-authority pve1"]
)
def test_line_for_another_host_does_not_vouch(tmp_path: Path, line: str) -> None:
    with pytest.raises(UnknownHostKey):
        known(tmp_path, f"{line} {KEY}\n").check("pve1", 22, KEY)


def test_other_key_of_the_same_type_is_a_change(tmp_path: Path) -> None:
    with pytest.raises(ChangedHostKey):
        known(tmp_path, f"pve1 {OTHER}\n").check("pve1", 22, KEY)


def test_key_of_another_type_is_unknown_and_says_which_is_known(tmp_path: Path) -> None:
    with pytest.raises(UnknownHostKey, match="known: ssh-rsa"):
        known(tmp_path, f"pve1 {RSA}\n").check("pve1", 22, KEY)


def test_revoked_key_is_refused_even_when_checking_is_off(tmp_path: Path) -> None:
    hosts = known(tmp_path, f"pve1 {KEY}\n@revoked * {KEY}\n", strictness=Strictness.NO)
    with pytest.raises(ChangedHostKey, match="@revoked"):
        hosts.check("pve1", 22, KEY)


def test_host_key_alias_stands_for_name_and_port(tmp_path: Path) -> None:
    known(tmp_path, f"cluster {KEY}\n", alias="cluster").check("192.0.2.1", 2222, KEY)


def test_accept_new_adds_an_unknown_key_and_refuses_a_changed_one(tmp_path: Path) -> None:
    hosts = known(tmp_path, "", strictness=Strictness.ACCEPT_NEW)
    hosts.check("pve1", 2222, KEY)
    assert (tmp_path / "known_hosts").read_text() == f"[pve1]:2222 {KEY}\n"
    with pytest.raises(ChangedHostKey):
        hosts.check("pve1", 2222, OTHER)


def test_checking_switched_off_accepts_a_changed_key(tmp_path: Path) -> None:
    known(tmp_path, f"pve1 {OTHER}\n", strictness=Strictness.NO).check("pve1", 22, KEY)
    known(tmp_path, f"pve1 {KEY}\n", strictness=Strictness.NO).check("pve1", 22, KEY)


def test_key_that_cannot_be_added_is_accepted_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hosts = KnownHosts((), tmp_path, strictness=Strictness.ACCEPT_NEW)
    hosts.check("pve1", 22, KEY)
    assert "could not be added" in caplog.text


def wanted(tmp_path: Path, config: str, **changes: object) -> Wanted:
    (tmp_path / ".ssh").mkdir(exist_ok=True)
    (tmp_path / ".ssh/config").write_text(config)
    values = {"user": None, "key_path": None, "known_hosts": None, "home": tmp_path} | changes
    return Wanted(**values)  # type: ignore[arg-type]


def test_ssh_config_gives_address_port_user_key_and_host_key_options(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("key")
    config = f"""
        Host pve1
          HostName 192.0.2.9
          Port 2200
          User admin
          IdentityFile {tmp_path}/id
          IdentityFile {tmp_path}/absent
          IdentitiesOnly yes
          HostKeyAlias home
          StrictHostKeyChecking accept-new
          UserKnownHostsFile ~/kh {tmp_path}/kh2
          GlobalKnownHostsFile /dev/null
    """
    options = host_options("pve1", 22, wanted(tmp_path, config))
    assert (options.host, options.port, options.user) == ("192.0.2.9", 2200, "admin")
    assert (options.key_files, options.asks_agent) == ((tmp_path / "id",), False)
    assert options.known_hosts == KnownHosts(
        (tmp_path / "kh", tmp_path / "kh2", Path("/dev/null")), tmp_path / "kh", "home", Strictness.ACCEPT_NEW
    )


def test_own_settings_win_over_ssh_config(tmp_path: Path) -> None:
    config = "Host *\n User admin\n Port 2200\n IdentityFile ~/.ssh/other\n"
    own = {"user": "root", "key_path": tmp_path / "key", "known_hosts": tmp_path / "known"}
    options = host_options("pve1", 2222, wanted(tmp_path, config, **own))
    assert (options.user, options.port, options.key_files, options.asks_agent) == (
        "root",
        2222,
        (tmp_path / "key",),
        False,
    )
    assert options.known_hosts.writable == tmp_path / "known"
    assert options.known_hosts.files[1:3] == (tmp_path / ".ssh/known_hosts", tmp_path / ".ssh/known_hosts2")


def test_without_ssh_config_the_usual_keys_and_the_agent_are_tried(tmp_path: Path) -> None:
    settings = wanted(tmp_path, "")
    (tmp_path / ".ssh/id_rsa").write_text("key")
    options = host_options("pve1", 22, settings)
    assert (options.user, options.key_files, options.asks_agent) == ("root", (tmp_path / ".ssh/id_rsa",), True)
    assert options.known_hosts.strictness is Strictness.YES


def test_included_files_count_and_end_with_their_own_blocks(tmp_path: Path) -> None:
    settings = wanted(tmp_path, "Include conf.d/*\nHost pve1\n Include ~/more\n User late\n")
    (tmp_path / ".ssh/conf.d").mkdir()
    (tmp_path / ".ssh/conf.d/a").write_text("Host pve9\n Port 99\n")
    (tmp_path / ".ssh/conf.d/b").write_text("Host pve1\n Port 2201\n")
    (tmp_path / "more").write_text("Host pve9\n User wrong\n")
    options = host_options("pve1", 22, settings)
    assert (options.port, options.user) == (2201, "late")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("ProxyCommand nc %h %p", "nc pve1 2222"),
        ("ProxyCommand none", ""),
        ("ProxyJump jump", "ssh -W '[pve1]:2222' jump"),
        ("ProxyJump a@first,b@last:2022", "ssh -J a@first -p 2022 -W '[pve1]:2222' b@last"),
    ],
)
def test_proxies_become_the_command_that_openssh_would_run(tmp_path: Path, line: str, command: str) -> None:
    assert host_options("pve1", 2222, wanted(tmp_path, f"Host *\n {line}\n")).proxy == command


def test_unusable_ssh_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="ssh_config") as bad:
        host_options("pve1", 22, wanted(tmp_path, "Host pve1\n  nonsense\n"))
    assert ".ssh/config" in bad.value.cure


def test_checking_values_of_openssh_are_understood() -> None:
    assert [Strictness.parse(text) for text in ("no", "off", "accept-new", "ask", "yes")] == [
        Strictness.NO,
        Strictness.NO,
        Strictness.ACCEPT_NEW,
        Strictness.YES,
        Strictness.YES,
    ]
