"""The RUNBOOK tells every message that the code can give, keeps what it promised, and points to code that exists."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from docs.messages import PROJECT, Message, messages, patterns
from homelab.proxmox.refusals import CURES, PERMISSION

RUNBOOK = (PROJECT / "RUNBOOK.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
ERRORS = "Errors, one by one"
PARTS = ("symptom", "cause", "cure", "check")
SETUP = (PROJECT / "scripts" / "environment.py", PROJECT / "scripts" / "setup")
FROM_SETUP = "scripts/setup: "
NOT_OF_OURS = re.compile(r"error: unrecognized arguments|: 502 Bad Gateway$")
"""Headings whose words come from argparse, or from whatever answers in place of Proxmox."""
PROMISED = (
    "using CLI fallback",
    "is healthy, skipping.",
    "already in cluster, skipping",
    "K3S_EXISTING_NODE_IP not set, skipping k3s join",
    "SSL routines::certificate verify failed",
    "poetry run python -m homelab.main",
    'poetry run python -m homelab.main 2>&1 | grep "CLI fallback"',
    "poetry run python scripts/delete_vm.py <node-name> <vmid>",
    'ssh root@<node>.maas "qm status <vmid>"',
    "ssh ubuntu@192.168.4.212 'sudo cat /var/lib/rancher/k3s/server/node-token'",
    "export KUBECONFIG=~/kubeconfig",
    "kubectl get nodes",
    "NODE_N=new-node-name",
    "STORAGE_N=local-zfs",
    "CPU_RATIO_N=0.8",
    "MEMORY_RATIO_N=0.8",
    "10 to 15 minutes",
    "5 to 8 minutes",
    "less than 30 seconds",
    "No action needed",
    "is stopped or otherwise unhealthy",
    "Individual node failures don't stop the workflow",
)
"""Phrases, commands and times of the runbook that users know."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, without its marks, and the text up to the next one."""

    level: int
    heading: str
    text: str


def _heading(section: Section) -> str:
    return section.heading


def sections() -> list[Section]:
    """All of the RUNBOOK; what stands in fenced blocks is no heading."""
    blanked = FENCE.sub(lambda block: re.sub(r"(?m)^#", " ", block[0]), RUNBOOK)
    found = list(HEADING.finditer(blanked))
    ends = [*(following.start() for _, following in pairwise(found)), len(blanked)]
    return [
        Section(len(match[1]), match[2].strip("`"), blanked[match.end() : end].replace("`", ""))
        for match, end in zip(found, ends, strict=True)
    ]


def error_sections() -> list[Section]:
    """Those of single messages."""
    everything = sections()
    start = next(at for at, section in enumerate(everything) if section.heading == ERRORS)
    return [section for section in everything[start:] if section.level == 4]


MESSAGES = messages()
SECTIONS = sections()
ERROR_SECTIONS = error_sections()


@pytest.mark.parametrize("message", MESSAGES, ids=str)
def test_message_has_a_heading(message: Message) -> None:
    assert any(message.is_told_in(section.heading, section.text) for section in ERROR_SECTIONS), (
        f"RUNBOOK.md has no heading for {message}"
    )


@pytest.mark.parametrize("words", [words for words, _ in CURES] + [PERMISSION.pattern])
def test_answer_of_proxmox_with_a_cure_has_a_heading(words: str) -> None:
    assert any(re.search(words, section.heading) for section in ERROR_SECTIONS)


def setup_failures() -> list[str]:
    """What the set-up says of itself when it fails: the first text of each SetupError, the third of each run()."""
    tree = ast.parse(SETUP[0].read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    at = {"SetupError": 0, "run": 2}
    texts = [call.args[at[call.func.id]] for call in calls if isinstance(call.func, ast.Name) and call.func.id in at]
    known = [pattern for text in texts for pattern in patterns(text, tree) if pattern]
    return [*known, *re.findall(rf"{FROM_SETUP}([^']+)'", SETUP[1].read_text(encoding="utf-8"))]


@pytest.mark.parametrize("words", setup_failures())
def test_failure_of_the_setup_has_a_heading(words: str) -> None:
    assert any(re.fullmatch(FROM_SETUP + words, section.heading) for section in ERROR_SECTIONS)


def test_heading_of_the_setup_is_a_failure_that_it_has() -> None:
    headings = [section.heading for section in ERROR_SECTIONS if section.heading.startswith(FROM_SETUP)]
    assert all(any(re.fullmatch(FROM_SETUP + words, heading) for words in setup_failures()) for heading in headings)


@pytest.mark.parametrize(
    "section", [section for section in ERROR_SECTIONS if not section.heading.startswith(FROM_SETUP)], ids=_heading
)
def test_heading_is_a_message_that_the_code_can_give(section: Section) -> None:
    told = any(message.is_told_in(section.heading, section.text) for message in MESSAGES)
    answered = any(re.search(words, section.heading) for words, _ in CURES) or PERMISSION.search(section.heading)
    assert told or answered or NOT_OF_OURS.search(section.heading)


@pytest.mark.parametrize("section", ERROR_SECTIONS, ids=_heading)
def test_message_has_symptom_cause_cure_and_check(section: Section) -> None:
    assert [part for part in PARTS if part not in section.text.lower()] == []


def test_each_message_has_one_heading() -> None:
    headings = [section.heading for section in ERROR_SECTIONS]
    assert sorted(headings) == sorted(set(headings))


@pytest.mark.parametrize("phrase", PROMISED)
def test_promised_phrase_stands_in_the_runbook(phrase: str) -> None:
    assert phrase in " ".join(RUNBOOK.split()) or phrase in RUNBOOK


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_scenario_of_the_old_runbook_is_kept(number: int) -> None:
    assert sum(section.heading.startswith(f"Scenario {number}: ") for section in SECTIONS) == 1


def references() -> list[tuple[str, str]]:
    """Path and name of each entry `path:name` in the section Code references."""
    text = next(section.text for section in SECTIONS if section.heading == "Code references")
    return re.findall(r"(src/[\w/]+\.py):(\w+)", text)


@pytest.mark.parametrize(("path", "name"), references())
def test_code_reference_exists(path: str, name: str) -> None:
    tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_code_references_name_main_the_health_checker_the_deletion_and_the_join() -> None:
    assert {"main", "VMHealthChecker", "delete_vm", "K3sManager"} <= {name for _, name in references()}


def anchors() -> set[str]:
    """How the headings are addressed: lower case, without punctuation, blanks as hyphens."""
    return {re.sub(r"[^\w\- ]", "", section.heading.lower()).replace(" ", "-") for section in SECTIONS}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK))))
def test_link_within_the_runbook_leads_to_a_heading(target: str) -> None:
    assert target in anchors()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", RUNBOOK))))
def test_link_to_a_file_leads_to_one(target: str) -> None:
    assert Path(PROJECT, target).is_file()
