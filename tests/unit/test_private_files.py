"""What is written is its owner's alone, from its first moment on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab import private_files


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """The most careless umask there is."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_every_folder_that_is_made_is_private_and_one_that_was_there_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    private_files.make_folder(tmp_path / "state" / "homelab" / "abc")
    private_files.make_folder(tmp_path / "state" / "homelab" / "abc")

    made = [tmp_path / name for name in ("state", "state/homelab", "state/homelab/abc")]
    assert [mode(folder) for folder in made] == [0o700] * 3
    assert mode(tmp_path) == 0o755


def test_file_is_replaced_by_a_private_one_also_where_an_open_one_was_left_half_written(tmp_path: Path) -> None:
    (tmp_path / "k3s.json").write_text("old")
    (tmp_path / "k3s.new").write_text("half of a longer te")

    private_files.replace(tmp_path / "k3s.json", "new")

    assert (tmp_path / "k3s.json").read_text() == "new"
    assert mode(tmp_path / "k3s.json") == 0o600
    assert not (tmp_path / "k3s.new").exists()
