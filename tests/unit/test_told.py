"""What a person has been told of: once, then daily, forgotten when it is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homelab import memory
from homelab.memory import Journal
from homelab.models import DAY_S, Matter
from support.clock import SteppingClock

FULL = Matter("pve2", "storage tank is full: 1.5 GiB is free")
LOST = Matter("pve3", "no answer")
PARKED = Matter("pve1", "VM is left as it is: parked", is_trouble=False)
ALL = ("", "pve1", "pve2", "pve3")


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
def journal(tmp_path: Path, clock: SteppingClock) -> Journal:
    return Journal(tmp_path / "journal.jsonl", clock)


def told(journal: Journal, *matters: Matter, looked_at: tuple[str, ...] = ALL) -> tuple[Matter, ...]:
    return memory.news(journal, matters, looked_at, is_told=True)


def test_a_trouble_is_new_once_and_again_the_next_day(journal: Journal, clock: SteppingClock) -> None:
    assert told(journal, FULL) == (FULL,)
    assert told(journal, FULL) == ()
    clock.advance(DAY_S / 2)
    assert told(journal, FULL) == ()
    clock.advance(DAY_S / 2)
    assert told(journal, FULL) == (FULL,)
    assert told(journal, FULL) == ()


def test_a_daily_run_that_begins_a_little_earlier_than_yesterday_says_it_all_the_same(
    journal: Journal, clock: SteppingClock
) -> None:
    told(journal, FULL)
    clock.advance(DAY_S - 60)

    assert told(journal, FULL) == (FULL,)


def test_what_is_no_trouble_is_said_once_for_ever(journal: Journal, clock: SteppingClock) -> None:
    assert told(journal, PARKED) == (PARKED,)
    clock.advance(10 * DAY_S)
    assert told(journal, PARKED) == ()


def test_another_reason_is_new_and_another_number_is_not(journal: Journal) -> None:
    told(journal, FULL)

    assert told(journal, Matter("pve2", "storage tank is full: 0.9 GiB is free")) == ()
    assert told(journal, Matter("pve2", "storage tank is gone")) != ()


def test_the_same_text_about_another_node_is_new(journal: Journal) -> None:
    told(journal, LOST)

    assert told(journal, LOST, Matter("pve2", LOST.text)) == (Matter("pve2", LOST.text),)


def test_what_is_over_is_forgotten_and_new_when_it_comes_back(journal: Journal) -> None:
    told(journal, FULL, LOST)

    assert told(journal, LOST) == ()
    assert told(journal, FULL, LOST) == (FULL,)


def test_what_was_not_looked_at_is_not_over(journal: Journal) -> None:
    told(journal, FULL, LOST)
    told(journal, looked_at=("", "pve2"))

    assert told(journal, FULL, LOST) == (FULL,)


def test_by_hand_nothing_counts_as_told_but_what_is_over_is_forgotten(journal: Journal) -> None:
    told(journal, LOST)

    assert memory.news(journal, (FULL,), ALL, is_told=False) == (FULL,)
    assert told(journal, FULL, LOST) == (FULL, LOST)


def test_nothing_is_noted_while_nothing_changes(journal: Journal, tmp_path: Path) -> None:
    told(journal)
    assert not (tmp_path / "journal.jsonl").exists()

    told(journal, FULL)
    before = (tmp_path / "journal.jsonl").read_bytes()
    told(journal, FULL)
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_it_is_known_to_the_next_run(journal: Journal, tmp_path: Path, clock: SteppingClock) -> None:
    told(journal, FULL)

    assert told(Journal(tmp_path / "journal.jsonl", clock), FULL) == ()


@pytest.mark.parametrize("standing", [None, [], {"pve2": "x"}, {"pve2": {"a": "b"}}], ids=repr)
def test_a_note_that_is_not_understood_counts_as_not_told(journal: Journal, standing: Any) -> None:
    journal.note("told", standing=standing)

    assert told(journal, FULL) == (FULL,)
