"""Does the lab answer as Proxmox VE 9.2 did? One test per recorded case."""

from __future__ import annotations

import pytest

from replay.cases import Case, all_cases, not_yet
from replay.player import play
from replay.stage import Stage

NOT_YET = not_yet()
CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_recorded_case(case: Case, one_stage: Stage) -> None:
    found = play(one_stage, case)
    if case.id in NOT_YET:
        assert found, f"{case.id} passes: remove it from the list"
    else:
        assert not found, "\n".join(found)


def test_list_of_missing_cases_names_only_cases() -> None:
    assert set(NOT_YET) <= {case.id for case in CASES} or CASES == []
