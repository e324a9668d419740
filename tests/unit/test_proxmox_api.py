"""The HTTPS wire against real sockets: what each kind of answer, and each kind of silence, means."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from email.utils import formatdate
from pathlib import Path

import pytest

from homelab.errors import Misunderstood, NotThere, Refused, TaskFailed, Undecided, Unreachable
from homelab.models import Wire
from homelab.proxmox.api import Api, ApiAddress, NotPinned
from homelab.proxmox.tls import TlsTrust
from homelab.proxmox.transport import ChangedCertificate, TargetUnreachable, Upload
from homelab.settings import ApiToken, Secret
from support.clock import START, SteppingClock
from support.https_server import Answer, Asked, HttpsServer, Reply, https_server, json_reply, text_reply
from support.names import without_name_server

SECRET = "canary-1234"
TOKEN = ApiToken("svc@pve", "home", Secret(SECRET))
UPID = "UPID:pve1:00000001:00000002:00000003:imgcopy::svc@pve!home:"
Connect = Callable[[Answer], tuple[Api, HttpsServer]]


def api(server: HttpsServer, trust: TlsTrust | None = None) -> Api:
    address = ApiAddress("127.0.0.1", server.port, trust or TlsTrust(ca_bundle=server.ca_bundle), 2)
    return Api(address, TOKEN, SteppingClock())


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    with ExitStack() as stack:

        def serve(answer: Answer) -> tuple[Api, HttpsServer]:
            server = stack.enter_context(https_server(tmp_path, answer))
            return api(server), server

        yield serve


def replies(*them: Reply) -> Answer:
    left = list(them)
    return lambda _asked: left.pop(0) if len(left) > 1 else left[0]


def test_reads_and_writes_put_parameters_where_proxmox_looks_for_them(connect: Connect) -> None:
    wire, server = connect(replies(json_reply([1])))
    assert wire.wire is Wire.API
    assert wire.call("GET", "/nodes/pve1/tasks", {"vmid": 100, "full": True}) == [1]
    wire.call("POST", "/nodes/pve1/qemu/100/agent/exec", {"command": ["echo", "a b"], "input-data": "x"})
    wire.call("DELETE", "/nodes/pve1/qemu/100", {"purge": 0})
    get, post, delete = server.asked
    assert get.path == "/api2/json/nodes/pve1/tasks?vmid=100&full=1"
    assert post.body == b"command=echo&command=a+b&input-data=x"
    assert delete.path == "/api2/json/nodes/pve1/qemu/100?purge=0"
    assert get.headers["authorization"] == f"PVEAPIToken=svc@pve!home={SECRET}"
    assert server.connections == 1


def test_pinned_fingerprint_is_enough_and_a_wrong_one_is_refused(connect: Connect) -> None:
    _, server = connect(replies(json_reply("yes")))
    assert api(server, TlsTrust(fingerprint=server.fingerprint)).call("GET", "/version") == "yes"
    wrong = server.fingerprint[:-2] + ("00" if server.fingerprint[-2:] != "00" else "11")
    with pytest.raises(ChangedCertificate, match=f"it shows SHA-256 {server.fingerprint}, and {wrong} is") as changed:
        api(server, TlsTrust(fingerprint=wrong)).call("POST", "/nodes/pve1/qemu")
    assert "correct PROXMOX_FINGERPRINT_2" in changed.value.cure
    assert len(server.asked) == 1


def test_pinned_fingerprint_may_be_that_of_another_node_where_nobody_knows_which_node_this_is(connect: Connect) -> None:
    _, server = connect(replies(json_reply("yes")))
    somewhere = ApiAddress("127.0.0.1", server.port, TlsTrust(fingerprint="00:11"))
    with pytest.raises(NotPinned, match="SSL routines::certificate verify failed: not the pinned"):
        Api(somewhere, TOKEN, SteppingClock()).call("GET", "/version")
    assert server.asked == []


def test_untrusted_certificate_is_unreachable_with_both_cures(connect: Connect) -> None:
    _, server = connect(replies(json_reply("yes")))
    with pytest.raises(Unreachable, match="SSL routines::certificate verify failed") as refused:
        api(server, TlsTrust()).call("POST", "/nodes/pve1/qemu")
    assert "PROXMOX_CA_BUNDLE" in refused.value.cure
    assert "PROXMOX_FINGERPRINT_2" in refused.value.cure
    assert server.asked == []


def test_cas_of_proxmox_clusters_are_not_held_to_what_newer_pythons_want(connect: Connect) -> None:
    _, server = connect(replies(json_reply("yes")))
    context = TlsTrust(ca_bundle=server.ca_bundle).context("127.0.0.1", server.port)
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_unreadable_ca_bundle_names_its_setting(connect: Connect, tmp_path: Path) -> None:
    _, server = connect(replies(json_reply("yes")))
    with pytest.raises(Unreachable, match="cannot be read") as unreadable:
        api(server, TlsTrust(ca_bundle=tmp_path / "none.pem")).call("GET", "/version")
    assert "PROXMOX_CA_BUNDLE" in unreadable.value.cure


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_closed_port_is_unreachable(method: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    wire = Api(ApiAddress("127.0.0.1", port, TlsTrust(), 1), TOKEN, SteppingClock())
    with pytest.raises(Unreachable, match="connection refused"):
        wire.call(method, "/version")


def test_unknown_name_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    without_name_server(monkeypatch)
    wire = Api(ApiAddress("no-such-host.invalid", 8006, TlsTrust(), 1), TOKEN, SteppingClock())
    with pytest.raises(Unreachable, match="name is not known"):
        wire.call("POST", "/version")


def test_port_that_speaks_no_tls_is_unreachable_for_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homelab.proxmox.api.CONNECT_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = ApiAddress("127.0.0.1", silent.getsockname()[1], TlsTrust(), 1)
        with pytest.raises(Unreachable):
            Api(address, TOKEN, SteppingClock()).call("GET", "/version", timeout_s=0.1)


def test_machine_that_never_takes_the_connection_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homelab.proxmox.api.CONNECT_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        wire = Api(ApiAddress("127.0.0.1", full.getsockname()[1], TlsTrust(), 1), TOKEN, SteppingClock())
        with pytest.raises(Unreachable, match="no answer within"):
            wire.call("POST", "/nodes/pve1/qemu")


def test_ipv6_address_is_put_into_brackets() -> None:
    assert str(ApiAddress("::1", 8006, TlsTrust(), 1)) == "https://[::1]:8006"


@pytest.mark.parametrize("then", ["reset", "close"])
def test_connection_cut_after_a_write_is_undecided_and_the_write_is_not_repeated(connect: Connect, then: str) -> None:
    wire, server = connect(replies(Reply(then=then)))
    with pytest.raises(Undecided, match="cut off"):
        wire.call("POST", "/nodes/pve1/qemu")
    assert len(server.asked) == 1


def test_connection_cut_during_a_read_is_tried_once_more(connect: Connect) -> None:
    wire, server = connect(replies(Reply(then="reset"), json_reply("second")))
    assert wire.call("GET", "/version") == "second"
    assert len(server.asked) == 2


def test_read_that_is_always_cut_off_is_unreachable(connect: Connect) -> None:
    wire, server = connect(replies(Reply(then="reset")))
    with pytest.raises(Unreachable, match="cut off"):
        wire.call("GET", "/version")
    assert len(server.asked) == 2


def test_slow_read_is_unreachable_without_a_second_try_and_a_slow_write_undecided(connect: Connect) -> None:
    wire, server = connect(replies(Reply(then="hang")))
    with pytest.raises(Unreachable, match="no answer in time") as slow:
        wire.call("GET", "/version", timeout_s=0.1)
    assert "pveproxy" in slow.value.cure
    with pytest.raises(Undecided, match="no answer in time"):
        wire.call("POST", "/nodes/pve1/qemu", timeout_s=0.1)
    assert len(server.asked) == 2


def test_broken_tls_in_the_answer_to_a_write_is_undecided_and_the_write_is_not_repeated(connect: Connect) -> None:
    wire, server = connect(replies(Reply(then="garble")))
    with pytest.raises(Undecided, match="cut off"):
        wire.call("POST", "/nodes/pve1/qemu")
    assert len(server.asked) == 1


def test_port_that_answers_the_handshake_with_something_else_is_unreachable_for_writes_too() -> None:
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with suppress(OSError), connection:
            connection.recv(4096)
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            connection.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        address = ApiAddress("127.0.0.1", listener.getsockname()[1], TlsTrust(), 1)
        with pytest.raises(Unreachable, match="SSL routines::"):
            Api(address, TOKEN, SteppingClock()).call("POST", "/nodes/pve1/qemu")


def test_half_an_answer_to_a_write_is_undecided(connect: Connect) -> None:
    wire, _ = connect(replies(Reply(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"data": ', "close")))
    with pytest.raises(Undecided):
        wire.call("PUT", "/nodes/pve1/qemu/100/config")


@pytest.mark.parametrize(
    "reply",
    [
        text_reply("<html>log in</html>"),
        text_reply('{"data": '),
        text_reply("[]"),
        text_reply('{"message": "no data"}'),
        text_reply("", "302 Found", "Location: https://portal.example/\r\n"),
    ],
    ids=["html", "half-json", "list", "no-data", "redirect"],
)
def test_answer_that_is_not_proxmox_is_misunderstood(connect: Connect, reply: Reply) -> None:
    wire, _ = connect(replies(reply))
    with pytest.raises(Misunderstood, match="instead of Proxmox' JSON"):
        wire.call("GET", "/version")


def test_401_names_the_token_and_how_to_make_one(connect: Connect) -> None:
    date = formatdate(START, usegmt=True)
    wire, _ = connect(replies(text_reply("", "401 Authentication failed!", f"Date: {date}\r\n")))
    with pytest.raises(Refused, match=r"401 Authentication failed!$") as refused:
        wire.call("GET", "/version")
    assert refused.value.status == 401
    assert "API_TOKEN is svc@pve!home" in refused.value.cure
    assert SECRET not in str(refused.value) + refused.value.cure


def test_401_mentions_a_clock_that_is_off(connect: Connect) -> None:
    date = formatdate(START + 540, usegmt=True)
    wire, _ = connect(replies(text_reply("", "401 Authentication failed!", f"Date: {date}\r\n")))
    with pytest.raises(Refused, match="differs from ours by 540 s"):
        wire.call("GET", "/version")


BOTH = "--users 'svc@pve' --tokens 'svc@pve!home'"
"""A token made with privileges of its own needs what its user has once more; to another one that does no harm."""


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("(/pool/homelab-run, Pool.Allocate)", f"pveum acl modify /pool {BOTH} --roles PVEPoolAdmin"),
        ("(/vms/100, VM.Audit)", f"pveum acl modify /vms {BOTH} --roles PVEVMAdmin"),
        ("(/storage/local, Datastore.AllocateTemplate)", f"modify /storage/local {BOTH} --roles PVEDatastoreAdmin"),
        ("(/nodes/pve1, Sys.Modify)", "--roles Administrator"),
        ("(/, Sys.Modify for modifying tag 'x')", f"the token lacks Sys.Modify on /: pveum acl modify / {BOTH}"),
        ("", f"pveum acl modify /vms {BOTH} --roles PVEVMAdmin"),
    ],
)
def test_403_gives_the_command_that_grants_what_is_missing(connect: Connect, text: str, command: str) -> None:
    message = f"Permission check failed {text}".strip()
    wire, _ = connect(replies(json_reply(status=f"403 {message}", message=f"{message}\n")))
    with pytest.raises(Refused) as refused:
        wire.call("POST", "/nodes/pve1/qemu")
    assert refused.value.status == 403
    assert command in refused.value.cure


def test_400_keeps_the_words_for_each_parameter(connect: Connect) -> None:
    errors = {"vmid": "invalid format - value does not look like a valid VM ID\n"}
    wire, _ = connect(
        replies(json_reply(status="400 Parameter verification failed.", message="Parameter x\n", errors=errors))
    )
    with pytest.raises(Refused, match="vmid: invalid format") as refused:
        wire.call("POST", "/nodes/pve1/qemu")
    assert refused.value.errors == {"vmid": "invalid format - value does not look like a valid VM ID"}


def test_error_without_body_falls_back_on_the_reason_phrase(connect: Connect) -> None:
    wire, _ = connect(replies(text_reply("", "500 VM is locked (backup)", "")))
    with pytest.raises(Refused, match=r"VM is locked \(backup\)") as refused:
        wire.call("PUT", "/nodes/pve1/qemu/100/config")
    assert "wait until that backup is over" in refused.value.cure


@pytest.mark.parametrize(
    "reply",
    [
        json_reply(status="500 x", message="Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist\n"),
        json_reply(status="500 x", message="unable to find configuration file for VM 999 on node 'pve1'\n"),
        json_reply(status="400 x", message="Parameter verification failed.\n", errors={"upid": "no such task"}),
    ],
)
def test_missing_object_is_not_there(connect: Connect, reply: Reply) -> None:
    wire, _ = connect(replies(reply))
    with pytest.raises(NotThere):
        wire.call("GET", "/nodes/pve1/qemu/999/config")


@pytest.mark.parametrize(("method", "status"), [("GET", 595), ("POST", 595), ("GET", 596), ("GET", 599), ("GET", 503)])
def test_proxy_that_did_not_reach_the_node_meant_is_its_own_kind(connect: Connect, method: str, status: int) -> None:
    wire, _ = connect(replies(text_reply("", f"{status} no route to host")))
    with pytest.raises(TargetUnreachable, match=f"{status} no route to host"):
        wire.call(method, "/nodes/pve2/qemu")


@pytest.mark.parametrize("status", [596, 597, 599, 502])
def test_proxy_trouble_during_a_write_is_undecided(connect: Connect, status: int) -> None:
    wire, _ = connect(replies(text_reply("", f"{status} broken pipe")))
    with pytest.raises(Undecided):
        wire.call("POST", "/nodes/pve2/qemu")


def test_token_is_masked_in_words_of_the_server(connect: Connect) -> None:
    wire, _ = connect(replies(json_reply(status="500 x", message=f"bad header {SECRET}\n")))
    with pytest.raises(Refused) as refused:
        wire.call("POST", "/nodes/pve1/qemu")
    assert SECRET not in str(refused.value)


def upload(tmp_path: Path, **changes: object) -> Upload:
    source = tmp_path / "image"
    source.write_bytes(b"x" * 600_000)
    values = {
        "source": source,
        "node": "pve1",
        "storage": "local",
        "content": "import",
        "filename": "noble.qcow2",
        "sha256": "00ff",
    } | changes
    return Upload(**values)  # type: ignore[arg-type]


def task_reply(exit_status: str) -> Answer:
    def answer(asked: Asked) -> Reply:
        if asked.path.endswith("/upload"):
            return json_reply(UPID)
        if asked.path.endswith("/status"):
            return json_reply({"status": "stopped", "exitstatus": exit_status})
        return json_reply([{"n": 1, "t": "TASK ERROR: wrong"}])

    return answer


def test_upload_sends_its_fields_in_proxmox_order_and_waits_for_the_task(connect: Connect, tmp_path: Path) -> None:
    wire, server = connect(task_reply("OK"))
    seen: list[tuple[int, int]] = []
    assert wire.put_file(upload(tmp_path, on_progress=lambda *at: seen.append(at))) == "local:import/noble.qcow2"
    body = server.asked[0].body
    fields = [
        body.index(f'name="{name}"'.encode()) for name in ("content", "checksum-algorithm", "checksum", "filename")
    ]
    assert fields == sorted(fields)
    assert b"x" * 600_000 in body
    assert seen[-1] == (600_000, 600_000)


def test_upload_whose_task_fails_raises_with_proxmox_words(connect: Connect, tmp_path: Path) -> None:
    wire, _ = connect(task_reply("Image is not in qcow2 format"))
    with pytest.raises(TaskFailed, match="Image is not in qcow2 format"):
        wire.put_file(upload(tmp_path))


def test_upload_without_a_task_is_misunderstood(connect: Connect, tmp_path: Path) -> None:
    wire, _ = connect(replies(json_reply(None)))
    with pytest.raises(Misunderstood, match="expected text"):
        wire.put_file(upload(tmp_path))


def test_upload_to_a_closed_port_is_unreachable(tmp_path: Path) -> None:
    wire = Api(ApiAddress("127.0.0.1", 1, TlsTrust(), 1), TOKEN, SteppingClock())
    with pytest.raises(Unreachable):
        wire.put_file(upload(tmp_path))
