"""The recorded cases, as they lie in the folder that PVELAB_RECORDINGS names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_FOLDER = Path(__file__).parents[1] / "recordings"
NOT_YET = Path(__file__).parents[1] / "lab" / "not_yet.txt"
BASE_UPID_TOKEN = "<UPID:"


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded question and what came of it."""

    id: str
    via: str
    who: str
    given: list[dict[str, Any]]
    request: Mapping[str, Any]
    response: Mapping[str, Any]
    task: Mapping[str, Any] | None
    after: Mapping[str, Any]
    is_shortened: bool


def all_cases() -> list[Case]:
    """Every case of every file, in order."""
    folder = Path(os.environ.get("PVELAB_RECORDINGS", DEFAULT_FOLDER))
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [_case(json.loads(line)) for line in lines]


def not_yet() -> dict[str, str]:
    """Cases that the lab does not reproduce yet, with the reason."""
    lines = [line for line in NOT_YET.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split(maxsplit=1) for line in lines)


def _case(record: Mapping[str, Any]) -> Case:
    return Case(
        id=record["id"],
        via=record["via"],
        who=record["as"],
        given=record["given"],
        request=record["request"],
        response=record["response"],
        task=record.get("task"),
        after=record.get("after", {}),
        is_shortened="shortened" in record.get("note", ""),
    )
