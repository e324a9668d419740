"""Twenty broken files: every problem is found at once, each names its key, and nothing secret is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab.config import load
from homelab.errors import ConfigError
from homelab.settings import Via

FOLDER = Path(__file__).parents[1] / "e2e" / "bad_env"
FILES = sorted(FOLDER.glob("*.env"))


def test_there_are_twenty_files() -> None:
    assert [int(path.name[:2]) for path in FILES] == list(range(1, 21))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_broken_file_gives_its_list_of_problems(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError) as error:
        load(path, Via.AUTO, {})
    problems = error.value.problems
    assert [problem.what.replace(str(path), path.name) for problem in problems] == (
        path.with_suffix(".problems").read_text().splitlines()
    )
    assert all(problem.why and problem.cure for problem in problems)
    assert "canary" not in repr(problems)
