"""Files from the web: whole and verified in place, or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from homelab.errors import HomelabError
from homelab.runtime import Clock

if TYPE_CHECKING:
    from requests import Response

Got = TypeVar("Got")

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
ATTEMPTS = 4
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 10.0
CHUNK_BYTES = 1 << 20
LEAST_BYTES_PER_S = 50_000
PATIENCE_S = 60.0
"""How long a body may take before its speed counts."""
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
HTML_STARTS = (b"<!doctype html", b"<html")


class NotFetched(HomelabError):
    """A file did not come, or what came is not it."""


class _Transient(NotFetched):
    """Worth another try."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is fetched, and the setting to name when that fails."""

    url: str
    setting: str

    def failed(self, why: str) -> NotFetched:
        return NotFetched(f"download of {self.url}", why, f"set {self.setting} to an address that has the file")

    def altered(self, found: str, wanted: str) -> NotFetched:
        cure = f"compare IMAGE_SHA256 with the SHA256SUMS beside it, or remove it; else set {self.setting} to a mirror"
        return NotFetched(f"download of {self.url}", f"its sha256 is {found}, wanted {wanted}", cure)

    def interrupted(self, why: str) -> _Transient:
        cure = f"run again; if it stays so, set {self.setting} to another mirror or check HTTPS_PROXY"
        return _Transient(f"download of {self.url}", why, cure)


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    clock: Clock,
    setting: str = "ISO_URL",
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Download to `target`, which appears whole and verified or not at all; its bytes.

    `on_progress` gets bytes so far and in total (0: not known). Raises NotFetched after some tries.
    """
    source = Source(url, setting)

    def once() -> int:
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                size, found = _save(source, part, on_progress)
                if sha256 is not None and found != sha256.lower():
                    raise source.altered(found, sha256)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise NotFetched(f"file {target}", error.strerror or str(error), "free space there, or allow it") from error
        return size

    return _again(once, clock)


def fetch_text(url: str, *, max_bytes: int = 1_000_000, clock: Clock, setting: str = "ISO_URL") -> str:
    """A small text such as SHA256SUMS or an install script; raises NotFetched, also when it is larger or HTML."""
    source = Source(url, setting)

    def once() -> bytes:
        data = bytearray()
        with _opened(source) as response:
            for chunk in _chunks(source, response):
                data += chunk
                if len(data) > max_bytes:
                    raise source.failed(f"it is larger than {max_bytes} bytes, so it is something else")
        return bytes(data)

    try:
        return _again(once, clock).decode()
    except UnicodeDecodeError as error:
        raise source.failed("it is no text") from error


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(path: Path, sha256: str) -> bool:
    """Is there a file that can be read and has this sha256?"""
    try:
        return sha256_of(path) == sha256.lower()
    except OSError:
        return False


def _save(source: Source, part: Path, on_progress: Callable[[int, int], None] | None) -> tuple[int, str]:
    """Write what comes to a file, surely on the disk; its bytes and sha256."""
    digest = hashlib.sha256()
    size = 0
    with _opened(source) as response, part.open("wb") as file:
        total = _length(response)
        for chunk in _chunks(source, response):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            if on_progress is not None:
                on_progress(size, total)
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


@contextmanager
def _opened(source: Source) -> Iterator[Response]:
    """A good answer whose body can be read; the proxies of the environment are used."""
    import requests

    try:
        # a body that was packed for transport would not have the length that the server names
        headers = {"Accept-Encoding": "identity"}
        response = requests.get(source.url, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S), headers=headers)
    except (
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.MissingSchema,
    ) as bad:
        raise source.failed(f"that is no usable address: {bad}") from bad
    except requests.exceptions.SSLError as error:
        raise source.failed(f"its certificate is not trusted: {_short(error)}") from error
    except requests.RequestException as error:
        raise source.interrupted(f"no connection: {_short(error)}") from error
    with response:
        if response.status_code in TRANSIENT:
            raise source.interrupted(f"the server answered {response.status_code} {response.reason}")
        if response.status_code != 200:
            raise source.failed(f"the server answered {response.status_code} {response.reason}")
        yield response


def _chunks(source: Source, response: Response) -> Iterator[bytes]:
    """The body as it comes; raises when it is a web page, too slow, or (urllib3 sees to that) not whole.

    Times are real ones: the network does not know another clock.
    """
    from urllib3.exceptions import HTTPError

    done = 0
    began_at = time.monotonic()
    try:
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
            if done == 0 and chunk[:64].lstrip().lower().startswith(HTML_STARTS):
                raise source.failed("a web page came instead of the file")
            done += len(chunk)
            yield chunk
            if time.monotonic() - began_at > PATIENCE_S + done / LEAST_BYTES_PER_S:
                raise source.interrupted(f"slower than {LEAST_BYTES_PER_S // 1000} kB/s: {done} bytes so far")
    except HTTPError as error:
        raise source.interrupted(f"cut off after {done} bytes: {_short(error)}") from error


def _length(response: Response) -> int:
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def _again(once: Callable[[], Got], clock: Clock) -> Got:
    """Try some times, with longer and longer pauses, while the trouble may pass."""
    import tenacity

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_Transient),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
        sleep=clock.sleep,
        reraise=True,
    )
    return retrying(once)


def _short(error: Exception) -> str:
    """The end of the chain of an exception that requests made, where the reason is."""
    inner: BaseException = error
    while isinstance(getattr(inner, "reason", None) or (inner.args[0] if inner.args else None), BaseException):
        inner = getattr(inner, "reason", None) or inner.args[0]
    return str(inner).rpartition(": ")[2] or type(inner).__name__
