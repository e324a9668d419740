"""What is believed of the place that an image comes from: its list of checksums, and its first bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from homelab import download
from homelab.download import NotFetched, NotNow, Small
from homelab.errors import HomelabError
from homelab.image_manager import medium, sums
from homelab.image_manager.origin import Origin
from homelab.image_manager.sums import Published
from homelab.settings import ImageConfig
from support.clock import SteppingClock
from unit.builders import CONFIG

UBUNTU = Path(__file__).parent / "ubuntu-cloud-image"
FOLDER = "https://cloud-images.ubuntu.com/noble/current"
DEFAULT = replace(CONFIG.image, url=f"{FOLDER}/noble-server-cloudimg-amd64.img")
NOBLE = "6a81c37564db9b1ee84e141922625e1d7c5b389b99bb3c572e0243607d5bb4d2"
SIGNED_AT = 1_790_446_992
QCOW2 = b"QFI\xfb" + bytes(medium.HEAD_BYTES)
RAW = bytes(510) + b"\x55\xaa" + bytes(medium.HEAD_BYTES)
ISO = RAW[:32_769] + b"CD001" + bytes(100)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, bytes]], list[str]]:
    """Have these files, and no others, at their addresses; what was asked for."""

    def served(files: Mapping[str, bytes]) -> list[str]:
        asked: list[str] = []

        def fetch_small(url: str, **_: object) -> Small:
            asked.append(url)
            if url not in files:
                raise NotFetched(f"download of {url}", "the server answered 404 Not Found", "set ISO_URL")
            return Small(files[url], 1_750_000_000.0)

        monkeypatch.setattr(download, "fetch_small", fetch_small)
        return asked

    return served


def test_ubuntu_s_list_as_it_was_published_names_the_default_image(
    publish: Callable[[Mapping[str, bytes]], list[str]],
) -> None:
    files = {f"{FOLDER}/{name}": (UBUNTU / name).read_bytes() for name in ("SHA256SUMS", "SHA256SUMS.gpg")}
    asked = publish(files)
    assert sums.published(DEFAULT, SteppingClock()) == Published(NOBLE, SIGNED_AT)
    assert asked == list(files)


@pytest.mark.parametrize(
    "line",
    [
        "{sum} *disk.img",
        "{sum}  disk.img",
        "{sum}  ./disk.img",
        "SHA256 (disk.img) = {sum}",
        "SHA256(disk.img)= {sum}",
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# disk.img: 600 bytes\nSHA256 (disk.img) = {sum}",
    ],
)
def test_a_list_of_one_s_own_choice_is_believed_as_its_https_server_is(
    publish: Callable[[Mapping[str, bytes]], list[str]], line: str
) -> None:
    image = replace(CONFIG.image, url="https://a.example/disk.img", sums_url="https://b.example/CHECKSUM")
    asked = publish({"https://b.example/CHECKSUM": f"{'0' * 64}  disk.img.xz\n{line.format(sum='AB' * 32)}\n".encode()})
    assert sums.published(image, SteppingClock()) == Published("ab" * 32, 1_750_000_000.0)
    assert asked == ["https://b.example/CHECKSUM"]


@pytest.mark.parametrize(
    ("image", "said", "cure"),
    [
        (DEFAULT, f"{FOLDER}/SHA256SUMS: the server answered 404", "IMAGE_UNVERIFIED=1"),
        (replace(DEFAULT, sums_url="https://b.example/x"), "https://b.example/x: the server answered", "IMAGE_SHA256"),
        (replace(DEFAULT, sums_url=f"{FOLDER}/SUMS"), "no checksum for noble-server-cloudimg-amd64.img: ", "IMAGE_SHA"),
    ],
)
def test_where_nothing_vouches_for_the_image_what_would_is_named(
    publish: Callable[[Mapping[str, bytes]], list[str]], image: ImageConfig, said: str, cure: str
) -> None:
    publish({f"{FOLDER}/SUMS": b"nothing\n" + b"0" * 63 + b" *noble-server-cloudimg-amd64.img\n"})
    with pytest.raises(HomelabError, match=said) as refused:
        sums.published(image, SteppingClock())
    assert cure in refused.value.cure


@pytest.mark.parametrize(
    ("head", "name", "flaw"),
    [
        (QCOW2, "x.qcow2", ""),
        (RAW, "x.raw", ""),
        (ISO, "x.img", "it is an installer or another CD"),
        (b"\xfd7zXZ\x00" + bytes(600), "x.img", "it is packed (xz)"),
        (b"\x1f\x8b\x08" + bytes(600), "x.img", "it is packed (gzip)"),
        (b"404 page not found\n", "x.img", "it is neither a qcow2 image nor a raw disk"),
        (bytes(40_000), "x.img", "it is neither a qcow2 image nor a raw disk"),
        (RAW, "x.qcow2", "it is a raw disk, and its name x.qcow2 says otherwise"),
        (QCOW2, "x.raw", "it is a qcow2 disk, and its name x.raw says otherwise"),
    ],
)
def test_a_file_is_known_by_its_first_bytes(head: bytes, name: str, flaw: str) -> None:
    found = medium.flaw_of(head, name, goes_by_name=True)
    assert found.startswith(flaw) if flaw else found == ""


@pytest.mark.parametrize("head", [QCOW2, RAW])
def test_where_the_name_does_not_count_any_disk_will_do(head: bytes) -> None:
    assert medium.flaw_of(head, "x.img", goes_by_name=False) == ""


def test_a_source_that_cannot_be_looked_at_from_here_is_left_to_the_nodes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks: list[str] = []

    def first_bytes(url: str, _count: int) -> bytes:
        looks.append(url)
        raise NotNow(f"download of {url}", "no connection", "run again")

    monkeypatch.setattr(download, "first_bytes", first_bytes)
    origin = Origin(replace(DEFAULT, sha256=NOBLE), tmp_path, SteppingClock(), lambda _: None)
    origin.check_kind("x.qcow2")
    origin.check_kind("x.img")
    assert len(looks) == 1


def test_a_source_that_has_failed_has_failed_for_all_nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "first_bytes", lambda *_: download.Beginning(ISO, len(ISO)))
    origin = Origin(replace(DEFAULT, sha256=NOBLE), tmp_path, SteppingClock(), lambda _: None)
    for _ in range(2):
        with pytest.raises(HomelabError, match="is no usable image: it is an installer") as refused:
            origin.check_kind("x.img")
    assert "set ISO_URL to the publisher's cloud image" in refused.value.cure


def test_a_whole_copy_of_an_earlier_run_is_not_downloaded_again(tmp_path: Path) -> None:
    wanted = hashlib.sha256(QCOW2).hexdigest()
    copy = tmp_path / f"{wanted[:12]}-{DEFAULT.name}"
    copy.write_bytes(QCOW2)
    said: list[str] = []
    origin = Origin(replace(DEFAULT, sha256=wanted), tmp_path, SteppingClock(), said.append)
    assert (origin.local_copy(), said) == (copy, [])
