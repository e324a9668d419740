"""`scripts/demo`: what it offers, how it runs commands, and that it does not call a broken promise kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import stage as staging
import tell
from pvelab.lab import Lab
from stage import PROJECT, PromiseBroken, Stage, run_as_process
from stories import STORIES, Story

OFFERED = (
    "fresh healthy stuck paused unknown new-node tls join-fails no-join doctor bridge-missing node-down "
    "node-join-fails power-cut delete old-env bad-env"
)


@pytest.fixture
def stage(lab: Lab, tmp_path: Path) -> Stage:
    """A stage whose commands find the package also where it is not installed."""
    variables = {"PYTHONPATH": str(PROJECT / "src")}
    return Stage(lab=lab, folder=tmp_path, via=None, run=run_as_process, show=print, variables=variables)


def test_list_names_every_story_with_its_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == OFFERED.split()
    assert all(line.endswith(".") for line in lines)


def test_unknown_story_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as usage:
        tell.main(["no-such-story"])
    assert usage.value.code == 2
    assert "fresh" in capsys.readouterr().err


def test_story_shows_each_command_and_its_exit_code(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    stage.begin("healthy")
    STORIES["healthy"].tell(stage)
    shown = capfd.readouterr().out.splitlines()
    assert any(line.startswith("$ ") and line.endswith(f"-m homelab.main --env {stage.env_path}") for line in shown)
    assert "exit code 0" in shown
    assert "# ok: nothing was written" in shown


def test_story_that_ends_otherwise_than_promised_ends_the_demo_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(stage: Stage) -> None:
        """A VM makes itself."""
        stage.promise(not stage.vms(), "there is no VM yet")
        stage.promise(bool(stage.vms()), "a VM came by itself")

    monkeypatch.setitem(STORIES, "fresh", Story("fresh", breaks, "fresh"))
    assert tell.main([]) == 1
    shown = capsys.readouterr().out
    assert "# ok: there is no VM yet" in shown
    assert "fresh did not end as promised: a VM came by itself" in shown


def test_other_exit_code_than_promised_breaks_the_story(stage: Stage) -> None:
    stage.env_path = Path("/nowhere/.env")
    with pytest.raises(PromiseBroken, match="the exit code is 0"):
        stage.homelab()


def test_missing_phrase_breaks_the_story(stage: Stage) -> None:
    stage.env_path = Path("/nowhere/.env")
    with pytest.raises(PromiseBroken, match="it says `all is well`"):
        stage.homelab(exit_code=2, says=["all is well"])


def test_command_sees_nothing_of_the_callers_settings(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_TOKEN", "the caller's")
    ended = run_as_process(["sh", "-c", 'echo "$HOME$API_TOKEN"; echo trouble >&2; exit 3'], {"HOME": "/lab"})
    assert (ended.exit_code, ended.stdout, ended.stderr) == (3, "/lab\n", "trouble\n")
    assert capfd.readouterr() == ("/lab\n", "trouble\n")


def test_command_that_does_not_end_breaks_the_story(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "COMMAND_TIMEOUT_S", 0.1)
    with pytest.raises(PromiseBroken, match="has not ended"):
        run_as_process([sys.executable, "-c", "import time; time.sleep(60)"], {})
