"""Files from the web: whole and verified in place, or not at all; what came before a cut is not asked for again."""

from __future__ import annotations

import email.utils
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from homelab import private_files
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
ABANDONED_AFTER_S = 86_400.0
PARTIAL, NO_SUCH_RANGE = 206, 416
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
HTML_STARTS = (b"<!doctype html", b"<html")


class NotFetched(HomelabError):
    """A file did not come, or what came is not it."""


class NotNow(NotFetched):
    """Worth another try."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is fetched, and the setting to name when that fails."""

    url: str
    setting: str = "ISO_URL"

    def failed(self, why: str) -> NotFetched:
        return NotFetched(f"download of {self.url}", why, f"set {self.setting} to an address that has the file")

    def altered(self, found: str, wanted: str) -> NotFetched:
        cure = f"set {self.setting} to a mirror that has it whole"
        if self.setting == "ISO_URL":
            cure = "compare IMAGE_SHA256 with the SHA256SUMS beside it, or remove it; else set ISO_URL to a mirror"
        return NotFetched(f"download of {self.url}", f"its sha256 is {found}, wanted {wanted}", cure)

    def interrupted(self, why: str) -> NotNow:
        cure = f"run again; if it stays so, set {self.setting} to another mirror or check HTTPS_PROXY"
        return NotNow(f"download of {self.url}", why, cure)


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first bytes of a file, and how large the server says that all of it is; 0 where it does not."""

    content: bytes
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Small:
    """A small file, and when its server says it was changed, in Unix seconds."""

    content: bytes
    modified_at: float | None


@dataclass(frozen=True, slots=True)
class _Half:
    """What is there of a download: hidden beside its target, with a note of which version on the server it is."""

    target: Path

    @property
    def path(self) -> Path:
        return self.target.with_name(f".{self.target.name}.part")

    @property
    def note(self) -> Path:
        return self.target.with_name(f".{self.target.name}.version")

    def version_of(self, url: str) -> str:
        """The ETag or date by which the server at that URL knows the version; empty: it cannot be gone on with."""
        try:
            noted = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        return str(noted.get("version", "")) if isinstance(noted, dict) and noted.get("url") == url else ""

    def belongs_to(self, url: str, response: Response) -> None:
        """Note the version that now begins to come. A weak ETag says nothing about bytes."""
        tag, date = response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")
        version = tag if tag.startswith('"') else date
        with open(self.note, "w", encoding="utf-8", opener=private_files.opener) as file:
            json.dump({"url": url, "version": version}, file)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def fetch(
    source: Source,
    target: Path,
    *,
    sha256: str | None = None,
    clock: Clock,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Download to `target`, which appears whole and verified or not at all; its bytes.

    A download that was cut off, in this run or an earlier one, is gone on with if the server still has that version.
    `on_progress` gets bytes so far and in total (0: not known). Raises NotFetched after some tries.
    """
    half = _Half(target)

    def once() -> int:
        try:
            private_files.make_folder(target.parent)
            with _alone(half.path) as file:
                if sha256 is not None and is_whole(target, sha256):
                    half.remove()
                    return target.stat().st_size
                return _complete(source, half, file, sha256, on_progress)
        except OSError as error:
            with suppress(OSError):
                half.remove()
            raise NotFetched(f"file {target}", error.strerror or str(error), "free space there, or allow it") from error

    return _again(once, clock)


def fetch_text(url: str, *, max_bytes: int = 1_000_000, clock: Clock, setting: str = "ISO_URL") -> str:
    """A small text such as an install script; raises NotFetched, also when it is larger, HTML or no text."""
    try:
        return fetch_small(url, max_bytes=max_bytes, clock=clock, setting=setting).content.decode()
    except UnicodeDecodeError as error:
        raise Source(url, setting).failed("it is no text") from error


def fetch_small(
    url: str, *, max_bytes: int = 1_000_000, clock: Clock, setting: str = "ISO_URL", attempts: int = ATTEMPTS
) -> Small:
    """A small file such as SHA256SUMS or its signature; raises NotFetched, also when it is larger or HTML."""
    source = Source(url, setting)

    def once() -> Small:
        data = bytearray()
        with _opened(source) as response:
            for chunk in _chunks(source, response):
                data += chunk
                if len(data) > max_bytes:
                    raise source.failed(f"it is larger than {max_bytes} bytes, so it is something else")
            return Small(bytes(data), _modified_at(response))

    return _again(once, clock, attempts)


