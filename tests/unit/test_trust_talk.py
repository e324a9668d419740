"""trust: what is stored without a question, which without a terminal is nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from homelab.commands.trust import Talk
from homelab.memory import TrustStore
from homelab.report import Report
from homelab.shell import Shells
from homelab.trusting import Questions
from homelab.trusting.machines import Met, Place
from homelab.trusting.shown import Shown, Standing
from support.clock import SteppingClock
from unit.builders import CONFIG

ONE, OTHER = "AA:" * 31 + "01", "AA:" * 31 + "02"


class Here:
    """A person who may be there, and says no to whatever is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, is_there: bool) -> None:
        self.asked: list[str] = []
        monkeypatch.setattr(Questions, "can_be_asked", is_there)
        monkeypatch.setattr(Questions, "agreed", lambda _, lines, __: self._refused(lines))

    def _refused(self, lines: Sequence[str]) -> bool:
        self.asked += lines
        return False


def met(store: TrustStore, host: str, standing: Standing) -> Met:
    """A machine whose API shows the certificate of the first one."""
    shown = Shown(
        f"API {host}:8006", ONE, ONE, standing, "known", (host,), lambda: store.keep_certificate(host, 8006, ONE)
    )
    return Met(Place(host, 8006, 22), (shown,))


def stored(folder: Path, second: Standing) -> str | None:
    """What is trusted of the second machine, once the first was seen, which is trusted."""
    store = TrustStore(folder)
    store.keep_certificate("pve2", 8006, OTHER)
    with Shells(user="root", key_path=None, known_hosts=None, home=folder) as shells:
        talk = Talk(CONFIG, Report(), SteppingClock(), shells, store)
        talk.settle(met(store, "pve1", Standing.TRUSTED))
        talk.settle(met(store, "pve2", second))
    return store.certificate("pve2", 8006)


def test_the_same_machine_at_another_address_needs_no_further_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Here(monkeypatch, is_there=True)

    assert stored(tmp_path, Standing.NEW) == ONE
    assert person.asked == []


def test_another_machine_than_before_is_asked_about_though_it_is_known_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Here(monkeypatch, is_there=True)

    assert stored(tmp_path, Standing.CHANGED) == OTHER
    assert person.asked == ["pve2"]


@pytest.mark.parametrize("second", [Standing.NEW, Standing.CHANGED])
def test_without_a_terminal_nothing_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: Standing
) -> None:
    person = Here(monkeypatch, is_there=False)

    assert stored(tmp_path, second) == OTHER
    assert person.asked == []


def test_machine_of_which_a_change_was_declined_is_not_proposed_to_vouch_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Here(monkeypatch, is_there=True)
    store = TrustStore(tmp_path)
    key = Shown("SSH", "SHA256:k", "k", Standing.TRUSTED, "known_hosts", (), lambda: None, lambda _: key)
    changed, new = met(store, "pve1", Standing.CHANGED), met(store, "pve2", Standing.NEW)
    first = replace(changed, shown=(*changed.shown, key))
    with Shells(user="root", key_path=None, known_hosts=None, home=tmp_path) as shells:
        talk = Talk(CONFIG, Report(), SteppingClock(), shells, store)
        talk.settle(first)
        talk.let_vouch(first, [new])
    assert person.asked == ["pve1"]
