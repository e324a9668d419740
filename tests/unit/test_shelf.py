"""Files kept from run to run: whole, or not there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab.download import NotFetched
from homelab.shelf import Shelf

SHA256 = hashlib.sha256(b"abcdef").hexdigest()


def shelf(folder: Path) -> Shelf:
    return Shelf(folder, lambda *_: None)


def pieces() -> Iterator[bytes]:
    yield b"abc"
    yield b"def"


def test_pieces_become_a_file_that_is_its_owner_s_and_are_not_asked_for_again(tmp_path: Path) -> None:
    kept = shelf(tmp_path / "cache")

    with kept.put_together(pieces(), "x", SHA256) as file:
        assert file.read() == b"abcdef"

    path = tmp_path / "cache" / "x"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["x"]
    with kept.put_together(iter(()), "x", SHA256) as file:
        assert file.read() == b"abcdef"


def test_pieces_that_do_not_fit_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFetched, match=f"what came does not have the sha256 {SHA256}"):
        shelf(tmp_path).put_together(iter([b"abc"]), "x", SHA256)

    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")

    with pytest.raises(NotFetched, match=f"file {tmp_path}/cache/x: "):
        shelf(tmp_path / "cache").put_together(pieces(), "x", SHA256)


def test_text_is_kept_as_far_as_that_can_be_done(tmp_path: Path) -> None:
    kept = shelf(tmp_path / "cache")
    assert kept.text("x") == ""

    kept.keep_text("x", "words")

    assert kept.text("x") == "words"
    (tmp_path / "cache" / "y").write_bytes(b"\xff")
    assert kept.text("y") == ""
    shelf(tmp_path / "cache" / "x").keep_text("z", "words")
    assert sorted(one.name for one in (tmp_path / "cache").iterdir()) == ["x", "y"]
