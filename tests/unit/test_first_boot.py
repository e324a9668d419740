"""What cloud-init says of a first boot, told in one line."""

from __future__ import annotations

import json

import pytest

from homelab.k3s_manager import first_boot

DEGRADED = {
    "status": "done",
    "errors": [],
    "recoverable_errors": {"WARNING": ["Invalid cloud-config:\n nonsense"], "DEPRECATED": ["chpasswd", "chpasswd"]},
}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (DEGRADED, "Invalid cloud-config: nonsense; chpasswd"),
        ({"errors": ["scripts_user failed"], "recoverable_errors": {"WARNING": ["late"]}}, "scripts_user failed; late"),
        ({"status": "done"}, ""),
        ({"errors": None, "recoverable_errors": ["odd"]}, ""),
        (["no object"], ""),
        ({"errors": ["x" * 400]}, "x" * 300 + " ..."),
    ],
)
def test_troubles_are_told_without_the_document_around_them(said: object, told: str) -> None:
    assert first_boot.troubles(json.dumps(said, indent=2)) == told


@pytest.mark.parametrize(
    ("text", "state", "progress"),
    [
        (
            '{"status": "running", "detail": "Running in stage: modules-final"}',
            "running",
            "running (Running in stage: modules-final)",
        ),
        ("status: running\ntime: late\n", "running", "status: running time: late"),
        ("bash: no such command", "", "bash: no such command"),
        ("", "", ""),
    ],
)
def test_state_and_stage_are_read_from_json_and_from_plain_words(text: str, state: str, progress: str) -> None:
    assert (first_boot.state(text), first_boot.progress(text)) == (state, progress)
