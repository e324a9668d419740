"""The RUNBOOK's table of k3s's recurring troubles says of each what the code says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from docs.messages import messages
from docs.test_runbook import ERROR_SECTIONS, RUNBOOK
from homelab.k3s_manager.diagnosis import TROUBLES, diagnose

TITLE = "### Issue: the 26 recurring troubles of k3s"
ROW = re.compile(r"\| (\d+) \| (.+?) \| (.+?) \| (.+) \|")
NOTHING = "(nothing)"


@dataclass(frozen=True, slots=True)
class Row:
    """One trouble: how it shows, what the tool says (a heading, perhaps without its end), what it does."""

    number: int
    trouble: str
    said: str
    done: str

    @property
    def log(self) -> list[str]:
        """The words of k3s's log."""
        return re.findall(r"`([^`]+)`", self.trouble)


def rows() -> list[Row]:
    text = RUNBOOK[RUNBOOK.index(TITLE) :].split("\n### ")[0]
    return [Row(int(found[1]), found[2], found[3].strip("`"), found[4]) for found in ROW.finditer(text)]


ROWS = rows()
TOLD = [row for row in ROWS if row.said != NOTHING]
LOGGED = [row for row in TOLD if " does not join: " in row.said]


def test_all_of_them_stand_there_in_order() -> None:
    assert [row.number for row in ROWS] == list(range(1, 27))
    assert all(row.done for row in ROWS)


def test_only_what_is_no_error_of_a_join_is_not_told() -> None:
    assert [row.number for row in ROWS if row.said == NOTHING] == [17]


@pytest.mark.parametrize("row", TOLD, ids=lambda row: str(row.number))
def test_what_the_tool_says_has_a_heading_and_comes_from_the_code(row: Row) -> None:
    sections = [one for one in ERROR_SECTIONS if re.match(rf"{re.escape(row.said)}(?:$|: | \()", one.heading)]

    assert len(sections) == 1
    assert any(message.is_told_in(sections[0].heading, sections[0].text) for message in messages())


@pytest.mark.parametrize("row", LOGGED, ids=lambda row: str(row.number))
def test_words_of_the_log_are_known_as_that_trouble(row: Row) -> None:
    assert row.log
    for words in row.log:
        problem = diagnose("k3s-vm-pve1", f'level=fatal msg="Error: {words}"')
        if problem is not None:
            assert f"{problem.what}: {problem.why}" == row.said
    assert diagnose("k3s-vm-pve1", row.log[0]) is not None


def test_each_cause_that_is_told_of_a_log_is_in_the_table_or_is_the_machine_s_own() -> None:
    told = {row.said.partition(" does not join: ")[2] for row in LOGGED}
    own = {trouble.cause for trouble in TROUBLES} - told

    assert own == {
        "k3s crashes at every start",
        "its disk is full",
        "its kernel runs without the memory cgroup",
        "containerd ends whenever k3s starts it",
        "it was a member of etcd, and was taken out",
        "its k3s is too old for the servers, so that it gets no network",
        "etcd takes no new server while one of its members is down",
        "the VM and etcd on the other servers do not reach one another",
        "the server it asked has no working datastore: etcd has lost its quorum, or that server is just starting",
        "the VM cannot look up the server's name",
    }
