"""A lab of one node in the state of the recordings, with real sockets, and the clients that ask it."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import shlex
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import paramiko

from pvelab import certs
from pvelab.api import ROOT_SSH, Api
from pvelab.clock import LabClock
from pvelab.commands.node import equip
from pvelab.http_api import ApiListener, serve_api
from pvelab.machine import Account
from pvelab.rules import permissions, storages
from pvelab.shell.entries import Folder
from pvelab.shell.files import FileSystem
from pvelab.sshd import SshHooks, SshServer
from pvelab.state import Interface, Node, Task, Token, User, World
from replay.stand_in import StandIn
from support.clock import SteppingClock

T = TypeVar("T")
ADDRESS = "127.0.0.1"
PERSON = certs.ssh_key_pair("person@recordings")
SECRETS = {"root@pam!test": "11111111-1111-4111-8111-111111111111",
           "svc@pve!test": "22222222-2222-4222-8222-222222222222",
           "root@pam!sep": "33333333-3333-4333-8333-333333333333"}  # fmt: skip
WRONG = "99999999-9999-4999-8999-999999999999"
PATIENCE_S = 20.0
IMAGE_BYTES = 64 << 20
RAW_BYTES = 32 << 20
PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKtECoe2hUmUPLMVFNbayOgCaZgxGNRR5ANaTWzj3Xg8 bob@x\n"
STORAGE_CFG = "dir: local\n\tpath /var/lib/vz\n\tcontent backup,images,snippets,rootdir,vztmpl,iso,import\n"
FEATURES = (
    (0, 0, "dirty bit"), (0, 1, "corrupt bit"), (0, 2, "external data file"), (0, 3, "compression type"),
    (0, 4, "extended L2 entries"), (1, 0, "lazy refcounts"), (2, 0, "bitmaps"), (2, 1, "raw external data"),
)  # fmt: skip
PROXMOX_IDENTITIES = ("svc@pve", "svc@pve!test")


def empty_qcow2(size_bytes: int = IMAGE_BYTES) -> bytes:
    """What `qemu-img create -f qcow2` writes: the image of the recordings, byte for byte."""
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        *(b"QFI\xfb", 3, 0, 0, 16, size_bytes, 0, 1, 0x30000, 0x10000, 1, 0, 0, 0, 0, 0, 4, 112),
    )
    names = b"".join(bytes([kind, bit]) + name.encode().ljust(46, b"\0") for kind, bit, name in FEATURES)
    data = bytearray(0x30008)
    head = header + bytes(8) + struct.pack(">II", 0x6803F857, len(names)) + names
    data[: len(head)] = head
    data[0x10000:0x10008] = struct.pack(">Q", 0x20000)
    data[0x20000:0x20008] = struct.pack(">4H", 1, 1, 1, 1)
    return bytes(data)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended."""

    exit_code: int
    out: str
    err: str


