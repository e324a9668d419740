"""`scripts/setup` run as a user runs it, with a Poetry that only writes down how it was called."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from environment import POETRY_REQUIREMENTS

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
POETRY = """#!/bin/sh
echo "$@" >> "$HOME/poetry-calls"
echo "index=$POETRY_PYPI_MIRROR_URL active=$VIRTUAL_ENV" >> "$HOME/poetry-calls"
[ -e "$HOME/poetry-fails" ] && { echo 'Package nowhere (1.0) not found'; exit 1; }
mkdir -p "$5/.venv/bin" && ln -sf /bin/sh "$5/.venv/bin/python"
"""


class Machine:
    """A user's home with our Poetry in it, and a project whose path has a space."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.project = folder / "pro ject"
        self.poetry = self.home / ".local/share/homelab/poetry/bin/poetry"
        self.link = self.home / ".local/bin/poetry"
        self.tools = folder / "tools"
        self.tools.mkdir()
        for name in ("dirname", "ln", "mkdir"):
            (self.tools / name).symlink_to(shutil.which(name) or os.devnull)
        (self.tools / "python3").symlink_to(sys.executable)
        (self.project / "scripts").mkdir(parents=True)
        for name in ("setup", "environment.py"):
            shutil.copy(SCRIPTS / name, self.project / "scripts" / name)
        (self.project / "pyproject.toml").write_text("[project]\n")
        (self.project / "poetry.lock").write_text("one\n")
        self.poetry.parent.mkdir(parents=True)
        self.poetry.write_text(POETRY)
        self.poetry.chmod(0o755)
        (self.poetry.parent / "python").symlink_to(sys.executable)
        (self.poetry.parent.parent / "requirements").write_text("\n".join(POETRY_REQUIREMENTS))

    def setup(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run scripts/setup from another folder, with an index given and no poetry on PATH."""
        given = {"PATH": str(self.tools), "PIP_INDEX_URL": "https://index.example/simple"}
        return subprocess.run(
            [self.project / "scripts/setup"],
            cwd=self.home,
            env=given | {"HOME": str(self.home)} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    def poetry_calls(self) -> list[str]:
        written = self.home / "poetry-calls"
        return written.read_text().splitlines() if written.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_first_setup_installs_the_lock_beside_an_active_environment(machine: Machine) -> None:
    done = machine.setup(VIRTUAL_ENV="/some/other")
    assert done.returncode == 0, done.stderr
    assert machine.poetry_calls() == [
        f"install --all-extras --no-ansi --directory {machine.project}",
        "index=https://index.example/simple active=",
    ]
    assert "`deactivate` it before `poetry run`" in done.stderr
    assert done.stdout == ""


def test_second_setup_starts_no_poetry_and_takes_less_than_a_second(machine: Machine) -> None:
    machine.setup()
    calls = machine.poetry_calls()
    began = time.monotonic()
    assert machine.setup(PIP_INDEX_URL="").returncode == 0
    assert time.monotonic() - began < 1
    assert machine.poetry_calls() == calls


@pytest.mark.parametrize("name", ["poetry.lock", "pyproject.toml"])
def test_changed_lock_or_project_file_is_installed_again(machine: Machine, name: str) -> None:
    machine.setup()
    (machine.project / name).write_text("two\n")
    machine.setup()
    assert len(machine.poetry_calls()) == 4


def test_failed_install_shows_poetrys_words_and_is_tried_again(machine: Machine) -> None:
    (machine.home / "poetry-fails").touch()
    failed = machine.setup()
    assert failed.returncode == 1
    assert "Package nowhere (1.0) not found" in failed.stderr
    assert failed.stderr.splitlines()[-1] == "scripts/setup: Poetry could not install what poetry.lock names"
    (machine.home / "poetry-fails").unlink()
    assert machine.setup().returncode == 0
    assert len(machine.poetry_calls()) == 4


def test_poetry_is_linked_and_the_path_line_stays_until_it_is_followed(machine: Machine) -> None:
    line = 'export PATH="$HOME/.local/bin:$PATH"'
    assert line in machine.setup().stderr
    assert machine.link.resolve() == machine.poetry
    assert line in machine.setup().stderr
    assert machine.setup(PATH=f"{machine.link.parent}:{machine.tools}").stderr == ""


def test_poetry_of_the_users_own_is_left_in_its_place(machine: Machine) -> None:
    machine.link.parent.mkdir(parents=True)
    machine.link.write_text("theirs")
    assert machine.setup().returncode == 0
    assert machine.link.read_text() == "theirs"


def test_link_that_leads_nowhere_is_renewed(machine: Machine) -> None:
    machine.link.parent.mkdir(parents=True)
    machine.link.symlink_to(machine.home / "gone")
    machine.setup()
    assert machine.link.resolve() == machine.poetry


def test_machine_without_python_is_told_what_to_install(machine: Machine) -> None:
    (machine.tools / "python3").unlink()
    done = machine.setup()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "scripts/setup: no Python 3.11 or newer on PATH"


def test_home_that_takes_no_files_is_named(machine: Machine) -> None:
    shutil.rmtree(machine.home / ".local")
    (machine.home / ".local").write_text("a file where a folder belongs")
    done = machine.setup()
    assert done.returncode == 1
    assert str(machine.home / ".local") in done.stderr.splitlines()[-1]
