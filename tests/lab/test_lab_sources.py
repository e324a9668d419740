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

from pvelab.network import SOURCES_PORT, claim_network
from pvelab.qcow2 import qcow2_image
from pvelab.requestlog import RequestLog
from pvelab.sources import Damage, Sources

IMAGE = "/images/noble.img"


@dataclass(frozen=True)
class Served:
    sources: Sources
    log: RequestLog
    url: str


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
    served.sources.publish_image("noble.img", qcow2_image(1 << 30, seed=1))
    body = requests.get(served.url + IMAGE, timeout=5).content
    sums = requests.get(served.url + "/images/SHA256SUMS", timeout=5).text
    assert sums == f"{hashlib.sha256(body).hexdigest()} *noble.img\n"


def test_part_of_an_image_is_served_by_range(served: Served) -> None:
    served.sources.publish_image("noble.img", b"0123456789")
    answer = requests.get(served.url + IMAGE, headers={"Range": "bytes=4-"}, timeout=5)
    assert (answer.status_code, answer.content, answer.headers["Content-Range"]) == (206, b"456789", "bytes 4-9/10")


def test_a_release_is_found_by_its_version_with_an_encoded_plus(served: Served) -> None:
    served.sources.publish_release("v1.33.5+k3s1", {"k3s": b"binary"})
    folder = f"{served.url}/k3s/releases/v1.33.5%2Bk3s1"
    assert requests.get(f"{folder}/k3s", timeout=5).content == b"binary"
    sums = requests.get(f"{folder}/sha256sum-amd64.txt", timeout=5).text
    assert sums == f"{hashlib.sha256(b'binary').hexdigest()}  k3s\n"


def test_an_unknown_path_is_404_and_every_request_is_logged(served: Served) -> None:
    served.sources.publish_image("noble.img", b"0123456789")
    requests.head(served.url + IMAGE, timeout=5)
    requests.get(served.url + "/nothing", timeout=5)
    assert [(r.what, r.status) for r in served.log.entries] == [(f"HEAD {IMAGE}", 200), ("GET /nothing", 404)]
    assert served.log.writes == []


def test_nothing_outside_the_folder_is_served(served: Served, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    assert requests.get(f"{served.url}/%2e%2e/secret", timeout=5).status_code == 404


def test_a_truncated_image_breaks_off_in_the_middle(served: Served) -> None:
    served.sources.publish_image("noble.img", bytes(400_000))
    served.sources.damaged[IMAGE] = Damage.TRUNCATED
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(served.url + IMAGE, timeout=5)


def test_wrong_content_has_the_right_size_and_another_checksum(served: Served) -> None:
    served.sources.publish_image("noble.img", b"0123456789")
    served.sources.damaged[IMAGE] = Damage.WRONG_CONTENT
    body = requests.get(served.url + IMAGE, timeout=5).content
    assert len(body) == 10
    assert body != b"0123456789"


def test_a_missing_image_is_404_until_everything_is_cleared_and_published_again(served: Served) -> None:
    served.sources.publish_image("noble.img", b"0123456789")
    served.sources.damaged[IMAGE] = Damage.MISSING
    assert requests.get(served.url + IMAGE, timeout=5).status_code == 404
    served.sources.clear()
    assert requests.get(served.url + IMAGE, timeout=5).status_code == 404
    served.sources.publish_image("noble.img", b"0123456789")
    assert requests.get(served.url + IMAGE, timeout=5).status_code == 200


@pytest.mark.parametrize("harm", [lambda file: file.unlink(), lambda file: file.write_bytes(b"x")])
def test_a_file_that_was_harmed_on_disk_is_whole_when_it_is_published_again(
    served: Served, harm: Callable[[Path], object]
) -> None:
    served.sources.publish_image("noble.img", b"0123456789")
    harm(served.sources.folder / IMAGE.lstrip("/"))
    assert requests.get(served.url + IMAGE, timeout=5).content != b"0123456789"
    served.sources.clear()
    served.sources.publish_image("noble.img", b"0123456789")
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
