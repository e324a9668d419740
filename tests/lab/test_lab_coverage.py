"""What `python -m pvelab.coverage` prints is what the lab has, and what was recorded of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pvelab import coverage
from pvelab.routes import ROUTES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings: one to an endpoint, with a look afterwards, and one to a command that is an alias."""
    config = {
        "id": "set",
        "request": {"method": "PUT", "path": "/nodes/a/qemu/100/config"},
        "after": {"pending:100": []},
    }
    move = {"id": "import", "request": {"argv": ["qm", "importdisk", "100", "/x", "local"]}}
    ask = {"id": "ask", "request": {"argv": ["pvesh", "get", "/version"]}}
    stray = {"id": "stray", "request": {"method": "GET", "path": "/nodes/a/nothing"}}
    (tmp_path / "one.jsonl").write_text("".join(f"{json.dumps(case)}\n" for case in (config, move, ask, stray)))
    return tmp_path


def sections(text: str) -> dict[str, str]:
    """The recordings that stand under each name."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("        "):
            found[name] += line.strip()
        else:
            name = line.strip().rpartition("  (")[0]
            found[name] = ""
    return found


def test_each_recording_stands_under_what_it_asks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert coverage.main([str(folder)]) == 0
    text = capsys.readouterr().out
    found = sections(text)
    assert found["PUT /nodes/{node}/qemu/{vmid}/config"] == "set"
    assert found["GET /nodes/{node}/qemu/{vmid}/pending"] == "set"
    assert found["qm disk import"] == "import"
    assert found["pvesh get"] == found["GET /version"] == "ask"
    assert found["GET /nodes"] == ""
    assert "of them proved by recordings: 3" in text
    assert "To nothing that is there: 1 of 4 recordings\n        stray" in text


def test_every_route_and_every_command_that_is_answered_is_listed(folder: Path) -> None:
    names = coverage.known()
    assert {f"{method} {path}" for method, path in ROUTES} <= names
    assert {"qm create", "qm guest exec", "pvesm free", "pvesh set"} <= names
    assert names.isdisjoint({"qm showcmd", "qm remote-migrate", "pvesm export"})
    assert "qm create" in "\n".join(coverage.report(coverage.read(folder)))


def test_every_endpoint_of_the_default_recordings_is_found() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pvelab.coverage"], capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == 0
    assert "qemu.create.start" in sections(ended.stdout)["POST /nodes/{node}/qemu"]


def test_a_folder_without_recordings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        coverage.main([str(tmp_path)])
    assert ended.value.code == 2
    assert "no *.jsonl in" in capsys.readouterr().err
