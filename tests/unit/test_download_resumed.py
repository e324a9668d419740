"""Downloads that were cut off: gone on with where they stopped, if the server still has that version."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from homelab import download
from homelab.download import NotFetched, Source
from support.clock import START, SteppingClock

BODY = b"cloud image " * 100_000
HALF = len(BODY) // 2
DIGEST = hashlib.sha256(BODY).hexdigest()
TAG, DATE = '"1-1"', "Thu, 09 Oct 2025 08:53:20 GMT"
KNOWN = {"ETag": TAG, "Last-Modified": DATE}


NO_HEADERS: Mapping[str, str] = {}


class Step:
    """One answer; `length` is announced, the connection ends after the body."""

    def __init__(
        self, status: int, body: bytes, headers: Mapping[str, str] = NO_HEADERS, length: int | None = None
    ) -> None:
        self.status, self.body = status, body
        self.headers = {"Content-Length": str(len(body) if length is None else length), **headers}


def half(known: Mapping[str, str] = KNOWN) -> Step:
    return Step(200, BODY[:HALF], known, len(BODY))


def rest(first: int = HALF, body: bytes = BODY) -> Step:
    where = f"bytes {first}-{len(body) - 1}/{len(body)}"
    return Step(206, body[first:], {"Content-Range": where, **KNOWN})


class Server:
    """Answers one step after the other; notes what was asked for."""

    def __init__(self, steps: list[Step]) -> None:
        self.asked: list[tuple[str | None, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.headers.get("Range"), self.headers.get("If-Range")))
                step = steps.pop(0)
                self.send_response(step.status)
                for name, value in step.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(step.body)

            def log_message(self, *_: object) -> None:
                """Not on the screen."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/image.img"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


Serve = Callable[..., Server]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        yield lambda *steps: stack.enter_context(closing(Server(list(steps))))


def fetched(server: Server, folder: Path, sha256: str | None = DIGEST) -> bytes:
    target = folder / "x.img"
    assert download.fetch(Source(server.url), target, sha256=sha256, clock=SteppingClock()) == len(target.read_bytes())
    assert [path.name for path in folder.iterdir()] == ["x.img"]
    return target.read_bytes()


def test_only_what_is_missing_is_asked_for_and_progress_counts_all_of_it(serve: Serve, tmp_path: Path) -> None:
    server, seen = serve(half(), rest()), list[tuple[int, int]]()
    download.fetch(
        Source(server.url),
        tmp_path / "x",
        sha256=DIGEST,
        clock=SteppingClock(),
        on_progress=lambda *at: seen.append(at),
    )
    assert (tmp_path / "x").read_bytes() == BODY
    assert server.asked == [(None, None), (f"bytes={HALF}-", TAG)]
    assert {total for _, total in seen} == {len(BODY)}
    assert seen[-1][0] == len(BODY)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        ({"Last-Modified": DATE}, (f"bytes={HALF}-", DATE)),
        ({"ETag": 'W/"1"', "Last-Modified": DATE}, (f"bytes={HALF}-", DATE)),
        ({}, (None, None)),
    ],
    ids=["date", "weak-tag", "nothing"],
)
def test_a_version_is_known_by_its_tag_or_else_its_date_or_not_at_all(
    serve: Serve, tmp_path: Path, known: dict[str, str], asked: tuple[str | None, str | None]
) -> None:
    server = serve(half(known), rest() if known else Step(200, BODY))
    assert fetched(server, tmp_path) == BODY
    assert server.asked[1] == asked


def test_another_version_comes_as_a_whole(serve: Serve, tmp_path: Path) -> None:
    newer = BODY[::-1]
    server = serve(half(), Step(200, newer, {"ETag": '"2"'}))
    assert fetched(server, tmp_path, hashlib.sha256(newer).hexdigest()) == newer


@pytest.mark.parametrize(
    "wrong",
    [
        rest(HALF - 5),
        Step(416, b"no", {"Content-Range": f"bytes */{HALF - 1}"}),
        rest(body=BODY[:HALF] + bytes(len(BODY) - HALF)),
    ],
    ids=["other-place", "shorter", "other-rest"],
)
def test_a_rest_that_does_not_fit_is_thrown_away_with_what_was_there(serve: Serve, tmp_path: Path, wrong: Step) -> None:
    server = serve(half(), wrong, Step(200, BODY, KNOWN))
    assert fetched(server, tmp_path) == BODY
    assert server.asked[-1] == (None, None)


