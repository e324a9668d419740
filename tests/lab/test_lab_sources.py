"""The lab's image and k3s servers answer as public ones do, and can be broken."""

from __future__ import annotations

import asyncio
import hashlib
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from openpgp.composed import DetachedSignature, SignedPublicKey
from urllib3.exceptions import ReadTimeoutError

from pvelab.network import SOURCES_PORT, claim_network
from pvelab.openpgp import SigningKey
from pvelab.qcow2 import qcow2_image
from pvelab.requestlog import RequestLog
from pvelab.sources import Damage, Sources

IMAGE = "/images/noble.img"
KEY = SigningKey("Images <images@lab>", 1_253_059_109)
BUILT_AT = 1_756_000_000.5
DATE, BEFORE = "Sun, 24 Aug 2025 01:46:40 GMT", "Sun, 24 Aug 2025 01:46:39 GMT"


@dataclass(frozen=True)
class Served:
    sources: Sources
    log: RequestLog
    url: str

    def publish(self, content: bytes) -> None:
        self.sources.publish_image("noble.img", content, KEY, BUILT_AT)

    def get(self, path: str = IMAGE, **headers: str) -> requests.Response:
        asked = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.get(self.url + path, headers=asked, timeout=5)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    network, log, loop = claim_network(), RequestLog(), asyncio.new_event_loop()
    sources = Sources(tmp_path / "www", log.add)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(sources.start(network.sources, SOURCES_PORT), loop).result(timeout=5)
    yield Served(sources, log, f"http://{network.sources}:{SOURCES_PORT}")
    asyncio.run_coroutine_threadsafe(sources.stop(), loop).result(timeout=5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=5)
    loop.close()
    network.release()


def test_an_image_matches_the_checksums_beside_it(served: Served) -> None:
    served.publish(qcow2_image(1 << 30, seed=1))
    body = requests.get(served.url + IMAGE, timeout=5).content
    sums = requests.get(served.url + "/images/SHA256SUMS", timeout=5).text
    assert sums == f"{hashlib.sha256(body).hexdigest()} *noble.img\n"


def test_the_checksums_are_signed_by_the_key_at_the_time_of_the_build(served: Served) -> None:
    served.publish(b"0123456789")
    key, _ = SignedPublicKey.from_armor(KEY.armored)
    signature, _ = DetachedSignature.from_armor(served.get("/images/SHA256SUMS.gpg").text)
    signature.verify(key, served.get("/images/SHA256SUMS").content)
    assert signature.signature.created() == int(BUILT_AT)


def test_a_file_says_by_which_it_is_known(served: Served) -> None:
    served.publish(b"0123456789")
    headers = served.get().headers
    assert (headers["Last-Modified"], headers["Accept-Ranges"]) == (DATE, "bytes")
    assert headers["ETag"] == '"a-63d129c416120"'
    served.publish(b"9876543210")
    assert served.get().headers["ETag"] == headers["ETag"]
    served.sources.publish(IMAGE, b"0123456789", BUILT_AT + 1)
    assert served.get().headers["ETag"] != headers["ETag"]