class Stage:
    """Runs the lab's loop in a thread; each case gets a new world behind the same sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SteppingClock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.guests = StandIn()
        self._lab_clock: LabClock | None = None
        self.world = self.run(self._new_world())
        self._listener = self.run(self._listen())
        self.port = self._listener.runner.addresses[0][1]
        tls = ssl._create_unverified_context()
        self._connection = http.client.HTTPSConnection(ADDRESS, self.port, context=tls)
        self._ssh_port = _free_port()
        self._ssh_server = SshServer(lambda: self.world.nodes["pve1"], SshHooks())
        self.run(self._ssh_server.listen(certs.ssh_key_pair("root@pve1").private_openssh, ADDRESS, self._ssh_port))
        self._client: paramiko.SSHClient | None = None

    def close(self) -> None:
        """Stop listening and end the thread."""
        self._connection.close()
        if self._client:
            self._client.close()
        self.run(self._ssh_server.close())
        self.run(self._listener.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def reset(self) -> None:
        """A new world in the state of the recordings."""
        self.guests = StandIn()
        self.world = self.run(self._new_world())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the lab's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    def look(self, question: Callable[[World], T]) -> T:
        """Ask the world on its own thread."""

        async def ask() -> T:
            return question(self.world)

        return self.run(ask())

    def as_root(self, method: str, path: str, params: Mapping[str, str]) -> Any:
        """A call as root in person, as the command line makes it; a task is waited for."""
        answer = self.run(Api(self.world).call(method, path, params, ROOT_SSH, "pve1"))
        if isinstance(answer.data, str) and answer.data.startswith("UPID:"):
            self.wait_for(answer.data)
        return answer.data

    def wait_for(self, upid: str) -> Task:
        """Let time pass until a task has ended."""
        for _ in range(400):
            task = self.look(lambda world: world.tasks[upid])
            if not task.is_running:
                return task
            self.clock.advance(0.5)
        raise AssertionError(f"{upid} does not end")

    def ask(self, method: str, path: str, who: str = "root-token", **request: Any) -> Reply:
        """One HTTPS request; params, json_body and upload as in the recordings."""
        headers = authorization(who)
        target, body = f"/api2/json{quote(path, safe='/:!@,')}", None
        params = request.get("params") or {}
        if request.get("upload"):
            body, headers["Content-Type"] = _multipart(params, request["upload"])
        elif request.get("json_body"):
            body, headers["Content-Type"] = json.dumps(params).encode(), "application/json"
        elif method in ("GET", "DELETE"):
            target += f"?{urlencode(params)}" if params else ""
        elif params:
            body, headers["Content-Type"] = urlencode(params).encode(), "application/x-www-form-urlencoded"
        return self._exchange(method, target, body, headers, request.get("timeout_s", PATIENCE_S))

    def data(self, path: str) -> Any:
        """What a GET answers."""
        reply = self.ask("GET", path)
        assert reply.status == 200, reply.reason
        return reply.json["data"]

    def config(self, vmid: int = 100, node: str = "pve1") -> dict[str, Any]:
        """A VM's configuration."""
        found: dict[str, Any] = self.data(f"/nodes/{node}/qemu/{vmid}/config")
        return found

    def outcome(self, method: str, path: str, **params: str) -> tuple[str, list[str]]:
        """How a request ends: by its refusal, or by its task's exit status and what that said before."""
        reply = self.ask(method, path, params=params)
        if reply.status != 200:
            return reply.reason, []
        task = self.wait_for(reply.json["data"])
        return str(task.exitstatus), task.log[:-1]

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> Reply:
        """Over the one connection that is kept; the next request opens another where this one broke."""
        self._connection.timeout = timeout_s
        if self._connection.sock:
            self._connection.sock.settimeout(timeout_s)
        try:
            self._connection.request(method, target, body, dict(headers))
            with self._connection.getresponse() as response:
                return Reply(response.status, response.reason, dict(response.getheaders()), response.read().decode())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def shell(self, argv: Sequence[str]) -> Ran:
        """Run a command on the node as root, over SSH."""
        if self._client is None:
            self._client = paramiko.SSHClient()
            self._client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            key = paramiko.Ed25519Key.from_private_key(io.StringIO(PERSON.private_openssh.decode()))
            self._client.connect(ADDRESS, self._ssh_port, "root", pkey=key, allow_agent=False, look_for_keys=False)
        given, out, err = self._client.exec_command(shlex.join(argv), timeout=20)
        given.channel.shutdown_write()
        texts = out.read().decode(), err.read().decode()
        return Ran(out.channel.recv_exit_status(), *texts)

    def line(self, text: str) -> Ran:
        """A line of the shell, on the node as root."""
        return self.shell(["sh", "-c", text])

    async def _listen(self) -> ApiListener:
        return await serve_api(lambda: self.world, "pve1", (ADDRESS, 0), _server_context(self.folder))

    async def _new_world(self) -> World:
        clock = self._lab_clock = self._lab_clock or LabClock(asyncio.get_running_loop(), self.clock)
        clock.forget()
        pve = FileSystem(self.folder, clock.now)
        world = World(clock, self.folder / "spool", pve, self.guests)
        world.nodes["pve1"] = new_node(self.folder, clock, pve, "pve1")
        storages.write(world, [])
        pve.provide("/storage.cfg", STORAGE_CFG.encode())
        _add_identities(world)
        _add_history(world)
        equip(world)
        return world


