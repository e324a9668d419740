"""The API over HTTPS, one server per node: credentials, envelopes, reason phrases, uploads spooled to disk."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from aiohttp.multipart import BodyPartReader

from pvelab import progress
from pvelab.answers import Answer, ApiError, UploadedFile, Who, without_config
from pvelab.api import Api
from pvelab.routes.access import csrf_token
from pvelab.state import Action, ApiRequest, World

PREFIX = "/api2/json"
VERBS = ("GET", "POST", "PUT", "DELETE")
TOKEN_HEADER = re.compile(r"PVEAPIToken[= ](\S+)")
TOKEN = re.compile(r"([^!=\s]+@[^!=\s]+)!([^=\s]+)=(\S+)")
COOKIE = "PVEAuthCookie"
UPLOAD_PATH = re.compile(r"/nodes/[^/]+/storage/[^/]+/upload")
UPLOAD_FIELDS = ("content", "checksum-algorithm", "checksum", "filename")
"""The order in which pveproxy reads the parts of an upload."""
CHUNK_BYTES = 1 << 20
HANG_LOOK_S = 0.05
NOT_IMPLEMENTED = 501
UNTOUCHED = Action()


class Cut(Exception):
    """The connection is to be cut without an answer."""


@dataclass(slots=True, eq=False)
class ApiListener:
    """A listening server."""

    runner: web.ServerRunner

    def drop(self) -> None:
        """Cut every connection."""
        server = self.runner.server
        for connection in server.connections if server else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        self.drop()
        await self.runner.cleanup()


async def serve_api(
    world: Callable[[], World], hostname: str, address: tuple[str, int], context: ssl.SSLContext
) -> ApiListener:
    """Serve the API of a node at (host, port); `world` gives the world of the moment. Raises OSError."""
    server = web.Server(NodeApi(world, hostname).handle, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, *address, ssl_context=context, reuse_address=True)
    await site.start()
    return ApiListener(runner)


@dataclass(frozen=True, slots=True)
class NodeApi:
    """One node's pveproxy."""

    world: Callable[[], World]
    hostname: str

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        world = self.world()
        exchange = _Exchange(request, request.path.removeprefix(PREFIX) or "/")
        try:
            response = await self._answer(world, exchange)
        except Cut:
            world.hooks.record(exchange.recorded(self.hostname, 0))
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        world.hooks.record(exchange.recorded(self.hostname, response.status))
        response.headers["Date"] = formatdate(world.clock.now() + world.nodes[self.hostname].clock_skew_s, usegmt=True)
        response.headers["Server"] = "pve-api-daemon/3.0"
        return response

    async def _answer(self, world: World, exchange: _Exchange) -> web.Response:
        request, path = exchange.request, exchange.path
        try:
            _check_request(request)
            if not world.nodes[self.hostname].has_config:
                raise without_config()
            who = _who(world, request, path)
            if UPLOAD_PATH.fullmatch(path) and request.content_type == "multipart/form-data":
                return await self._upload(world, exchange, who)
            exchange.params = await _params(request)
            action = world.hooks.intercept(self.hostname, request.method, path, exchange.params) or UNTOUCHED
            await _before(world, request, action)
            with progress.fated(action.fate):
                answer = await Api(world).call(request.method, path, exchange.params, who, self.hostname)
        except ApiError as error:
            return _failure(error)
        return _after(action, _success(answer))

    async def _upload(self, world: World, exchange: _Exchange, who: Who) -> web.Response:
        action = world.hooks.intercept(self.hostname, "POST", exchange.path, exchange.params) or UNTOUCHED
        if action.kind == "drop":
            await _take_half(exchange.request)
            raise _cut(action)
        exchange.params, file = await _read_upload(world, exchange.request)
        try:
            await _before(world, exchange.request, action)
            with progress.fated(action.fate):
                answer = await Api(world).upload(exchange.path, exchange.params, file, who, self.hostname)
        except (ApiError, Cut):
            file.path.unlink(missing_ok=True)
            raise
        return _after(action, _success(answer))


@dataclass(slots=True)
class _Exchange:
    """A request being answered; params are filled in once they are read."""

    request: web.BaseRequest
    path: str
    params: Mapping[str, str] = field(default_factory=dict)

    def recorded(self, hostname: str, status: int) -> ApiRequest:
        """What goes into the log of requests."""
        return ApiRequest(hostname, self.request.method, self.path, self.params, status)


def _check_request(request: web.BaseRequest) -> None:
    if request.method not in VERBS:
        raise ApiError(NOT_IMPLEMENTED, f"method '{request.method}' not available", has_body=False)
    if not request.path.startswith(PREFIX):
        raise ApiError(NOT_IMPLEMENTED, f"no such file '{request.path}'", has_body=False)