def first_bytes(url: str, count: int, *, setting: str = "ISO_URL") -> Beginning:
    """The beginning of a file, at least `count` bytes if it is that long; one try. Raises NotFetched."""
    source, data = Source(url, setting), bytearray()
    with _opened(source, {"Range": f"bytes=0-{count - 1}"}, (PARTIAL,)) as response:
        for chunk in _chunks(source, response):
            data += chunk
            if len(data) >= count:
                break
        total = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", ""))
        return Beginning(bytes(data), int(total[1]) if total else _length(response))


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


@contextmanager
def _alone(path: Path) -> Iterator[BufferedRandom]:
    """The half file, opened to add to it, while nobody else works on it: whoever does is waited for."""
    while True:
        with open(path, "a+b", opener=private_files.opener) as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield file
                return


def _complete(
    source: Source,
    half: _Half,
    file: BufferedRandom,
    sha256: str | None,
    on_progress: Callable[[int, int], None] | None,
) -> int:
    """Fetch what is missing of a half file and put it in place; its bytes. What is of no use is removed."""
    try:
        was_there, found = _save(source, half, file, on_progress)
        if sha256 is not None and found != sha256.lower():
            half.remove()
            if was_there:
                raise source.interrupted("what was there of it does not fit the rest")
            raise source.altered(found, sha256)
        size = file.tell()
        half.path.replace(half.target)
        half.note.unlink(missing_ok=True)
        return size
    finally:
        if half.path.exists() and half.path.stat().st_size == 0:
            half.remove()


def remove_others(target: Path, pattern: str, clock: Clock) -> None:
    """Remove the files beside `target` whose names fit, and half ones that nobody has added to for a day."""
    folder, since = target.parent, clock.now() - ABANDONED_AFTER_S
    with suppress(OSError):
        halves = [*folder.glob(f".{pattern}.part"), *folder.glob(f".{pattern}.version")]
        old = [half for half in halves if half.stat().st_mtime < since]
        for path in (*(whole for whole in folder.glob(pattern) if whole != target), *old):
            path.unlink()


def _save(
    source: Source, half: _Half, file: BufferedRandom, on_progress: Callable[[int, int], None] | None
) -> tuple[int, str]:
    """Add what comes to the file, surely on the disk; how much of it was there before, and its sha256 now."""
    there = file.seek(0, os.SEEK_END)
    version = half.version_of(source.url) if there else ""
    headers = {"Range": f"bytes={there}-", "If-Range": version} if version else {}
    with _opened(source, headers, (PARTIAL, NO_SUCH_RANGE) if version else ()) as response:
        position = _position(source, half, response, there)
        digest = hashlib.sha256()
        if position:
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
        else:
            file.truncate(0)
            half.belongs_to(source.url, response)
        done, total = position, _length(response) and position + _length(response)
        for chunk in _chunks(source, response) if response.status_code != NO_SUCH_RANGE else ():
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, total)
        file.flush()
        os.fsync(file.fileno())
    return position, digest.hexdigest()


def _position(source: Source, half: _Half, response: Response, there: int) -> int:
    """Where in the file the answer goes on: at the end of what is there, or at 0 with the file as a whole."""
    where = response.headers.get("Content-Range", "")
    if response.status_code == 200:
        return 0
    if where == f"bytes */{there}" or (response.status_code == PARTIAL and where.startswith(f"bytes {there}-")):
        return there
    half.remove()
    raise source.interrupted(f"it went on at another place: {response.status_code} {where}")


@contextmanager
def _opened(
    source: Source, headers: Mapping[str, str] | None = None, accepted: Sequence[int] = ()
) -> Iterator[Response]:
    """A good answer whose body can be read; the proxies of the environment are used."""
    import requests

    try:
        # a body that was packed for transport would not have the length that the server names
        asked = {"Accept-Encoding": "identity", **(headers or {})}
        response = requests.get(source.url, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S), headers=asked)
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
        if response.status_code not in (200, *accepted):
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


def _modified_at(response: Response) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(response.headers.get("Last-Modified", "")).timestamp()
    except ValueError:
        return None


def _again(once: Callable[[], Got], clock: Clock, attempts: int = ATTEMPTS) -> Got:
    """Try some times, with longer and longer pauses, while the trouble may pass."""
    import tenacity

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(NotNow),
        stop=tenacity.stop_after_attempt(attempts),
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