def authorization(who: str) -> dict[str, str]:
    """The Authorization header of one of the recordings' callers."""
    root = SECRETS["root@pam!test"]
    headers = {
        "root-token": f"PVEAPIToken=root@pam!test={root}",
        "svc-token": f"PVEAPIToken=svc@pve!test={SECRETS['svc@pve!test']}",
        "sep-token": f"PVEAPIToken=root@pam!sep={SECRETS['root@pam!sep']}",
        "bad": f"PVEAPIToken=root@pam!test={WRONG}",
        "malformed": "garbage",
        "malformed-nosecret": "PVEAPIToken=root@pam!test",
        "malformed-bearer": f"Bearer {root}",
        "malformed-space": f"PVEAPIToken root@pam!test={root}",
        "malformed-colon": f"PVEAPIToken=root@pam!test:{root}",
        "unknown-token": f"PVEAPIToken=root@pam!nosuch={WRONG}",
        "unknown-user": f"PVEAPIToken=nobody@pve!test={WRONG}",
        "unknown-realm": f"PVEAPIToken=root@nosuch!test={WRONG}",
        "basic": "Basic cm9vdEBwYW06c2VjcmV0",
    }
    return {} if who == "none" else {"Authorization": headers[who]}


def _multipart(params: Mapping[str, str], upload: Mapping[str, str]) -> tuple[bytes, str]:
    boundary = "----------------------------recorded"
    data = empty_qcow2() if upload["data"] == "qcow2" else upload["data"].encode()
    parts = []
    for name, value in params.items():
        file = (
            f'; filename="{upload["filename"]}"\r\nContent-Type: application/octet-stream' if name == "filename" else ""
        )
        content = data if name == "filename" else value.encode()
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content)
    return b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def new_node(folder: Path, clock: LabClock, pve: FileSystem, name: str) -> Node:
    """A node as the recorded one was."""
    files = FileSystem(folder, clock.now)
    files.make_folder("/etc", parents=True)
    etc = files.entry("/etc")
    assert isinstance(etc, Folder)
    etc.children["pve"] = pve.root
    files.provide("/var/lib/vz/import/disk.qcow2", empty_qcow2())
    files.provide("/root/disk.qcow2", empty_qcow2())
    files.provide("/root/k.pub", PUBLIC_KEY)
    files.allocate("/root/disk.raw", RAW_BYTES)
    return Node(
        hostname=name,
        address=ADDRESS,
        clock=clock,
        files=files,
        cpus=2,
        booted_at=clock.now() - 86_400,
        fingerprint=":".join(["AB"] * 32),
        accounts={"root": Account("root", 0, "/root", [PERSON.public_line])},
        interfaces={
            "eth0": Interface("eth0", "eth"),
            "vmbr0": Interface("vmbr0", "bridge", "192.0.2.10/24", "192.0.2.1", "eth0"),
        },
    )


def _add_identities(world: World) -> None:
    world.users = {"root@pam": User("root@pam"), "svc@pve": User("svc@pve")}
    for tokenid, secret in SECRETS.items():
        user, _, name = tokenid.partition("!")
        world.tokens[tokenid] = Token(user, name, secret, is_separated=tokenid != "root@pam!test")
    permissions.grant(world, "/vms", PROXMOX_IDENTITIES, "PVEVMAdmin")
    permissions.grant(world, "/storage/local", PROXMOX_IDENTITIES, "PVEDatastoreUser")
    permissions.grant(world, "/sdn/zones/localnetwork", PROXMOX_IDENTITIES, "PVESDNUser")


def _add_history(world: World) -> None:
    """The recorded node had made and destroyed VMs before."""
    start = int(world.clock.now()) - 3600
    upid = f"UPID:pve1:0000ABCD:00012345:{start:08X}:qmcreate:100:root@pam!test:"
    task = Task(upid, "pve1", 0xABCD, 0x12345, start, "qmcreate", "100", "root@pam", "test", ["TASK OK"])
    task.endtime, task.exitstatus = start + 1, "OK"
    world.tasks[upid] = task


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((ADDRESS, 0))
        port: int = one.getsockname()[1]
        return port


def _server_context(folder: Path) -> ssl.SSLContext:
    authority = certs.cluster_authority()
    issued = certs.node_certificate(authority, "pve1", "test", ADDRESS)
    (folder / "throwaway-ca.pem").write_bytes(authority.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued.write(folder, "throwaway"))
    return context
