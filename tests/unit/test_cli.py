"""The command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab.cli import Options, parse_arguments
from homelab.settings import Asked, Via


def test_no_arguments_mean_a_real_run_over_whatever_wire_works() -> None:
    assert parse_arguments([]) == Options(
        None, Via.AUTO, is_dry_run=False, is_json=False, is_verbose=False, is_quiet=False
    )


def test_all_arguments_are_taken() -> None:
    options = parse_arguments(["--env", "lab.env", "--via", "ssh", "--dry-run", "--json", "--verbose"])
    assert options == Options(Path("lab.env"), Via.SSH, is_dry_run=True, is_json=True, is_verbose=True, is_quiet=False)
    assert parse_arguments(["--quiet"]).is_quiet
    assert parse_arguments(["--cron"]).asked == Asked(is_unattended=True)
    assert parse_arguments(["-v"]).is_verbose


def test_names_may_be_given_more_than_once() -> None:
    words = ["--node", "pve1", "--node", "pve2", "--replace", "pve1", "--force-replace", "k3s-vm-pve2"]
    words += ["--allow-data-loss", "pve1"]

    asked = Asked(("pve1", "pve2"), ("pve1",), ("k3s-vm-pve2",), data_loss=("pve1",))
    assert parse_arguments(words).asked == asked


def test_arguments_of_the_process_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["homelab", "--via", "api"])
    assert parse_arguments().via is Via.API


def test_command_stands_before_or_behind_the_options() -> None:
    before = parse_arguments(["doctor", "--env", "lab.env", "--json", "--node", "pve1"])

    assert before == parse_arguments(["--env", "lab.env", "--json", "--node", "pve1", "doctor"])
    assert before == parse_arguments(["--env", "lab.env", "doctor", "--json", "--node", "pve1"])
    assert (before.command, before.asked.nodes) == ("doctor", ("pve1",))


@pytest.mark.parametrize(
    "option", [["--dry-run"], ["--cron"], ["--replace", "a"], ["--force-replace", "a"], ["--allow-data-loss", "a"]]
)
def test_option_of_a_run_makes_no_sense_with_a_command(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_arguments(["doctor", *option])

    assert end.value.code == 2
    assert f"{option[0]} is for a run: it makes no sense with the command doctor" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--via", "telnet"], ["--dry"], ["pve"], ["doctor", "doctor"], ["--env"], ["--node"]),
        *(["-v", "--quiet"], ["-v", "--cron"], ["--cron", "--replace", "pve1"], ["--cron", "--force-replace", "pve1"]),
        ["--cron", "--allow-data-loss", "pve1"],
    ],
)
def test_wrong_usage_ends_in_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_arguments(arguments)
    assert end.value.code == 2
    assert "usage: python -m homelab.main" in capsys.readouterr().err


def test_help_names_every_option_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_arguments(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    names = ("--env", "--via", "--dry-run", "--json", "--verbose", "--quiet", "--cron", "--node", "--force-replace")
    assert all(option in text for option in (*names, "--allow-data-loss"))
    assert [line.split()[0] for line in text.split("exit codes:\n")[1].split("\n\n")[0].splitlines()] == [
        "0",
        "1",
        "2",
        "3",
        "4",
        "130",
    ]
