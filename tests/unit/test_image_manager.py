"""Where the image goes and who waits for whom; the bringing itself is told in the stories of the image."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from homelab.download import Beginning, NotFetched, NotNow
from homelab.errors import NodeFailed, Refused
from homelab.image_manager import ImageManager
from homelab.models import MIB, Action, Plan, StorageState, VolumeRow, Wire
from homelab.proxmox.client import Proxmox
from homelab.proxmox.transport import Download, Upload
from support.clock import SteppingClock
from unit.builders import CONFIG, NODE, STORAGE, facts, node_plan

LONG_S = 5.0
BY_SSH, BY_API = replace(NODE, name="by-ssh"), replace(NODE, name="by-api")


@dataclass
class Storages:
    """Proxmox as far as the image manager asks it: every storage takes images, none has any."""

    brought: list[str] = field(default_factory=list)
    takes_uploads: bool = True
    free_bytes: int = STORAGE.free_bytes
    there: tuple[VolumeRow, ...] = ()

    def disk_bytes(self, node: str, volume: str) -> int:
        if node == "by-ssh":
            raise Refused(f"GET {volume}", "permission denied", status=403)
        return 7

    def wire(self, node: str) -> Wire:
        return Wire.SSH if node == "by-ssh" else Wire.API

    def storages(self, node: str) -> tuple[StorageState, ...]:
        content = frozenset({"import", "iso"} if self.wire(node) is Wire.API else {"import"})
        return (replace(STORAGE, name="local", content=content, free_bytes=self.free_bytes),)

    def storage_content(self, *_: str, **__: Any) -> tuple[VolumeRow, ...]:
        return self.there

    def reaches(self, _node: str, _url: str) -> bool:
        return True

    def download_url(self, download: Download) -> None:
        if download.node == "by-ssh":
            raise Refused("download", "no way to the mirror", status=500)
        self.brought.append(download.node)

    def upload(self, upload: Upload) -> str:
        if not self.takes_uploads:
            raise Refused("upload", "no space left on the node", status=1)
        self.brought.append(upload.node)
        return upload.volume

    def image_path(self, _node: str, volume: str) -> str:
        return f"/{volume}"


@pytest.fixture(autouse=True)
def source(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image server that has what the image's name says."""

    def first_bytes(url: str, count: int) -> Beginning:
        head = bytes(510) + b"\x55\xaa" if url.endswith(".raw") else b"QFI\xfb".ljust(count, b"\0")
        return Beginning(head, 600 * MIB)

    monkeypatch.setattr("homelab.download.first_bytes", first_bytes)


def manager(pve: Storages, folder: Path, name: str = "noble.img") -> ImageManager:
    image = replace(CONFIG.image, name=name, url=f"https://images.example/{name}", sha256="ab" * 32)
    return ImageManager(cast(Proxmox, pve), image, folder, SteppingClock(), lambda _: None, threading.Semaphore(2))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The download to this machine lasts until the end of the test; the event says that it has begun."""
    begun, release = threading.Event(), threading.Event()

    def fetch(*_: Any, **__: Any) -> int:
        begun.set()
        release.wait(LONG_S)
        return 0

    monkeypatch.setattr("homelab.download.fetch", fetch)
    yield begun
    release.set()


def test_node_that_fetches_by_itself_does_not_wait_for_the_download_to_this_machine(
    held: threading.Event, tmp_path: Path
) -> None:
    pve = Storages()
    images = manager(pve, tmp_path)
    other = threading.Thread(target=images.ensure, args=(BY_SSH,), daemon=True)
    other.start()
    assert held.wait(LONG_S)
    itself = threading.Thread(target=images.ensure, args=(BY_API,), daemon=True)
    itself.start()
    itself.join(LONG_S / 2)
    assert pve.brought == ["by-api"]


def test_size_of_the_disk_in_the_image_is_told_where_it_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("homelab.download.fetch", lambda *_, **__: 0)
    images = manager(Storages(), tmp_path)
    assert (images.ensure(BY_API).disk_bytes, images.ensure(BY_SSH).disk_bytes) == (7, 0)


@pytest.mark.parametrize(("name", "stored"), [("x.raw", "x-abababababab.raw"), ("x.img", "x-abababababab.qcow2")])
def test_import_storage_is_told_the_kind_of_image_that_it_gets(name: str, stored: str, tmp_path: Path) -> None:
    assert manager(Storages(), tmp_path, name).ensure(BY_API).source == f"local:import/{stored}"


def test_over_ssh_there_is_no_other_way_than_the_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("homelab.download.fetch", lambda *_, **__: 0)
    with pytest.raises(Refused, match="no space left on the node"):
        manager(Storages(takes_uploads=False), tmp_path).ensure(BY_SSH)


def test_image_needs_room_only_where_it_is_not_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Storages(free_bytes=500 * MIB)

    with pytest.raises(NodeFailed, match=r"local has no room for the image: 600\.0 MiB are needed, 500"):
        checked_place(full, tmp_path)
    full.there = (VolumeRow("local:import/noble-abababababab.qcow2", "import", 600 * MIB, None),)
    checked_place(full, tmp_path)
    full.there = ()
    monkeypatch.setattr("homelab.download.first_bytes", _not_reached)
    checked_place(full, tmp_path)
    monkeypatch.setattr("homelab.download.first_bytes", _no_file)
    with pytest.raises(NodeFailed, match="the server answered 404 Not Found"):
        checked_place(full, tmp_path)


def checked_place(pve: Storages, folder: Path) -> None:
    images = manager(pve, folder)
    images.check_source()
    images.check_place(BY_API, pve.storages(BY_API.name))


def _not_reached(url: str, _count: int) -> Beginning:
    raise NotNow(f"download of {url}", "no connection", "run again")


def _no_file(url: str, _count: int) -> Beginning:
    raise NotFetched(f"download of {url}", "the server answered 404 Not Found", "correct ISO_URL")


def test_source_that_fails_stops_nobody_who_has_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homelab.download.first_bytes", _no_file)
    monkeypatch.setattr("homelab.image_manager.sums.published", _unpublished)
    kept = Plan((node_plan(Action.KEEP),), facts().k3s)

    assert manager(Storages(), tmp_path).size_bytes() == 0
    unlisted = ImageManager(cast(Proxmox, Storages()), CONFIG.image, tmp_path, SteppingClock(), lambda _: None)
    assert unlisted.note_age(kept, is_dry_run=True) == kept


def _unpublished(*_: object) -> None:
    raise NotFetched("download of SHA256SUMS", "the server answered 404 Not Found", "correct ISO_URL")
