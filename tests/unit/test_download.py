"""Downloads over real sockets: whole and verified in place, or not there at all."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from homelab import download
from homelab.download import NotFetched, Source
from support.clock import START, SteppingClock

BODY = b"cloud image " * 200_000
DIGEST = hashlib.sha256(BODY).hexdigest()
Step = tuple[int, bytes, int | None]
"""Status, body, announced length (None: none, -1: in chunks)."""
Serve = Callable[..., str]


def broken(body: bytes) -> Step:
    """A body in chunks whose second one is no chunk."""
    return 200, b"%x\r\n%b\r\nno chunk\r\n" % (len(body), body), -1


def good(body: bytes = BODY) -> Step:
    return 200, body, len(body)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Server:
    """Answers one step after the other; the last one stays."""

    def __init__(self, steps: list[Step]) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                status, body, length = steps.pop(0) if len(steps) > 1 else steps[0]
                self.send_response(status)
                if length == -1:
                    self.send_header("Transfer-Encoding", "chunked")
                elif length is not None:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

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


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:
        yield lambda *steps: stack.enter_context(closing(Server(list(steps))))


def test_file_comes_whole_with_its_progress(serve: Callable[..., Server], tmp_path: Path) -> None:
    server, seen = serve(good()), list[tuple[int, int]]()
    target = tmp_path / "cache" / "image.img"
    size = download.fetch(
        Source(server.url),
        target,
        sha256=DIGEST.upper(),
        clock=SteppingClock(),
        on_progress=lambda *at: seen.append(at),
    )
    assert (size, target.read_bytes()) == (len(BODY), BODY)
    assert seen[-1] == (len(BODY), len(BODY))
    assert download.sha256_of(target) == DIGEST
    assert list(target.parent.iterdir()) == [target]


def test_file_without_checksum_and_length_is_taken_as_it_comes(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve((200, BODY, None))
    assert download.fetch(Source(server.url), tmp_path / "x", clock=SteppingClock()) == len(BODY)


@pytest.mark.parametrize(
    "first", [(503, b"", 0), (200, BODY[:1000], len(BODY)), broken(BODY)], ids=["busy", "cut-off", "broken"]
)
def test_trouble_that_passes_is_tried_again_after_a_pause(
    serve: Callable[..., Server], tmp_path: Path, first: Step
) -> None:
    server, clock = serve(first, good()), SteppingClock()
    download.fetch(Source(server.url), tmp_path / "x", sha256=DIGEST, clock=clock)
    assert len(server.asked) == 2
    assert clock.now() == START + download.FIRST_PAUSE_S


def test_trouble_that_stays_is_told_after_some_tries(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve((200, BODY[:1000], len(BODY)))
    with pytest.raises(NotFetched, match="cut off after") as failed:
        download.fetch(Source(server.url), tmp_path / "x", clock=SteppingClock())
    assert "another mirror" in failed.value.cure
    assert (len(server.asked), list(tmp_path.iterdir())) == (download.ATTEMPTS, [])


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ((404, b"gone", 4), "answered 404"),
        (good(b"<!DOCTYPE html><p>log in"), "a web page came"),
        (good(b"\n <html>"), "a web page came"),
        (good(b"something else"), f"wanted {DIGEST}"),
    ],
    ids=["missing", "html", "html-later", "checksum"],
)
def test_wrong_file_is_told_at_once_and_leaves_nothing(
    serve: Callable[..., Server], tmp_path: Path, step: Step, why: str
) -> None:
    server = serve(step)
    old = tmp_path / "x"
    old.write_bytes(b"old")
    with pytest.raises(NotFetched, match=why) as failed:
        download.fetch(Source(server.url), old, sha256=DIGEST, clock=SteppingClock())
    assert "ISO_URL" in failed.value.cure
    assert (len(server.asked), [path.read_bytes() for path in tmp_path.iterdir()]) == (1, [b"old"])


def test_server_that_hardly_sends_is_given_up_after_some_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homelab.download.PATIENCE_S", 0.05)
    asked: list[bytes] = []

    def trickle(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            asked.append(connection.recv(4096))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            for _ in range(500):
                connection.sendall(b"x")
                gone.wait(0.01)

    def accept() -> None:
        with suppress(OSError):
            while True:
                Thread(target=trickle, args=(listener.accept()[0],), daemon=True).start()

    gone = Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.img"
        Thread(target=accept, daemon=True).start()
        with pytest.raises(NotFetched, match="slower than 50 kB/s"):
            download.fetch(Source(url), tmp_path / "x", clock=SteppingClock())
        gone.set()
        listener.shutdown(socket.SHUT_RDWR)
    assert (len(asked), list(tmp_path.iterdir())) == (download.ATTEMPTS, [])


def test_server_that_is_not_there_is_told_after_some_tries(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotFetched, match=r"no connection: .*refused"):
        download.fetch(Source(f"http://127.0.0.1:{port}/x"), tmp_path / "x", clock=SteppingClock())


@pytest.mark.parametrize("url", ["no address", "ftp://127.0.0.1/x", "http://"])
def test_address_that_is_none_is_told_at_once(tmp_path: Path, url: str) -> None:
    clock = SteppingClock()
    with pytest.raises(NotFetched, match="no usable address"):
        download.fetch(Source(url), tmp_path / "x", clock=clock)
    assert clock.now() == START


def test_untrusted_server_is_told(tmp_path: Path) -> None:
    from support.https_server import https_server, json_reply

    with https_server(tmp_path, lambda _: json_reply()) as server, pytest.raises(NotFetched, match="not trusted"):
        download.fetch(Source(f"https://127.0.0.1:{server.port}/x"), tmp_path / "x", clock=SteppingClock())


def test_folder_that_cannot_be_written_is_named(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotFetched, match="/file/x: "):
        download.fetch(Source(serve(good()).url), tmp_path / "file" / "x", clock=SteppingClock())


def test_proxy_of_the_environment_is_used(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(good())
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    download.fetch(Source("http://images.example/x.img"), tmp_path / "x", clock=SteppingClock())
    assert proxy.asked == ["http://images.example/x.img"]


def test_text_is_read_unless_it_is_large_or_no_text(serve: Callable[..., Server]) -> None:
    assert download.fetch_text(serve(good(b"abc  x.img\n")).url, clock=SteppingClock()) == "abc  x.img\n"
    with pytest.raises(NotFetched, match="larger than 100 bytes"):
        download.fetch_text(serve(good()).url, max_bytes=100, clock=SteppingClock())
    with pytest.raises(NotFetched, match="no text") as failed:
        download.fetch_text(serve(good(b"\xff\xfe")).url, clock=SteppingClock(), setting="K3S_INSTALL_URL")
    assert "K3S_INSTALL_URL" in failed.value.cure
