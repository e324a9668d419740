"""Does the lab answer as Proxmox VE 9.2 did? One test per recorded case."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from replay.cases import Case, all_cases, not_yet
from replay.player import play
from replay.stage import Stage

NOT_YET = not_yet()
CASES = all_cases()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"))
    yield stage
    stage.close()


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_recorded_case(case: Case, stage: Stage) -> None:
    found = play(stage, case)
    if case.id in NOT_YET:
        assert found, f"{case.id} passes: remove it from the list"
    else:
        assert not found, "\n".join(found)


def test_list_of_missing_cases_names_only_cases() -> None:
    assert set(NOT_YET) <= {case.id for case in CASES} or CASES == []
