"""Host keys of VMs are remembered by the machine, not by its address or name."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab.errors import HomelabError
from homelab.memory import GuestKeys, guest_keys


def test_latest_key_of_each_machine_is_known_to_the_next_run(tmp_path: Path) -> None:
    GuestKeys(tmp_path).keep("u-1", "ssh-ed25519 AAAA")
    GuestKeys(tmp_path).keep("u-2", "ssh-ed25519 BBBB")
    GuestKeys(tmp_path).keep("u-1", "ssh-ed25519 CCCC")

    keys = GuestKeys(tmp_path)
    assert [keys.recall(uuid) for uuid in ("u-1", "u-2", "u-3", "")] == ["ssh-ed25519 CCCC", "ssh-ed25519 BBBB", "", ""]


def test_key_that_is_known_already_and_that_of_a_machine_without_uuid_are_not_written(tmp_path: Path) -> None:
    keys = GuestKeys(tmp_path)
    keys.keep("u-1", "ssh-ed25519 AAAA")
    before = (tmp_path / guest_keys.FILE).stat().st_ino

    keys.keep("u-1", "ssh-ed25519 AAAA")
    keys.keep("", "ssh-ed25519 AAAA")

    assert (tmp_path / guest_keys.FILE).stat().st_ino == before


def test_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_keys, "MOST_KEPT", 2)
    keys = GuestKeys(tmp_path)
    for uuid in ("u-1", "u-2", "u-3"):
        keys.keep(uuid, "key")
    assert [keys.recall(uuid) for uuid in ("u-1", "u-2", "u-3")] == ["", "key", "key"]


@pytest.mark.parametrize("content", ["", "[1]", '{"u-1": '])
def test_file_that_is_no_memory_counts_as_none_and_is_written_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / guest_keys.FILE).write_text(content)
    keys = GuestKeys(tmp_path)
    assert keys.recall("u-1") == ""
    keys.keep("u-1", "key")
    assert keys.recall("u-1") == "key"


def test_memory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(HomelabError, match="the state directory cannot be used"):
        GuestKeys(tmp_path / "nowhere").keep("u-1", "key")
