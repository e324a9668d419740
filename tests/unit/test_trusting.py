"""Whom to believe: what is stored, who is asked, what is thought of a machine, what one node says of the others."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from homelab.errors import ChangedIdentity, HomelabError, Unreachable
from homelab.memory import TrustStore
from homelab.proxmox.api import Api, ApiAddress
from homelab.proxmox.tls import TlsTrust, is_signed_by
from homelab.proxmox.transport import ChangedCertificate, Link
from homelab.report import Report
from homelab.runtime import begun, ended_like_ctrl_c
from homelab.settings import ApiConfig, ApiToken, Secret, Via
from homelab.shell import Result, Shells, ShownKey
from homelab.shell.trust import HostKey
from homelab.trusting import Questions, Strangers
from homelab.trusting.shown import Doors, Standing
from homelab.trusting.strangers import host_key_lines, key_file
from homelab.trusting.vouching import word_of
from support.clock import SteppingClock
from support.fake_transport import FakeTransport
from support.https_server import HttpsServer, https_server, json_reply
from support.ssh_server import SshServer, ssh_server
from unit.builders import CONFIG, NODE

ONE, OTHER = "AA:" * 31 + "01", "AA:" * 31 + "02"
TOKEN = ApiToken("svc@pve", "home", Secret("canary"))


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    return TrustStore(tmp_path / "trust")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpsServer]:
    with https_server(tmp_path, lambda _: json_reply("yes")) as running:
        yield running


class Person(Questions):
    """Gives these answers, and counts the questions."""

    def __init__(self, *answers: bool) -> None:
        super().__init__(Report())
        object.__setattr__(self, "left", list(answers))

    left: list[bool]

    @property
    def can_be_asked(self) -> bool:
        return True

    def agreed(self, lines: object, question: str) -> bool:
        assert lines
        assert question
        return self.left.pop(0)


# --- what is stored --------------------------------------------------------------------------------------------------


def test_what_is_trusted_takes_the_place_of_what_was_trusted_there_before(store: TrustStore) -> None:
    store.keep_certificate("PVE1", 8006, ONE)
    store.keep_certificate("pve1", 8006, OTHER)
    for key in ("ssh-ed25519 old", "ssh-rsa kept", "ssh-ed25519 new"):
        store.keep_host_key("pve1", key)
    store.keep_host_key("pve2", "ssh-ed25519 old")

    assert (store.certificate("pve1", 8006), store.certificate("pve1", 22)) == (OTHER, None)
    lines = ["pve1 ssh-rsa kept", "pve1 ssh-ed25519 new", "pve2 ssh-ed25519 old"]
    assert store.known_hosts.read_text().splitlines() == lines
    assert {path.stat().st_mode & 0o777 for path in (store.folder, *store.folder.iterdir())} == {0o700, 0o600}


@pytest.mark.parametrize("text", ["", "[]", "not JSON"])
def test_store_that_cannot_be_understood_trusts_nothing_and_says_so(store: TrustStore, text: str) -> None:
    assert store.doubt() is None
    store.keep_certificate("pve1", 8006, ONE)
    assert store.doubt() is None
    (store.folder / "certificates.json").write_text(text)

    assert store.certificate("pve1", 8006) is None
    doubt = store.doubt()
    assert f"{store.folder}/certificates.json: it is not what an earlier run wrote" in str(doubt)
    assert doubt and f"rm {store.folder}/certificates.json" in doubt.cure


@pytest.mark.parametrize("name", ["certificates.json", "known_hosts"])
def test_store_that_cannot_be_read_trusts_nothing_and_says_so(store: TrustStore, name: str) -> None:
    (store.folder / name).mkdir(parents=True)

    assert store.certificate("pve1", 8006) is None
    assert f"{store.folder / name}: Is a directory" in str(store.doubt())


def test_store_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(HomelabError, match="state directory"):
        TrustStore(tmp_path / "file" / "trust").keep_certificate("pve1", 8006, ONE)


# --- who is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", [b"\xff\n", b""])
def test_answer_that_is_none_means_no(monkeypatch: pytest.MonkeyPatch, typed: bytes) -> None:
    with typing(monkeypatch, typed) as writer:
        os.close(writer)
        assert not Questions(Report()).agreed(["line"], "question?")


def test_question_is_dropped_when_the_run_is_to_end_and_none_follows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: list[bool] = []
    with typing(monkeypatch, b"") as writer, ended_like_ctrl_c():
        answered = begun(lambda: answers.append(Questions(Report()).agreed(["line"], "question?")), "asking")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert answered.wait(5)
        capsys.readouterr()
        assert not Questions(Report()).agreed(["line"], "another question?")
        os.close(writer)
    assert answers == [False]
    assert capsys.readouterr().err == ""


@contextmanager
def typing(patch: pytest.MonkeyPatch, typed: bytes) -> Iterator[int]:
    """Standard input is a pipe that holds this; gives its other end."""
    reader, writer = os.pipe()
    os.write(writer, typed)
    with os.fdopen(reader, encoding="utf-8") as stdin:
        patch.setattr(sys, "stdin", stdin)
        yield writer


def test_without_standard_input_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)

    assert not Questions(Report()).can_be_asked


def test_certificate_is_asked_about_once_and_not_where_it_is_trusted_meanwhile(store: TrustStore) -> None:
    person = Person(False, True)
    strangers = Strangers(store, person)

    assert [strangers.meets_certificate("pve1", 8006, lambda: ONE) for _ in range(2)] == [False, False]
    assert [strangers.meets_certificate("pve1", 8006, lambda: OTHER) for _ in range(2)] == [True, True]
    assert person.left == []


def test_nobody_there_to_be_looked_at_and_nothing_to_store_it_in_mean_no(tmp_path: Path) -> None:
    def gone() -> str:
        raise ConnectionRefusedError

    (tmp_path / "file").write_text("")
    strangers = Strangers(TrustStore(tmp_path / "file" / "trust"), Person(True))

    assert not strangers.meets_certificate("pve1", 8006, gone)
    assert not strangers.meets_host_key(ShownKey("pve1", 22, "pve1", HostKey.parse(_line("ssh-ed25519"))))


def test_without_questions_nothing_is_looked_at_or_asked(store: TrustStore) -> None:
    shown = ShownKey("pve1", 22, "pve1", HostKey("ssh-ed25519", "AAAA"))

    assert not Strangers(store).meets_host_key(shown)
    assert not Strangers(store).meets_certificate("pve1", 8006, lambda: pytest.fail("looked"))


def test_file_to_compare_with_is_that_of_the_kind_of_key() -> None:
    kinds = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256")

    assert [key_file(HostKey(kind, "")).split("_")[2] for kind in kinds] == ["ed25519", "rsa", "ecdsa"]


def test_machine_that_is_known_by_another_kind_of_key_is_told_as_such() -> None:
    shown, known = HostKey.parse(_line("ssh-rsa")), HostKey.parse(_line("ssh-ed25519"))

    told = host_key_lines(ShownKey("pve1", 22, "pve1", shown, (known, shown)))
    assert f"is known by another kind of key, and does not show it: ssh-ed25519 {known.fingerprint}" in "\n".join(told)
    assert "another kind" not in "\n".join(host_key_lines(ShownKey("pve1", 22, "pve1", shown, (shown,))))


# --- certificates on the wire ----------------------------------------------------------------------------------------


def wire(server: HttpsServer, trust: TlsTrust) -> Api:
    return Api(ApiAddress("127.0.0.1", server.port, trust, 1), TOKEN, SteppingClock())


def test_trusted_certificate_is_believed_without_a_ca_and_another_one_is_not(
    server: HttpsServer, store: TrustStore
) -> None:
    strangers = Strangers(store)
    store.keep_certificate("127.0.0.1", server.port, server.fingerprint)
    assert wire(server, TlsTrust(learned=strangers)).call("GET", "/version") == "yes"

    store.keep_certificate("127.0.0.1", server.port, ONE)
    with pytest.raises(ChangedCertificate, match=f"it shows SHA-256 {server.fingerprint}, and {ONE} is"):
        wire(server, TlsTrust(learned=strangers)).call("POST", "/nodes/pve1/qemu")
    assert wire(server, TlsTrust(server.ca_bundle, learned=strangers)).call("GET", "/version") == "yes"
    assert len(server.asked) == 2


def test_person_who_trusts_an_unknown_certificate_lets_the_request_go_on(
    server: HttpsServer, store: TrustStore
) -> None:
    person = Person(False, True)
    with pytest.raises(Unreachable, match="certificate verify failed"):
        wire(server, TlsTrust(learned=Strangers(store, person))).call("GET", "/version")

    trusting = wire(server, TlsTrust(learned=Strangers(store, person)))
    assert [trusting.call("GET", "/version") for _ in range(2)] == ["yes", "yes"]
    assert person.left == []


def test_ca_vouches_only_for_whom_it_has_signed(server: HttpsServer, tmp_path: Path) -> None:
    with https_server(tmp_path, lambda _: json_reply()) as other:
        assert is_signed_by(other.ca_bundle.read_text(), "127.0.0.1", other.port)
        assert not is_signed_by(other.ca_bundle.read_text(), "127.0.0.1", server.port)


@pytest.mark.parametrize("first", ["call", "root"])
def test_node_that_changed_is_not_asked_again_on_either_wire(first: str) -> None:
    changed = ChangedCertificate("API https://pve1:8006", "its certificate has changed", "compare")
    api = FakeTransport({"GET /version": changed})
    ssh = FakeTransport({"GET /version": "ssh"})
    ssh.unreachable = changed if first == "root" else None
    link = Link("pve1", api, ssh, Via.AUTO, lambda *_: pytest.fail("switched"))

    for _ in range(2):
        with pytest.raises(ChangedIdentity, match="has changed"):
            link.call("GET", "/version") if first == "call" else link.root
    with pytest.raises(ChangedIdentity):
        link.call("GET", "/version")
    assert len(api.calls) == (1 if first == "call" else 0)
    assert ssh.calls == []


# --- what a machine shows --------------------------------------------------------------------------------------------


def test_certificate_is_judged_by_pin_then_ca_then_answer(server: HttpsServer, store: TrustStore) -> None:
    def judged(ca_bundle: Path | None = None, pin: str | None = None, *, is_own: bool = True) -> tuple[Standing, str]:
        node = replace(NODE, number=2, fingerprint=pin)
        config = replace(CONFIG, nodes=(node,), api=ApiConfig(TOKEN, ca_bundle))
        shown = Doors(config, store).certificate("127.0.0.1", server.port, node if is_own else None)
        assert shown.value == server.fingerprint
        return shown.standing, shown.by

    assert judged(pin=server.fingerprint) == (Standing.TRUSTED, "PROXMOX_FINGERPRINT_2")
    assert judged(pin=server.fingerprint, is_own=False) == (Standing.TRUSTED, "PROXMOX_FINGERPRINT_2")
    assert judged(server.ca_bundle, ONE) == (Standing.REFUSED, "it is not the one of PROXMOX_FINGERPRINT_2")
    assert judged(server.ca_bundle, ONE, is_own=False) == (Standing.TRUSTED, "PROXMOX_CA_BUNDLE")
    assert judged()[0] is Standing.NEW
    store.keep_certificate("127.0.0.1", server.port, ONE)
    assert judged() == (Standing.CHANGED, f"before: {ONE}")
    store.keep_certificate("127.0.0.1", server.port, server.fingerprint)
    assert judged() == (Standing.TRUSTED, "answered earlier")


def test_door_behind_which_no_tls_is_spoken_is_a_problem(store: TrustStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.close()
        with pytest.raises(Unreachable, match="connection refused"):
            Doors(CONFIG, store).certificate("127.0.0.1", port, None)


async def _silent(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.exit(0)


def test_host_key_is_shown_without_logging_in_and_another_kind_when_that_is_looked_for(
    tmp_path: Path, store: TrustStore
) -> None:
    with ssh_server(tmp_path / "key", _silent, more_keys="ecdsa-sha2-nistp256") as server:
        doors = Doors(CONFIG, store)
        with _shells(tmp_path, "") as shells:
            shown = doors.host_key(shells.node("127.0.0.1", server.port))
            assert (shown.standing, shown.value, shown.by) == (Standing.NEW, server.host_key_line, "not in known_hosts")
            assert shown.look_for
            other = shown.look_for(["ecdsa-sha2-nistp256"])
            assert other.value.startswith("ecdsa-sha2-nistp256 ")
            assert other.lines[-1].endswith("ssh_host_ecdsa_key.pub")
        for line, standing in _standings(server):
            with _shells(tmp_path, line) as shells:
                assert doors.host_key(shells.node("127.0.0.1", server.port)).standing is standing
    assert server.commands == []


def _standings(server: SshServer) -> list[tuple[str, Standing]]:
    name, other = f"[127.0.0.1]:{server.port}", _line("ssh-ed25519")
    return [
        (server.known_hosts_line, Standing.TRUSTED),
        (f"{name} {other}\n", Standing.CHANGED),
        (f"@revoked {server.known_hosts_line}", Standing.REFUSED),
    ]


def test_machine_that_shows_no_host_key_is_a_problem(tmp_path: Path, store: TrustStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with _shells(tmp_path, "") as shells, pytest.raises(Unreachable, match="refused"):
        Doors(CONFIG, store).host_key(shells.node("127.0.0.1", port))


def _shells(folder: Path, known: str) -> Shells:
    path = folder / "hosts"
    path.write_text(known)
    return Shells(user="root", key_path=folder / "key", known_hosts=path, home=folder)


# --- what one node says of the others --------------------------------------------------------------------------------

STATUS = [
    {"type": "cluster", "name": "home", "quorate": 1, "nodes": 2},
    {"type": "node", "name": "pve1", "ip": "192.0.2.1", "online": 1, "local": 1},
    {"type": "node", "name": "pve2", "ip": "192.0.2.2", "online": 1, "local": 0},
]


def known_to_root(command: str) -> Result:
    """Before Proxmox VE 8.2: one file for all members, and for whoever else was logged in to."""
    assert "/etc/pve/priv/known_hosts" in command
    lines = ["pve1 ssh-rsa ONE", "192.0.2.2 ssh-rsa TWO", "git.example ssh-rsa ELSE", "@revoked pve2 ssh-rsa OLD"]
    return Result(1, "\n".join(lines), "")


def test_node_vouches_for_the_members_of_its_cluster_and_for_nobody_else() -> None:
    nodes = [{"node": "pve1", "ssl_fingerprint": ONE}, {"node": "pve2", "ssl_fingerprint": OTHER}, {"node": "pve3"}]
    answers = {"GET /cluster/status": STATUS, "GET /nodes": nodes, "GET /nodes/pve1/certificates/info": []}
    mute = FakeTransport(dict.fromkeys(answers, Unreachable("API", "connection refused")))

    root = FakeTransport({})
    root.respond = known_to_root

    word = word_of([mute, FakeTransport(answers)], root)

    assert (word.node, word.authority_pem, word.key_kinds) == ("pve1", "", ("ssh-rsa",))
    values = (ONE, OTHER, "ssh-rsa ONE", "ssh-rsa TWO", "ssh-rsa ELSE", "ssh-rsa OLD")
    assert [word.member(value) for value in values] == ["pve1", "pve2", "pve1", "pve2", None, None]


def test_node_that_nobody_can_ask_vouches_for_nobody() -> None:
    with pytest.raises(Unreachable, match="refused"):
        word_of([FakeTransport({"GET /cluster/status": Unreachable("API", "connection refused")})], None)


def _line(kind: str) -> str:
    return str(asyncssh.generate_private_key(kind).export_public_key().decode())
