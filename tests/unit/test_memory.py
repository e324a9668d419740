"""What runs remember: one at a time, every write before it is sent, and what earlier runs did."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from homelab import memory
from homelab.errors import HomelabError, Interrupted, Locked
from homelab.memory import Cluster, Journal
from homelab.memory.journal import KEPT_S, REWRITTEN_AT_BYTES
from homelab.runtime import Interruption
from support.clock import START, SteppingClock


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def cluster(*nodes: str, at: Sequence[str] = ()) -> Cluster:
    return Cluster(frozenset(nodes), frozenset(at))


def made(root: Path, named: Cluster) -> Path:
    """The folder that a run uses which finds this cluster under these names."""
    found = memory.find_folder(root, replace(named, identity=""))
    folder = memory.folder_by_identity(root, found, named)
    memory.make_folder(folder)
    memory.note_cluster(folder, named)
    return folder


# --- the folder --------------------------------------------------------------------------------------------------


def test_folder_is_the_owners_and_stays_the_same(tmp_path: Path) -> None:
    folder = made(tmp_path / "state", cluster("pve2", "pve1"))

    assert folder.stat().st_mode & 0o777 == 0o700
    assert made(tmp_path / "state", cluster("pve1", "pve2")) == folder


@pytest.mark.parametrize("now", [("pve1", "pve2", "pve3"), ("pve1",)], ids=["one more", "one less"])
def test_folder_is_found_again_when_a_node_comes_or_goes(tmp_path: Path, now: tuple[str, ...]) -> None:
    folder = made(tmp_path, cluster("pve1", "pve2"))

    assert made(tmp_path, cluster(*now)) == folder
    assert made(tmp_path, cluster("pve2")) == folder


def test_folder_is_found_again_when_an_address_comes_or_goes(tmp_path: Path) -> None:
    folder = made(tmp_path, cluster("pve1", at=["192.0.2.1", "192.0.2.2"]))

    assert made(tmp_path, cluster("pve1", at=["192.0.2.2", "192.0.2.3"])) == folder
    assert made(tmp_path, cluster("pve1", at=["192.0.2.3"])) == folder


@pytest.mark.parametrize("at", [[], ["198.51.100.1"]], ids=["no address", "other addresses"])
def test_nodes_of_the_same_names_elsewhere_are_another_cluster(tmp_path: Path, at: list[str]) -> None:
    assert made(tmp_path, cluster("pve1", at=["192.0.2.1"])) != made(tmp_path, cluster("pve1", at=at))


def test_folder_of_exactly_these_nodes_goes_before_one_that_contains_them(tmp_path: Path) -> None:
    small, big = tmp_path / "small", tmp_path / "big"
    for folder, named in ((small, cluster("pve1")), (big, cluster("pve1", "pve2", "pve3"))):
        memory.make_folder(folder)
        memory.note_cluster(folder, named)

    assert memory.find_folder(tmp_path, cluster("pve1")) == small
    assert memory.find_folder(tmp_path, cluster("pve1", "pve2")) == big


HERE, THERE = "AA:BB", "CC:DD"


def shown(identity: str, *at: str) -> Cluster:
    return replace(cluster("pve1", "pve2", at=at), identity=identity)


def test_folder_is_found_again_by_what_the_cluster_shows_when_every_address_has_changed(tmp_path: Path) -> None:
    folder = made(tmp_path, shown(HERE, "192.0.2.1"))

    assert made(tmp_path, shown(HERE, "198.51.100.1")) == folder
    assert memory.is_certain(folder, cluster("pve1", "pve2", at=["198.51.100.1"]))
    assert not memory.is_certain(folder, cluster("pve1", "pve2", at=["203.0.113.1"]))
    assert made(tmp_path, shown("", "198.51.100.1")) == folder


@pytest.mark.parametrize("at", ["192.0.2.1", "198.51.100.1"], ids=["same-address", "other-address"])
def test_another_cluster_of_the_same_names_has_a_folder_of_its_own(tmp_path: Path, at: str) -> None:
    folder = made(tmp_path, shown(HERE, "192.0.2.1"))

    assert made(tmp_path, shown(THERE, at)) not in (folder, tmp_path)
    assert made(tmp_path, shown(THERE, at)) == made(tmp_path, shown(THERE, at))
    assert made(tmp_path, shown(HERE, "192.0.2.1")) == folder


def test_folder_of_an_earlier_version_is_known_by_its_names_until_the_cluster_has_shown_itself(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "cluster.json").write_text('{"nodes": ["pve1", "pve2"], "addresses": ["192.0.2.1"]}')

    assert not memory.is_certain(tmp_path / "old", shown("", "192.0.2.1"))
    assert made(tmp_path, shown(HERE, "192.0.2.1")) == tmp_path / "old"
    assert memory.is_certain(tmp_path / "old", shown("", "192.0.2.1"))


def test_cluster_that_cannot_be_noted_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HomelabError, match="the state directory cannot be used"):
        memory.note_cluster(tmp_path / "nowhere", cluster("pve1"))


@pytest.mark.parametrize("content", ["", "[]", "{}", "[", '{"nodes": 1, "addresses": []}', "\0"])
def test_folder_whose_nodes_cannot_be_read_is_nobodys(tmp_path: Path, content: str) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "cluster.json").write_text(content)

    assert memory.find_folder(tmp_path, cluster("pve1")).name != "odd"


def test_clusters_without_a_common_node_have_folders_of_their_own(tmp_path: Path) -> None:
    assert made(tmp_path, cluster("pve1", "pve2")) != made(tmp_path, cluster("pve2", "pve3"))


def test_folder_that_cannot_be_made_is_an_error_with_the_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(HomelabError, match="the state directory cannot be used") as caught:
        made(tmp_path / "file", cluster("pve1"))
    assert "XDG_STATE_HOME" in caught.value.cure


def test_directory_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(HomelabError, match=r"the state directory cannot be used: .*Permission denied"):
        memory.find_folder(tmp_path, cluster("pve1"))


def test_looking_for_the_folder_makes_none(tmp_path: Path) -> None:
    assert not memory.find_folder(tmp_path / "state", cluster("pve1")).parent.exists()


def test_owner_stays_the_same_and_another_machines_is_another(tmp_path: Path) -> None:
    here, elsewhere = made(tmp_path / "here", cluster("pve1")), made(tmp_path / "elsewhere", cluster("pve1"))

    assert memory.owner(here) == memory.owner(made(tmp_path / "here", cluster("pve1"))) != memory.owner(elsewhere)


def test_owner_that_a_killed_run_left_empty_is_named_anew(tmp_path: Path) -> None:
    folder = made(tmp_path, cluster("pve1"))
    (folder / "owner").write_text("")

    assert memory.owner(made(tmp_path, cluster("pve1"))) != ""


# --- the lock ----------------------------------------------------------------------------------------------------


def test_second_run_learns_who_holds_the_lock(tmp_path: Path) -> None:
    with memory.held(tmp_path, START):
        with pytest.raises(Locked) as caught, memory.held(tmp_path, START):
            pytest.fail("held twice")
        assert f"process {os.getpid()} on " in caught.value.why
        assert "since 2025-10-09 08:53:20 UTC" in caught.value.why
    with memory.held(tmp_path, START):
        assert (tmp_path / "holder.json").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "holder.json").exists()


@pytest.mark.parametrize("known", ["", "{}", "[]", '{"since": "x", "command": "c", "pid": 1, "host": "h"}'])
def test_holder_of_whom_nothing_is_known_still_holds(tmp_path: Path, known: str) -> None:
    with memory.held(tmp_path, START):
        (tmp_path / "holder.json").write_text(known)
        with pytest.raises(Locked, match=r"it holds .*lock"), memory.held(tmp_path, START):
            pytest.fail("held twice")


def test_lock_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()

    with pytest.raises(HomelabError, match="the state directory cannot be used"), memory.held(tmp_path, START):
        pytest.fail("held")


# --- the journal -------------------------------------------------------------------------------------------------


def test_write_that_was_begun_is_found_by_the_next_run_until_it_has_ended(path: Path, clock: SteppingClock) -> None:
    first = Journal(path, clock)
    first.begin("POST /nodes/pve1/qemu", "pve1", 107).ended()
    first.begin("DELETE /nodes/pve1/qemu/100", "pve1", 100).sent("UPID:x")

    second = Journal(path, clock)
    (left,) = second.unfinished()
    assert (left.node, left.vmid, left.what, left.upid) == ("pve1", 100, "DELETE /nodes/pve1/qemu/100", "UPID:x")
    second.end(left, "looked after")
    assert second.begin("more", "pve1") is not None
    assert [intent.what for intent in Journal(path, clock).unfinished()] == ["more"]


def test_file_is_readable_by_its_owner_only(path: Path, clock: SteppingClock) -> None:
    Journal(path, clock).begin("x", "pve1")

    assert path.stat().st_mode & 0o777 == 0o600


def test_line_cut_short_by_a_kill_is_lost_alone(path: Path, clock: SteppingClock) -> None:
    Journal(path, clock).begin("first", "pve1")
    with path.open("a") as file:
        file.write('\n{"at": 1, "event": "inten')
    Journal(path, clock).begin("second", "pve1")

    assert [intent.what for intent in Journal(path, clock).unfinished()] == ["first", "second"]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"event": "intended"}',
        '{"at": 1, "event": "intended", "number": 1}',
        '{"at": 1, "event": "sent", "number": 1}',
        '{"at": 1, "event": "ended"}',
        '{"at": 1, "event": "of a later version", "number": "x"}',
        "\x00",
    ],
)
def test_line_that_says_too_little_is_left_out(path: Path, clock: SteppingClock, line: str) -> None:
    path.write_text(line)

    assert Journal(path, clock).unfinished() == ()


def test_reading_journal_writes_nothing(path: Path, clock: SteppingClock) -> None:
    Journal(path, clock, is_read_only=True).begin("x", "pve1").ended()

    assert not path.exists()


def test_long_journal_keeps_what_is_young_or_open(path: Path, clock: SteppingClock) -> None:
    old = Journal(path, clock)
    old.begin("open", "pve1")
    old.begin("w" * REWRITTEN_AT_BYTES, "pve1").ended()
    clock.sleep(KEPT_S + 1)
    old.note("replaced", vm="k3s-vm-pve1")

    new = Journal(path, clock)
    assert path.stat().st_size < 1000
    assert [intent.what for intent in new.unfinished()] == ["open"]
    assert new.latest(("replaced",), vm="k3s-vm-pve1") is not None
    assert Journal(path, clock).unfinished() == new.unfinished()


@pytest.mark.parametrize("is_long", [False, True], ids=["appended to", "rewritten"])
def test_journal_that_cannot_be_written_stops_the_write(tmp_path: Path, clock: SteppingClock, is_long: bool) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, clock).begin("w" * (REWRITTEN_AT_BYTES if is_long else 1), "pve1")
    (tmp_path / "journal.new").mkdir()
    journal = None if is_long else Journal(path, clock)
    path.unlink() if not is_long else None
    path.mkdir() if not is_long else None

    with pytest.raises(HomelabError, match="the journal of the runs cannot be used"):
        journal.begin("x", "pve1") if journal else Journal(path, clock)


def test_write_that_is_noted_in_part_only_is_not_sent(
    path: Path, clock: SteppingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(path, clock)
    written = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: written(descriptor, data[:10]))

    with pytest.raises(HomelabError, match="No space left on device"):
        journal.begin("x", "pve1")


def test_journal_that_cannot_be_read_is_an_error(tmp_path: Path, clock: SteppingClock) -> None:
    (tmp_path / "journal.jsonl").mkdir()

    with pytest.raises(HomelabError, match="the journal of the runs cannot be used"):
        Journal(tmp_path / "journal.jsonl", clock)


def test_nothing_is_begun_once_the_run_is_to_end(path: Path, clock: SteppingClock) -> None:
    journal = Journal(path, clock)
    begun = journal.begin("first", "pve1")
    end(journal.interruption)

    with pytest.raises(Interrupted):
        journal.begin("second", "pve1")
    begun.ended()
    assert Journal(path, clock).unfinished() == ()


def end(interruption: Interruption) -> None:
    class Impatient(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if not self.is_set():
                self.set()
                raise KeyboardInterrupt
            return super().wait(timeout)

    interruption.wait_for([Impatient()], lambda: None)
