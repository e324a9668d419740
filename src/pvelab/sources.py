"""The HTTP server of the lab's outside world: the cloud image with its checksums, k3s's installer and releases."""

from __future__ import annotations

import asyncio
import enum
import functools
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from aiohttp import web

from pvelab.openpgp import SigningKey
from pvelab.requestlog import Request
from pvelab.web_files import Part, Version, part_of

IMAGE_FOLDER = "/images"
SUMS_PATH = f"{IMAGE_FOLDER}/SHA256SUMS"
SIGNATURE_PATH = f"{SUMS_PATH}.gpg"
INSTALLER_PATH = "/k3s/install.sh"
RELEASES_FOLDER = "/k3s/releases"
_LOGIN_PAGE = "<!DOCTYPE html>\n<html><head><title>Log in to the network</title></head><body></body></html>\n"
_LOOK_EVERY_S = 0.02
_BLOCK_BYTES = 2048


class Damage(enum.Enum):
    """How a published file is served wrongly."""

    TRUNCATED = "truncated"
    CUT_ONCE = "cut-once"
    STALLED = "stalled"
    WRONG_CONTENT = "wrong-content"
    WEB_PAGE = "web-page"
    INSTALLER = "installer"
    MISSING = "missing"


@dataclass(slots=True)
class Sources:
    """Files published under one address, written to a folder; any of them can be damaged. `now` dates them."""

    folder: Path
    log: Callable[[Request], None]
    now: Callable[[], float] = time.time
    damaged: dict[str, Damage] = field(default_factory=dict)
    _published: dict[str, float] = field(default_factory=dict)
    _runner: web.AppRunner | None = None

    def publish(self, path: str, content: bytes, at: float | None = None) -> None:
        """Serve content at an absolute path, as last changed at that Unix time, or now."""
        self._published[path] = self.now() if at is None else at
        file = self._file(path)
        if not file.is_file() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def withdraw(self, path: str) -> None:
        """Serve nothing there any more."""
        self._published.pop(path, None)

    def content(self, path: str) -> bytes:
        """What is published there. Raises OSError when nothing ever was."""
        return self._file(path).read_bytes()

    def publish_image(self, name: str, content: bytes, signer: SigningKey, at: float) -> None:
        """Serve an image with the SHA256SUMS beside it, signed, all of them made at that Unix time."""
        self.publish(f"{IMAGE_FOLDER}/{name}", content, at)
        self.publish_sums(f"{_sha256(content)} *{name}\n".encode(), signer, at)

    def publish_sums(self, sums: bytes, signer: SigningKey, at: float) -> None:
        """Serve a list of checksums with its signature."""
        self.publish(SUMS_PATH, sums, at)
        self.publish(SIGNATURE_PATH, signer.sign(sums, int(at)).encode(), at)

    def publish_release(self, version: str, files: Mapping[str, bytes]) -> None:
        """Serve a k3s release with its sha256sum-amd64.txt."""
        for name, content in files.items():
            self.publish(f"{RELEASES_FOLDER}/{version}/{name}", content)
        sums = "".join(f"{_sha256(content)}  {name}\n" for name, content in files.items())
        self.publish(f"{RELEASES_FOLDER}/{version}/sha256sum-amd64.txt", sums.encode())

    def clear(self) -> None:
        """Publish nothing and damage nothing; files stay where they are, for when they are published again."""
        self.damaged.clear()
        self._published.clear()

    async def start(self, address: str, port: int) -> None:
        """Begin to listen. Raises OSError when the address is taken."""
        application = web.Application()
        application.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, address, port).start()

    async def stop(self) -> None:
        """Close the socket and every connection."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = PurePosixPath(request.path).as_posix()
        damage = self.damaged.get(path)
        file = self._file(path)
        if path not in self._published or damage is Damage.MISSING or not file.is_file():
            return self._logged(request, web.Response(status=404, text="404 page not found\n"))
        if damage is Damage.WEB_PAGE:
            return self._logged(request, web.Response(text=_LOGIN_PAGE, content_type="text/html"))
        content = _DAMAGED.get(damage, bytes)(file.read_bytes())
        part = part_of(Version(len(content), self._published[path]), request.headers)
        up_to = len(content) // 2 if damage in _BREAKING_OFF else len(content)
        return await self._send(request, part, content, up_to)

    async def _send(self, request: web.Request, part: Part, content: bytes, up_to: int) -> web.StreamResponse:
        headers = {**part.headers, "Content-Length": str(part.end - part.first)}
        response = web.StreamResponse(status=part.status, headers=headers)
        response.content_type = "application/octet-stream"
        await response.prepare(request)
        self._logged(request, response)
        if request.method == "HEAD":
            return response
        await response.write(content[part.first : min(part.end, up_to)])
        if part.end > up_to:
            await self._break_off(request)
        return response

    async def _break_off(self, request: web.Request) -> None:
        """Close the connection in the middle of an answer, or leave it open and say nothing more."""
        damage = self.damaged.get(request.path)
        if damage is Damage.CUT_ONCE:
            del self.damaged[request.path]
        elif damage is Damage.STALLED:
            while request.transport is not None:
                await asyncio.sleep(_LOOK_EVERY_S)
        await asyncio.sleep(0)
        if request.transport:
            request.transport.close()

    def _logged(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        self.log(
            Request(
                via="http",
                node="sources",
                what=f"{request.method} {request.path}",
                method=request.method,
                path=request.path,
                status=response.status,
            )
        )
        return response

    def _file(self, path: str) -> Path:
        return self.folder / path.lstrip("/")


@functools.lru_cache(maxsize=32)
def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _altered(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 0xFF])


def _installer(content: bytes) -> bytes:
    """An ISO 9660 file system that a BIOS boots from a disk too, as installers are, of the image's size."""
    head = bytes(510) + b"\x55\xaa" + bytes(16 * _BLOCK_BYTES - 512) + b"\x01CD001\x01"
    return (head + content[len(head) :])[: len(content)]


_DAMAGED: dict[Damage | None, Callable[[bytes], bytes]] = {
    Damage.WRONG_CONTENT: _altered,
    Damage.INSTALLER: _installer,
}
_BREAKING_OFF = frozenset({Damage.TRUNCATED, Damage.CUT_ONCE, Damage.STALLED})
