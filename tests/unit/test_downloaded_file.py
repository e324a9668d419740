"""A file of an earlier run is used only when it is the whole file that is wanted."""

from __future__ import annotations

import hashlib
from pathlib import Path

from homelab.download import is_whole

WANTED = hashlib.sha256(b"image").hexdigest()


def test_the_whole_file_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"image")

    assert is_whole(tmp_path / "image", WANTED.upper())


def test_a_truncated_file_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"ima")

    assert not is_whole(tmp_path / "image", WANTED)


def test_a_file_that_is_missing_or_cannot_be_read_is_not_used(tmp_path: Path) -> None:
    assert not is_whole(tmp_path / "image", WANTED)
    assert not is_whole(tmp_path, WANTED)
