"""An HTTPS server on loopback that answers as it is told, down to broken-off connections: for tests of the wires."""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pvelab.certs import cluster_authority, node_certificate


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What is sent back: bytes as they are; then the connection is kept, closed, reset, garbled or left hanging."""

    data: bytes = b""
    then: str = "keep"


def json_reply(data: object = None, *, status: str = "200 OK", **more: object) -> Reply:
    """As Proxmox answers; `more` stands beside the data."""
    body = json.dumps({"data": data, **more}).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return Reply(head.encode() + body)


def text_reply(body: str, status: str = "200 OK", headers: str = "Content-Type: text/html\r\n") -> Reply:
    return Reply(f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode())


Answer = Callable[[Asked], Reply]


@dataclass
class HttpsServer:
    """Where the server is, whom it can be believed by, and what it was asked."""

    port: int
    ca_bundle: Path
    fingerprint: str
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0


@contextmanager
def https_server(folder: Path, answer: Answer, address: str = "127.0.0.1", port: int = 0) -> Iterator[HttpsServer]:
    """Serve until the block ends; port 0 takes a free one."""
    authority = cluster_authority()
    issued = node_certificate(authority, "pve1", "example.test", address)
    certificate, key = issued.write(folder, "server")
    ca_bundle = folder / "ca.pem"
    ca_bundle.write_bytes(authority.certificate_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server((address, port))
    server = HttpsServer(listener.getsockname()[1], ca_bundle, issued.fingerprint)
    stop = threading.Event()
    threads = [threading.Thread(target=_accept, args=(listener, context, server, answer, stop), daemon=True)]
    threads[0].start()
    try:
        yield server
    finally:
        stop.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        threads[0].join(5)


def _accept(
    listener: socket.socket, context: ssl.SSLContext, server: HttpsServer, answer: Answer, stop: threading.Event
) -> None:
    while not stop.is_set():
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        server.connections += 1
        threading.Thread(target=_serve, args=(plain, context, server, answer, stop), daemon=True).start()


def _serve(
    plain: socket.socket, context: ssl.SSLContext, server: HttpsServer, answer: Answer, stop: threading.Event
) -> None:
    with plain, suppress(OSError, ValueError), context.wrap_socket(plain, server_side=True) as secured:
        reader = secured.makefile("rb")
        while not stop.is_set():
            asked = _read(reader)
            if asked is None:
                return
            server.asked.append(asked)
            reply = answer(asked)
            secured.sendall(reply.data)
            if reply.then == "garble":
                os.write(secured.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
            if reply.then == "hang":
                stop.wait(10)
            if reply.then == "reset":
                secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if reply.then != "keep":
                return


def _read(reader: object) -> Asked | None:
    line = reader.readline().decode()  # type: ignore[attr-defined]
    if not line:
        return None
    method, path, _ = line.split(" ", 2)
    headers: dict[str, str] = {}
    while (header := reader.readline().decode().strip()) != "":  # type: ignore[attr-defined]
        name, _, value = header.partition(": ")
        headers[name.lower()] = value
    body = reader.read(int(headers.get("content-length", "0")))  # type: ignore[attr-defined]
    return Asked(method, path, headers, body)
