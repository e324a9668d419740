"""The Kubernetes API on the wire: aiohttp in front of KubeApi."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate

from aiohttp import hdrs, web

from pvelab.guest.kube_api import KubeApi, Stream
from pvelab.guest.kube_rbac import AUTHENTICATED
from pvelab.guest.kube_requests import Request, User

_HEADERS = {"Cache-Control": "no-cache, private"}


async def respond(api: KubeApi, request: web.Request) -> web.StreamResponse:
    """Answer one request, or stream until the client has gone or the time that it gave is over."""
    asked = Request(
        method=request.method,
        path=request.path,
        query=dict(request.query),
        accept=request.headers.get("Accept", ""),
        content_type=request.headers.get("Content-Type", "").partition(";")[0],
        body=await request.read(),
        user=_user(api, request),
        agent=request.headers.get("User-Agent", ""),
    )
    answer = await api.answer(asked)
    if isinstance(answer, Stream):
        return await _stream(api, request, answer)
    return web.Response(status=answer.status, body=answer.body, headers=_HEADERS | {"Content-Type": answer.kind})


def as_go_does(now: Callable[[], float]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Go's servers say the time by their clock and not what they are; for an application's on_response_prepare."""

    async def prepare(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers.pop(hdrs.SERVER, None)
        response.headers[hdrs.DATE] = formatdate(now(), usegmt=True)

    return prepare


def _user(api: KubeApi, request: web.Request) -> User | None:
    """Whom a client's certificate names, else for whom its token speaks; None for one that is neither or has ended."""
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    if not certificate:
        return _bearer(api, request.headers.get("Authorization", ""))
    if ssl.cert_time_to_seconds(certificate["notAfter"]) < time.time():
        return None
    pairs: list[tuple[str, str]] = [pair for names in certificate["subject"] for pair in names]
    groups = frozenset(value for name, value in pairs if name == "organizationName")
    return User(dict(pairs).get("commonName", ""), groups | {AUTHENTICATED})


def _bearer(api: KubeApi, authorization: str) -> User | None:
    scheme, _, text = authorization.partition(" ")
    cluster = api.cluster
    found = cluster.service_tokens.find(text, cluster.store, cluster.timer.now()) if scheme == "Bearer" else None
    return User(found.user, found.groups) if found else None


async def _stream(api: KubeApi, request: web.Request, stream: Stream) -> web.StreamResponse:
    response = web.StreamResponse(headers=_HEADERS | {"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    pump = asyncio.ensure_future(_pump(response, stream.events))

    def end() -> None:
        pump.cancel()

    api.cluster.timer.after(stream.timeout_s, end)
    try:
        await asyncio.wait({pump})
    finally:
        pump.cancel()
    if not pump.cancelled():
        pump.result()
    return response


async def _pump(response: web.StreamResponse, events: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(ConnectionResetError):
        async for event in events:
            await response.write(event)
