"""The HTTP server of the lab's outside world: the cloud image with its checksums, k3s's installer and releases."""

from __future__ import annotations

import asyncio
import enum
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from aiohttp import web

from pvelab.requestlog import Request

IMAGE_FOLDER = "/images"
INSTALLER_PATH = "/k3s/install.sh"
RELEASES_FOLDER = "/k3s/releases"


class Damage(enum.Enum):
    """How a published file is served wrongly."""

    TRUNCATED = "truncated"
    WRONG_CONTENT = "wrong-content"
    MISSING = "missing"


@dataclass(slots=True)
class Sources:
    """Files published under one address, written to a folder; any of them can be damaged."""

    folder: Path
    log: Callable[[Request], None]
    damaged: dict[str, Damage] = field(default_factory=dict)
    _published: set[str] = field(default_factory=set)
    _runner: web.AppRunner | None = None

    def publish(self, path: str, content: bytes) -> None:
        """Serve content at an absolute path."""
        self._published.add(path)
        file = self._file(path)
        if not file.is_file() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def withdraw(self, path: str) -> None:
        """Serve nothing there any more."""
        self._published.discard(path)

    def publish_image(self, name: str, content: bytes) -> None:
        """Serve an image with the SHA256SUMS beside it."""
        self.publish(f"{IMAGE_FOLDER}/{name}", content)
        self.publish(f"{IMAGE_FOLDER}/SHA256SUMS", f"{_sha256(content)} *{name}\n".encode())

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
        if damage is Damage.TRUNCATED:
            return await self._break_off(request, file)
        if damage is Damage.WRONG_CONTENT:
            return self._logged(request, web.Response(body=_altered(file.read_bytes())))
        return self._logged(request, web.FileResponse(file))

    async def _break_off(self, request: web.Request, file: Path) -> web.StreamResponse:
        content = file.read_bytes()
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
        self._logged(request, response)
        await asyncio.sleep(0)
        if request.transport:
            request.transport.close()
        return response

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