def test_a_file_that_was_all_there_is_only_put_in_place(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / ".x.img.part").write_bytes(BODY)
    server = serve(Step(416, b"nothing more", {"Content-Range": f"bytes */{len(BODY)}"}))
    (tmp_path / ".x.img.version").write_text(json.dumps({"url": server.url, "version": TAG}))
    assert fetched(server, tmp_path) == BODY


@pytest.mark.parametrize("note", ["", "no json", "[]", '{"url": "http://other.example/x", "version": "1"}'])
def test_what_is_there_of_another_file_or_of_nobody_knows_what_is_begun_anew(
    serve: Serve, tmp_path: Path, note: str
) -> None:
    (tmp_path / ".x.img.part").write_bytes(b"something")
    if note:
        (tmp_path / ".x.img.version").write_text(note)
    server = serve(Step(200, BODY))
    assert fetched(server, tmp_path) == BODY
    assert server.asked == [(None, None)]


def test_without_a_checksum_it_is_gone_on_with_as_well(serve: Serve, tmp_path: Path) -> None:
    assert fetched(serve(half(), rest()), tmp_path, None) == BODY


def test_what_came_stays_for_the_next_run_and_is_removed_where_nothing_came(serve: Serve, tmp_path: Path) -> None:
    steps = [half(), *(Step(206, b"", {"Content-Range": f"bytes {HALF}-/"}, 1) for _ in range(3))]
    with pytest.raises(NotFetched, match="cut off after 0 bytes"):
        fetched(serve(*steps), tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [".x.img.part", ".x.img.version"]
    assert (tmp_path / ".x.img.part").read_bytes() == BODY[:HALF]

    with pytest.raises(NotFetched, match="cut off after 0 bytes"):
        download.fetch(
            Source(serve(*(Step(200, b"", length=9) for _ in range(4))).url), tmp_path / "y", clock=SteppingClock()
        )
    assert [path.name for path in tmp_path.iterdir() if "y" in path.name] == []


def test_whoever_waited_for_another_run_takes_what_that_one_brought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the half file is locked by the other run, that one puts it in place."""

    def wait(file: object, _how: int) -> None:
        monkeypatch.undo()
        (tmp_path / ".x.img.part").write_bytes(BODY)
        (tmp_path / ".x.img.part").replace(tmp_path / "x.img")
        assert file is not None

    monkeypatch.setattr(fcntl, "flock", wait)
    assert download.fetch(Source("http://127.0.0.1:9/x.img"), tmp_path / "x.img", sha256=DIGEST, clock=SteppingClock())
    assert [path.name for path in tmp_path.iterdir()] == ["x.img"]


def test_first_bytes_are_asked_for_alone_and_taken_from_a_server_that_sends_all(serve: Serve) -> None:
    server = serve(Step(206, BODY[:10], {"Content-Range": "bytes 0-9/100"}), Step(200, BODY), Step(404, b""))
    assert download.first_bytes(server.url, 10) == download.Beginning(BODY[:10], 100)
    whole = download.first_bytes(server.url, 10)
    assert whole.content.startswith(BODY[:10])
    assert whole.total_bytes == len(BODY)
    with pytest.raises(NotFetched, match="answered 404"):
        download.first_bytes(server.url, 10)
    assert server.asked == [("bytes=0-9", None)] * 3


def test_first_bytes_of_a_shorter_file_are_all_of_it(serve: Serve) -> None:
    assert download.first_bytes(serve(Step(200, b"short")).url, 10) == download.Beginning(b"short", 5)


@pytest.mark.parametrize(("date", "seconds"), [(DATE, START), ("yesterday", None)])
def test_a_small_file_comes_with_its_date(serve: Serve, date: str, seconds: float | None) -> None:
    small = download.fetch_small(serve(Step(200, b"sum", {"Last-Modified": date})).url, clock=SteppingClock())
    assert (small.content, small.modified_at) == (b"sum", seconds)


def test_older_copies_and_abandoned_halves_are_removed_and_nothing_else(tmp_path: Path) -> None:
    names = ("11-a.img", "22-a.img", "33-b.img", "a.img", ".22-a.img.part", ".22-a.img.version")
    for name in names:
        (tmp_path / name).write_text("x")
    modified_at = (tmp_path / ".22-a.img.part").stat().st_mtime

    download.remove_others(tmp_path / "11-a.img", "[0-9][0-9]-a.img", SteppingClock(modified_at + 80_000))
    assert {path.name for path in tmp_path.iterdir()} == {*names} - {"22-a.img"}
    download.remove_others(tmp_path / "11-a.img", "[0-9][0-9]-a.img", SteppingClock(modified_at + 90_000))
    assert {path.name for path in tmp_path.iterdir()} == {"11-a.img", "33-b.img", "a.img"}
