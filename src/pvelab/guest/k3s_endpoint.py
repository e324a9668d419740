"""What a k3s server answers on 6443: the supervisor's paths here; the Kubernetes API to those with a certificate."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from pvelab.guest.k3s_tokens import Role, TokenProblem, parse_token
from pvelab.guest.kube_api import KubeApi, failure
from pvelab.guest.kube_objects import KubeError
from pvelab.guest.kube_requests import Served
from pvelab.guest.kube_server import as_go_does, respond

if TYPE_CHECKING:
    from pvelab.clock import LabClock
    from pvelab.door import Listener
    from pvelab.guest.clusters import Endpoint
    from pvelab.guest.k3s_cluster import Cluster

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME: what has expired is an answer of the API's (401), not of TLS."""
_TEXT, _JSON = "text/plain; charset=utf-8", "application/json"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: `user` is name:password, `authorization` the header as it came."""

    path: str
    user: str = ""
    authorization: str = ""
    is_local: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """Its answer."""

    status: int
    kind: str
    body: bytes

    @property
    def reason(self) -> str:
        """The phrase of the status line."""
        return HTTPStatus(self.status).phrase


def answer(cluster: Cluster, asked: Asked) -> Reply:
    """Answer one GET."""
    if asked.path == "/ping":
        return Reply(200, _TEXT, b"pong")
    if asked.path == "/cacerts":
        return Reply(200, _TEXT, cluster.ca_pem)
    if asked.path == "/db/info":
        return _members(cluster, asked)
    if asked.path.startswith("/v1-k3s/"):
        return _supervisor(cluster, asked)
    return _status(401, "Unauthorized", "Unauthorized")


def _members(cluster: Cluster, asked: Asked) -> Reply:
    if not asked.is_local and _role(cluster, asked) is not Role.SERVER:
        return _status(401, "Unauthorized", "not authorized")
    if not cluster.has_etcd:
        return Reply(404, _TEXT, b"404 page not found\n")
    if not cluster.etcd.has_quorum:
        return _status(500, "InternalError", "failed to get etcd MemberList: context deadline exceeded")
    members = [member.document() for member in cluster.etcd.members]
    return Reply(200, _JSON, json.dumps({"members": members}).encode() + b"\n")


def _supervisor(cluster: Cluster, asked: Asked) -> Reply:
    if _role(cluster, asked) is None:
        return _status(401, "Unauthorized", "not authorized")
    if not cluster.is_available:
        return _status(503, "ServiceUnavailable", "apiserver not ready")
    if asked.path == "/v1-k3s/readyz":
        return Reply(200, _TEXT, b"ok")
    if asked.path == "/v1-k3s/apiservers":
        return Reply(200, _JSON, json.dumps([f"{address}:6443" for address in sorted(cluster.servers)]).encode())
    return _status(501, "NotImplemented", f"Method 'GET {asked.path}' not implemented")


def _role(cluster: Cluster, asked: Asked) -> Role | None:
    password = asked.user.partition(":")[2]
    scheme, _, credentials = asked.authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            password = base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    elif scheme.lower() == "bearer":
        password = credentials
    try:
        return cluster.tokens.role_of(parse_token(password), cluster.timer.now())
    except TokenProblem:
        return None


def _status(code: int, reason: str, message: str) -> Reply:
    return Reply(code, _JSON, failure(KubeError(code, reason, message), indent=2).body)


@dataclass(slots=True)
class _Listener:
    runner: web.AppRunner
    api: KubeApi

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        server = self.runner.server
        for connection in server.connections if server else ():
            if connection.transport is not None:
                connection.transport.abort()
        self.api.close()
        await self.runner.cleanup()


@dataclass(frozen=True, slots=True)
class K3sServing:
    """Serves the endpoints of a lab's k3s servers; `record` is told of requests to the Kubernetes API.

    Keys lie in `folder` while they are read.
    """

    clock: LabClock
    folder: Path
    record: Callable[[Served], None]

    async def __call__(self, endpoint: Endpoint, address: str, port: int) -> Listener:
        """Answer over HTTPS. Raises OSError when the address is taken or not ours."""
        api = KubeApi(endpoint.cluster, endpoint.address, self.clock.sleep, self.record)
        return await _serve(api, _context(endpoint, self.folder), address, port, endpoint.now)


async def _serve(api: KubeApi, context: ssl.SSLContext, address: str, port: int, now: Callable[[], float]) -> Listener:

    async def handle(request: web.Request) -> web.StreamResponse:
        if not _is_supervisors(request.path):
            return await respond(api, request)
        is_local = request.remote == address
        asked = Asked(request.path, "", request.headers.get("Authorization", ""), is_local)
        reply = answer(api.cluster, asked)
        return web.Response(status=reply.status, body=reply.body, headers={"Content-Type": reply.kind})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    application.on_response_prepare.append(as_go_does(now))
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port, ssl_context=context).start()
    except OSError:
        await runner.cleanup()
        raise
    await asyncio.sleep(0)
    return _Listener(runner, api)


def _is_supervisors(path: str) -> bool:
    return path in ("/ping", "/cacerts", "/db/info") or path.startswith("/v1-k3s/")


def _context(endpoint: Endpoint, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=endpoint.client_ca_pem.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= _NO_CHECK_TIME
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="k3s-", dir=folder) as place:
        context.load_cert_chain(*endpoint.certificate.write(Path(place), "serving"))
    return context
