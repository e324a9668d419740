"""Images of before: what is newer than what a VM was made from, which copies go, and how far a transfer is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from homelab import memory
from homelab.errors import Unreachable
from homelab.image_manager import freshness, leftovers
from homelab.image_manager.places import Place, checksum_in
from homelab.image_manager.progress import Progress
from homelab.image_manager.sums import Published
from homelab.models import KnownImage, VolumeRow
from homelab.proxmox.client import Proxmox
from support.clock import SteppingClock

DAY_S = 86_400
OLD = KnownImage("6a81c37564db", 1_790_446_992.0)
NOW = 1_790_446_992.0 + 12 * DAY_S


@pytest.mark.parametrize(
    ("made_from", "published", "said"),
    [
        (OLD, Published("6a81c37564db" + "0" * 52, NOW), ""),
        (OLD, Published("f" * 64, NOW), "image 12 days newer at ISO_URL"),
        (OLD, Published("f" * 64, NOW - 11 * DAY_S), "image 1 day newer at ISO_URL"),
        (OLD, Published("f" * 64, NOW - 14 * DAY_S), "image 2 days older at ISO_URL"),
        (OLD, Published("f" * 64), "another image at ISO_URL"),
        (KnownImage("6a81c37564db"), Published("f" * 64, NOW), "another image at ISO_URL"),
    ],
)
def test_what_is_published_now_is_compared_with_what_a_vm_was_made_from(
    made_from: KnownImage, published: Published, said: str
) -> None:
    assert freshness.news(made_from, published) == said


def test_notes_keep_the_image_beside_what_a_person_wrote_and_the_last_replacement() -> None:
    notes = memory.with_image(memory.with_line("rack 2", 1_760_000_000), OLD)
    assert (
        notes
        == "rack 2\n\nhomelab: replaced 2025-10-09T08:53:20Z\n\nhomelab: image 6a81c37564db of 2026-09-26T18:23:12Z"
    )
    newer = memory.with_image(notes, KnownImage("ab" * 32))
    assert newer.endswith("\n\nhomelab: image abababababab")
    assert newer.count("homelab: image") == 1
    assert memory.image_in(notes) == OLD
    assert memory.image_in(newer) == KnownImage("abababababab")
    assert memory.image_in("homelab: image of my dog") is None
    assert memory.without_line(memory.with_line(notes, 1_770_000_000)).startswith("rack 2\n\nhomelab: image 6a81")


PLACE = Place("local", "import", "noble-server-6a81c37564db.qcow2", is_shared=False)
AGED = "local:import/noble-server-0123456789ab.qcow2"


@pytest.mark.parametrize(
    ("volume", "checksum"),
    [
        (AGED, "0123456789ab"),
        (PLACE.volume, ""),
        ("local:import/noble-server-0123456789ab.raw", ""),
        ("local:import/noble-server.qcow2", ""),
        ("local:import/my-noble-server-0123456789ab.qcow2", ""),
        ("local:import/noble-server-0123456789ab-2.qcow2", ""),
        ("nas:import/noble-server-0123456789ab.qcow2", ""),
    ],
)
def test_an_image_of_before_has_the_same_name_with_another_checksum(volume: str, checksum: str) -> None:
    assert checksum_in(volume, PLACE) == checksum


@dataclass
class Node:
    """Proxmox as far as it is asked about old images."""

    sha256: str = "0123456789ab" + "0" * 52
    is_named: bool = False
    has_ssh: bool = True
    freed: list[str] = field(default_factory=list)

    def storage_content(self, *_: str, **__: Any) -> tuple[VolumeRow, ...]:
        return tuple(VolumeRow(volume, "import", 1, None) for volume in (PLACE.volume, AGED, "local:import/mine.qcow2"))

    def is_named_by_vms(self, _node: str, _volume: str) -> bool:
        if not self.has_ssh:
            raise Unreachable("SSH to node pve1", "refused")
        return self.is_named

    def image_path(self, _node: str, volume: str) -> str:
        return f"/{volume}"

    def file_sha256(self, _node: str, _path: str) -> str:
        return self.sha256

    def free_volume(self, _node: str, volume: str) -> None:
        self.freed.append(volume)


@pytest.mark.parametrize(
    ("node", "removed"),
    [
        (Node(), (AGED,)),
        (Node(is_named=True), ()),
        (Node(sha256="f" * 64), ()),
        (Node(has_ssh=False), ()),
    ],
    ids=["ours", "used", "not-what-it-says", "cannot-tell"],
)
def test_an_image_of_before_is_removed_when_it_is_ours_and_nobody_names_it(
    node: Node, removed: tuple[str, ...]
) -> None:
    assert leftovers.remove_older(cast(Proxmox, node), "pve1", PLACE) == removed
    assert tuple(node.freed) == removed


def test_a_long_transfer_tells_how_far_it_is_every_ten_seconds_and_a_short_one_nothing() -> None:
    said, clock = list[str](), SteppingClock()
    tell = Progress(said.append, clock).of("download of noble.img")
    tell(1 << 20, 600 << 20)
    assert said == []
    clock.sleep(10)
    tell(60 << 20, 600 << 20)
    tell(61 << 20, 600 << 20)
    clock.sleep(20)
    tell(100 << 20, 0)
    assert said == [
        "download of noble.img: 10 % of 600 MiB, 6.0 MiB/s",
        "download of noble.img: 100 MiB, 2.0 MiB/s",
    ]
