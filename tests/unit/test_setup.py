"""What the set-up asks of the machine's Python, which stands here as a small script with known answers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import environment
from environment import SetupError, index_url, make_virtual_environment

SCRIPTS = Path(environment.__file__).parent
HELP = "  -i, --index-url <url>  Base URL of the Python Package Index (default https://built.in/simple). More."


def fake_python(folder: Path, answers: str) -> Path:
    """Write a `python` whose `-m MODULE` is answered by the branches of a shell `case`; it logs what it was asked."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\necho "$*" >> "{folder}/asked"\ncase "$*" in\n{answers}\nesac\n')
    python.chmod(0o755)
    return python


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines()


def test_index_in_the_environment_is_taken_without_asking_pip(tmp_path: Path) -> None:
    python = fake_python(tmp_path, "*) exit 9 ;;")
    assert index_url(python, {"PIP_INDEX_URL": "https://own.example/simple"}) == "https://own.example/simple"
    assert not (tmp_path / "asked").exists()


def test_index_of_pips_configuration_is_taken(tmp_path: Path) -> None:
    python = fake_python(tmp_path, '"-m pip config get global.index-url") echo https://configured.example/simple ;;')
    assert index_url(python, {}) == "https://configured.example/simple"


def test_index_built_into_pip_is_taken_when_none_is_configured(tmp_path: Path) -> None:
    python = fake_python(tmp_path, f"*config*) echo 'ERROR: No such key' >&2; exit 1 ;; *) echo '{HELP}' ;;")
    assert index_url(python, {}) == "https://built.in/simple"


def test_pip_that_names_no_index_is_an_error_with_the_variable_to_set(tmp_path: Path) -> None:
    python = fake_python(tmp_path, "*config*) exit 1 ;; *) echo no such option ;;")
    with pytest.raises(SetupError, match="does not name its package index") as caught:
        index_url(python, {})
    assert "PIP_INDEX_URL" in caught.value.cure


def test_python_without_pip_is_an_error_with_the_package_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = fake_python(tmp_path, "*) echo 'No module named pip' >&2; exit 1 ;;")
    with pytest.raises(SetupError, match="has no working pip") as caught:
        index_url(python, {})
    assert "python3-pip" in caught.value.cure
    assert "No module named pip" in capsys.readouterr().err


def test_python_with_venv_needs_no_virtualenv(tmp_path: Path) -> None:
    python = fake_python(tmp_path, '"-m venv "*) exit 0 ;;')
    make_virtual_environment(python, tmp_path / "made", tmp_path / "cache", {})
    assert asked(tmp_path) == [f"-m venv {tmp_path}/made"]


def test_python_without_venv_gets_virtualenv_in_a_cache(tmp_path: Path) -> None:
    answers = f"""
        "-m venv "*) /bin/mkdir -p "{tmp_path}/made/half"; exit 1 ;;
        "-m virtualenv "*) [ "$PYTHONPATH" = "{tmp_path}/cache" ] && [ ! -e "{tmp_path}/made/half" ] ;;
    """
    make_virtual_environment(fake_python(tmp_path, answers), tmp_path / "made", tmp_path / "cache", {})
    assert asked(tmp_path)[1:] == [
        f"-m pip install --upgrade --target {tmp_path}/cache virtualenv",
        f"-m virtualenv --no-periodic-update {tmp_path}/made",
    ]


def test_pip_and_poetry_see_no_active_environment_and_no_rule_against_installing() -> None:
    active = {"VIRTUAL_ENV": "/a", "CONDA_PREFIX": "/b", "CONDA_DEFAULT_ENV": "b", "PIP_USER": "1", "PIP_CERT": "/c"}
    seen = environment.quiet_environment(active)
    assert seen.keys().isdisjoint({"VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV"})
    assert (seen["PIP_USER"], seen["PIP_CERT"]) == ("0", "/c")


def test_script_that_another_python_started_goes_on_in_the_projects_own(tmp_path: Path) -> None:
    scripts = tmp_path / "project" / "scripts"
    scripts.mkdir(parents=True)
    for name in ("delete_vm.py", "own_python.py"):
        shutil.copy(SCRIPTS / name, scripts)
    own = scripts.parent / ".venv" / "bin"
    own.mkdir(parents=True)
    fake_python(own, "*) exit 7 ;;")

    done = subprocess.run([sys.executable, scripts / "delete_vm.py", "pve1", "100"], timeout=30, check=False)

    assert done.returncode == 7
    assert asked(own) == [f"{scripts / 'delete_vm.py'} pve1 100"]
