"""The commands of the README that concern the lab are typed as they stand, and do what the text says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import tell
from docs.messages import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
START = ".venv/bin/python -m pvelab --seed healthy -- bash"
STAY = "poetry run python -m pvelab"
RUN = "poetry run python -m homelab.main"
PYTHON = "poetry run python "
TIMEOUT_S = 100

needs_clients = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "ssh"))), reason="bash, curl and ssh are the user's own"
)


def chapter(title: str) -> str:
    start = README.index(f"{title}\n") + len(title)
    end = re.compile(r"^##+ ", re.MULTILINE).search(README, start)
    return README[start : end.start() if end else len(README)]


def typed(command: str) -> str:
    """A command for this machine, where Poetry may be missing and the project may not be installed."""
    return command.replace(PYTHON, f"{shlex.quote(sys.executable)} ")


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "XDG_CACHE_HOME": str(folder)}


def ended(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment(folder),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def demo_lines() -> list[str]:
    blocks = BLOCK.findall(chapter("## Try it without Proxmox"))
    return [line for block in blocks for line in block.splitlines() if line.startswith("scripts/demo")]


@pytest.mark.parametrize("line", demo_lines())
def test_demo_takes_the_arguments_shown(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell.main([*shlex.split(line)[1:], "--list"]) == 0
    assert "fresh" in capsys.readouterr().out


def test_output_shown_is_that_of_a_fresh_run_and_of_a_second_one(tmp_path: Path) -> None:
    shown = README.partition("```console\n")[2].partition("```")[0].partition(f"$ {RUN}\n")[2]
    runs = [run.splitlines() for run in shown.split(f"\n$ {RUN}\n")]
    command = [
        sys.executable,
        "-m",
        "pvelab",
        "--pace",
        "test",
        "--",
        "sh",
        "-c",
        f"{typed(RUN)} && echo -- && {typed(RUN)}",
    ]

    done = ended(command, tmp_path)

    assert done.returncode == 0, done.stderr
    first, second = (table.splitlines() for table in done.stdout.split("--\n"))
    assert runs == [[*runs[0][: -len(first)], *first], second]
    assert sorted(done.stderr.splitlines()) == sorted(runs[0][: -len(first)])


@needs_clients
def test_commands_typed_in_the_lab_end_well_and_repair_what_they_break(tmp_path: Path) -> None:
    first, *inside = BLOCK.findall(chapter("### Drive the lab by hand"))
    assert first.strip() == START
    assert inside.pop().strip() == STAY
    script = tmp_path / "typed.sh"
    possible = [block for block in inside if shutil.which("kubectl") or not block.startswith("kubectl ")]
    script.write_text("set -e\n" + "".join(typed(block) for block in possible), encoding="utf-8")
    words = shlex.split(START)[1:]
    at = words.index("--")
    command = [sys.executable, *words[:at], "--pace", "test", *words[at:], str(script)]

    done = ended(command, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert '"node":"pve1"' in done.stdout
    assert "0 changed, 0 failed" in done.stdout
    assert "nothing was changed (--dry-run)" in done.stdout
    assert "status: paused" in done.stdout
    assert not shutil.which("kubectl") or "node/k3s-vm-pve3 uncordoned" in done.stdout
    assert "VM k3s-vm-pve3 (vmid=102) deleted (VM is paused) and recreated" in done.stdout
    assert re.search(r"^k3s-vm-pve3 +Ready", done.stdout, re.MULTILINE)


@pytest.fixture
def staying_lab(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The lab that runs until Ctrl-C."""
    command = [*shlex.split(typed(STAY)), "--pace", "test"]
    process = subprocess.Popen(command, env=environment(tmp_path), cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        process.kill()


def welcome(process: subprocess.Popen[str]) -> list[str]:
    """What the lab prints once it is up."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.strip())
        if line.startswith("Ctrl-C"):
            break
    return lines


@needs_clients
def test_commands_that_the_lab_prints_work_from_another_terminal(
    staying_lab: subprocess.Popen[str], tmp_path: Path
) -> None:
    lines = welcome(staying_lab)
    examples = [line for line in lines if line.startswith(("curl ", "ssh ", "poetry "))]
    assert len(examples) == 3
    for example in examples:
        command = ["bash", "-c", typed(f"{example} --dry-run" if example.startswith("poetry") else example)]
        done = ended(command, tmp_path)
        assert done.returncode == 0, example + done.stderr
        assert "pve1" in done.stdout

    staying_lab.send_signal(signal.SIGINT)
    assert staying_lab.wait(timeout=TIMEOUT_S) == 0