def _who(world: World, request: web.BaseRequest, path: str) -> Who:
    given = TOKEN_HEADER.match(request.headers.get("Authorization", ""))
    if given:
        return _token_owner(world, given[1])
    if path == "/access/ticket":
        return Who("")
    ticket = unquote(request.cookies.get(COOKIE, ""))
    user = world.tickets.get(ticket)
    if not ticket:
        raise ApiError(401, "No ticket", has_body=False)
    if user is None:
        raise ApiError(401, "permission denied - invalid PVE ticket", has_body=False)
    if request.method != "GET" and request.headers.get("CSRFPreventionToken") != csrf_token(ticket):
        raise ApiError(401, "Permission denied - invalid csrf token", has_body=False)
    return Who(user)


def _token_owner(world: World, text: str) -> Who:
    match = TOKEN.fullmatch(unquote(text))
    token = world.tokens.get(f"{match[1]}!{match[2]}") if match else None
    user = world.users.get(match[1]) if match else None
    is_valid = match and token and user and token.secret == match[3] and user.is_enabled
    if not is_valid or not token or (token.expire and token.expire <= world.clock.now()):
        raise ApiError(401, "Authentication failed!", has_body=False)
    return Who(token.userid, token.name)


async def _params(request: web.BaseRequest) -> dict[str, str]:
    pairs = parse_qsl(request.query_string, keep_blank_values=True)
    if request.content_type == "application/json" and request.can_read_body:
        pairs += _json_pairs(json.loads(await request.text()))
    elif request.can_read_body:
        pairs += parse_qsl(await request.text(), keep_blank_values=True)
    params: dict[str, str] = {}
    for name, value in pairs:
        params[name] = f"{params[name]}\0{value}" if name in params else value
    return params


def _json_pairs(body: Any) -> list[tuple[str, str]]:
    if not isinstance(body, dict):
        raise ApiError(400, "Bad Request", has_body=False)
    pairs: list[tuple[str, str]] = []
    for name, value in body.items():
        pairs += [(name, _plain(one)) for one in (value if isinstance(value, list) else [value])]
    return pairs


def _plain(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


async def _read_upload(world: World, request: web.BaseRequest) -> tuple[dict[str, str], UploadedFile]:
    """The fields of a multipart upload and its file, spooled. Raises ApiError where pveproxy would not read on."""
    params: dict[str, str] = {}
    position = 0
    async for part in await request.multipart():
        name = part.name if isinstance(part, BodyPartReader) else None
        if not isinstance(part, BodyPartReader) or name not in UPLOAD_FIELDS[position:]:
            raise ApiError(400, "Bad Request", has_body=False)
        position = UPLOAD_FIELDS.index(name) + 1
        if part.filename is not None:
            return params, UploadedFile(await _spool(world.folder, part), part.filename)
        params[name] = (await part.text()).strip()
    raise ApiError(400, "Bad Request", has_body=False)


async def _take_half(request: web.BaseRequest) -> None:
    """Receive half of a body."""
    left_bytes = (request.content_length or 0) // 2
    while left_bytes > 0:
        left_bytes -= len(await request.content.read(min(left_bytes, CHUNK_BYTES)))


async def _spool(folder: Path, part: BodyPartReader) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="upload-", delete=False) as file:
        while chunk := await part.read_chunk(CHUNK_BYTES):
            file.write(chunk)
    return Path(file.name)


async def _before(world: World, request: web.BaseRequest, action: Action) -> None:
    if action.delay_s:
        await world.clock.sleep(action.delay_s)
    if action.kind == "hang":
        while request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(HANG_LOOK_S)
        raise Cut
    if action.kind == "reset":
        raise _cut(action)
    if action.kind == "answer":
        raise ApiError(action.status, action.reason, has_body=action.status < 595)


def _after(action: Action, response: web.Response) -> web.Response:
    if action.kind in ("reset-after", "drop"):
        raise _cut(action)
    if action.kind in ("half", "altered") and isinstance(response.body, bytes):
        response.body = action.altered(response.body)
    return response


def _cut(action: Action) -> Cut:
    action.when_cut()
    return Cut()


def _success(answer: Answer) -> web.Response:
    return _response(200, "OK", {"data": answer.data, **answer.beside})


def _failure(error: ApiError) -> web.Response:
    reason = error.reason.partition("\n")[0]
    if not error.has_body:
        return web.Response(status=error.status, reason=reason)
    ending = "" if error.status == NOT_IMPLEMENTED else "\n"
    body: dict[str, Any] = {"data": None, "message": f"{error.reason}{ending}"}
    if error.errors:
        body["errors"] = error.errors
    return _response(error.status, reason, body)


def _response(status: int, reason: str, body: Mapping[str, Any]) -> web.Response:
    data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return web.Response(status=status, reason=reason, body=data, content_type="application/json", charset="utf-8")
