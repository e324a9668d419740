"""The README lists every option, exit code, key and story that there is, in the promised order."""

from __future__ import annotations

import re

import pytest

from docs.messages import PROJECT
from homelab import cli
from homelab.commands import delete_vm
from pvelab import faults, seeds
from pvelab.__main__ import main as pvelab_main
from stories import STORIES

README = (PROJECT / "README.md").read_text(encoding="utf-8")
ORDER = (
    "# homelab",
    "$ poetry run python -m homelab.main",
    "scripts/demo\n",
    "API_TOKEN=",
    "| Key |",
    "### Exit codes",
    "## What it never does",
    "## Changes",
)
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
EXIT_CODE = re.compile(r"^  (\d+) ", re.MULTILINE)


def help_of_the_tool(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        cli.parse_arguments(["--help"])
    return capsys.readouterr().out


def chapter(title: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    level = title.partition(" ")[0]
    found = re.search(rf"^{re.escape(title)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def test_parts_come_in_the_promised_order() -> None:
    places = [README.find(part) for part in ORDER]
    assert -1 not in places
    assert places == sorted(places)


def test_every_option_of_the_tool_is_listed_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    offered = set(OPTION.findall(help_of_the_tool(capsys)))
    rows = [row.split("|")[1] for row in chapter("### Options").splitlines() if row.startswith("| `")]
    assert {option for row in rows for option in OPTION.findall(row)} == offered - {"-m"}


def test_every_exit_code_of_the_tool_is_listed_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    listed = re.findall(r"^\| (\d+) \|", chapter("### Exit codes"), re.MULTILINE)
    assert listed == EXIT_CODE.findall(help_of_the_tool(capsys))


def test_every_option_of_delete_vm_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        delete_vm.parse_arguments(["--help"])
    offered = set(OPTION.findall(capsys.readouterr().out)) - {"-h", "--help"}
    assert offered <= set(OPTION.findall(chapter("### Options")))


def test_every_story_has_a_row() -> None:
    rows = [row.split("|")[1] for row in chapter("## Try it without Proxmox").splitlines() if row.startswith("| `")]
    assert set(STORIES) <= {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}


def test_every_option_of_the_lab_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        pvelab_main(["--help"])
    offered = set(OPTION.findall(capsys.readouterr().out)) - {"-h", "--help", "-m"}
    assert offered <= set(OPTION.findall(chapter("### Drive the lab by hand")))


def test_every_seed_is_named_and_every_named_fault_exists() -> None:
    rows = {
        row.split("|")[1].strip(" `"): row.split("|")[3]
        for row in chapter("### Drive the lab by hand").splitlines()
        if row.startswith("| `--")
    }
    seed_row = next(row for option, row in rows.items() if option.startswith("--seed"))
    assert set(re.findall(r"`([\w-]+)`", seed_row)) == set(seeds.SEEDS.things)
    fault_row = next(row for option, row in rows.items() if option.startswith("--fault"))
    assert set(re.findall(r"`([\w-]+)", fault_row)) <= set(faults.FAULTS.things)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((RUNBOOK\.md#[^)]+|[^)#]+)\)", README))))
def test_link_leads_somewhere(target: str) -> None:
    path, _, anchor = target.partition("#")
    text = (PROJECT / path).read_text(encoding="utf-8")
    headings = [
        re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()) for line in text.splitlines() if line[:1] == "#"
    ]
    assert not anchor or anchor in [heading.replace(" ", "-") for heading in headings]