@pytest.mark.parametrize(
    ("wanted", "status", "body", "where"),
    [
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=4-5", 206, b"45", "bytes 4-5/10"),
        ("bytes=8-20", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=5-4", 200, b"0123456789", None),
        ("bytes=1-2,4-5", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_part_of_an_image_is_served_by_range(
    served: Served, wanted: str, status: int, body: bytes, where: str | None
) -> None:
    served.publish(b"0123456789")
    answer = served.get(Range=wanted)
    assert (answer.status_code, answer.content, answer.headers.get("Content-Range")) == (status, body, where)


@pytest.mark.parametrize(
    ("validator", "status"),
    [(None, 206), (DATE, 206), (BEFORE, 200), ('"other"', 200), ("W/{}", 200), ("{}", 206), ("nonsense", 200)],
)
def test_a_range_of_another_version_is_answered_with_the_whole_file(
    served: Served, validator: str | None, status: int
) -> None:
    served.publish(b"0123456789")
    given = {} if validator is None else {"If_Range": validator.format(served.get().headers["ETag"])}
    assert served.get(Range="bytes=4-", **given).status_code == status


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"If_None_Match": "{}"}, 304),
        ({"If_None_Match": 'W/{}, "x"'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"x"', "If_Modified_Since": DATE}, 200),
        ({"If_Modified_Since": DATE}, 304),
        ({"If_Modified_Since": BEFORE}, 200),
        ({"If_Modified_Since": "yesterday"}, 200),
    ],
)
def test_a_version_that_is_known_already_is_not_sent_again(served: Served, asked: dict[str, str], status: int) -> None:
    served.publish(b"0123456789")
    tag = served.get().headers["ETag"]
    answer = served.get(**{name: value.format(tag) for name, value in asked.items()})
    assert (answer.status_code, answer.content) == (status, b"0123456789" if status == 200 else b"")


def test_a_release_is_found_by_its_version_with_an_encoded_plus(served: Served) -> None:
    served.sources.publish_release("v1.33.5+k3s1", {"k3s": b"binary"})
    folder = f"{served.url}/k3s/releases/v1.33.5%2Bk3s1"
    assert requests.get(f"{folder}/k3s", timeout=5).content == b"binary"
    sums = requests.get(f"{folder}/sha256sum-amd64.txt", timeout=5).text
    assert sums == f"{hashlib.sha256(b'binary').hexdigest()}  k3s\n"


def test_an_unknown_path_is_404_and_every_request_is_logged(served: Served) -> None:
    served.publish(b"0123456789")
    requests.head(served.url + IMAGE, timeout=5)
    requests.get(served.url + "/nothing", timeout=5)
    assert [(r.what, r.status) for r in served.log.entries] == [(f"HEAD {IMAGE}", 200), ("GET /nothing", 404)]
    assert served.log.writes == []


def test_nothing_outside_the_folder_is_served(served: Served, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    assert requests.get(f"{served.url}/%2e%2e/secret", timeout=5).status_code == 404


def test_a_truncated_image_breaks_off_in_the_middle(served: Served) -> None:
    served.publish(bytes(400_000))
    served.sources.damaged[IMAGE] = Damage.TRUNCATED
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(served.url + IMAGE, timeout=5)


def test_a_truncated_image_has_no_second_half_by_range_either(served: Served) -> None:
    served.publish(bytes(400_000))
    served.sources.damaged[IMAGE] = Damage.TRUNCATED
    assert len(served.get(Range="bytes=0-199999").content) == 200_000
    with pytest.raises(requests.exceptions.RequestException):
        served.get(Range="bytes=200000-")


def test_an_image_that_is_cut_once_comes_the_next_time(served: Served) -> None:
    served.publish(bytes(400_000))
    served.sources.damaged[IMAGE] = Damage.CUT_ONCE
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        served.get()
    assert len(served.get(Range="bytes=200000-").content) == 200_000


def test_a_stalled_image_goes_silent_in_the_middle_with_its_connection_open(served: Served) -> None:
    served.publish(bytes(400_000))
    served.sources.damaged[IMAGE] = Damage.STALLED
    with requests.get(served.url + IMAGE, stream=True, timeout=(5, 0.2)) as answer:
        assert len(answer.raw.read(200_000)) == 200_000
        with pytest.raises(ReadTimeoutError):
            answer.raw.read(1)


def test_a_web_page_or_an_installer_comes_in_the_image_s_place(served: Served) -> None:
    served.publish(bytes(400_000))
    served.sources.damaged[IMAGE] = Damage.WEB_PAGE
    page = served.get()
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    served.sources.damaged[IMAGE] = Damage.INSTALLER
    installer = served.get().content
    assert (len(installer), installer[510:512], installer[32_769:32_774]) == (400_000, b"\x55\xaa", b"CD001")


def test_wrong_content_has_the_right_size_and_another_checksum(served: Served) -> None:
    served.publish(b"0123456789")
    served.sources.damaged[IMAGE] = Damage.WRONG_CONTENT
    body = requests.get(served.url + IMAGE, timeout=5).content
    assert len(body) == 10
    assert body != b"0123456789"


def test_a_missing_image_is_404_until_everything_is_cleared_and_published_again(served: Served) -> None:
    served.publish(b"0123456789")
    served.sources.damaged[IMAGE] = Damage.MISSING
    assert requests.get(served.url + IMAGE, timeout=5).status_code == 404
    served.sources.clear()
    assert requests.get(served.url + IMAGE, timeout=5).status_code == 404
    served.publish(b"0123456789")
    assert requests.get(served.url + IMAGE, timeout=5).status_code == 200


@pytest.mark.parametrize("harm", [lambda file: file.unlink(), lambda file: file.write_bytes(b"x")])
def test_a_file_that_was_harmed_on_disk_is_whole_when_it_is_published_again(
    served: Served, harm: Callable[[Path], object]
) -> None:
    served.publish(b"0123456789")
    harm(served.sources.folder / IMAGE.lstrip("/"))
    assert requests.get(served.url + IMAGE, timeout=5).content != b"0123456789"
    served.sources.clear()
    served.publish(b"0123456789")
    assert requests.get(served.url + IMAGE, timeout=5).content == b"0123456789"


def test_the_image_is_a_qcow2_of_its_virtual_size_whose_tables_lead_to_its_data() -> None:
    size = 3584 << 20
    image = qcow2_image(size, seed=7)
    magic, version, cluster_bits, virtual_size = struct.unpack_from(">4sI12xIQ", image)
    l1_entries, l1_offset, refcount_offset = struct.unpack_from(">IQQ", image, 36)
    (l2_offset,) = struct.unpack_from(">Q", image, l1_offset)
    (data_offset,) = struct.unpack_from(">Q", image, l2_offset & ~(1 << 63))
    (refcounts_offset,) = struct.unpack_from(">Q", image, refcount_offset)
    assert (magic, version, virtual_size, l1_entries) == (b"QFI\xfb", 3, size, 7)
    assert struct.unpack_from(f">{len(image) >> cluster_bits}H", image, refcounts_offset) == (1,) * 9
    assert image[(data_offset & ~(1 << 63)) + 510 :][:2] == b"\x55\xaa"
    assert 300_000 < len(image) < 900_000
