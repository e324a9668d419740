"""`python -m pvelab`: what it prints, and what it runs inside."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pvelab.__main__ import main


def test_the_list_names_every_seed_and_fault_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  power-cut:host_uptime_s=1200.0" in lines
    assert "  node-down:node=...,mode=refused" in lines
    assert "Seeds:" in lines
    assert "Faults:" in lines


def test_a_command_runs_inside_with_the_labs_variables_and_a_home_of_its_own(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script = 'echo "$NODE_3"; echo "$HOME"; echo "$XDG_STATE_HOME"; test -d "$XDG_STATE_HOME"; exit $(( $? + 7 ))'
    assert main(["--folder", str(tmp_path / "lab"), "--", "sh", "-c", script]) == 7
    home = tmp_path / "lab" / "home"
    assert capfd.readouterr().out.split() == ["pve3", str(home), str(home / ".local" / "state")]


def test_seed_nodes_and_faults_are_taken_from_the_command_line(capfd: pytest.CaptureFixture[str]) -> None:
    ask = 'curl -s --cacert $PROXMOX_CA_BUNDLE -H "Authorization: PVEAPIToken=$API_TOKEN" https://%s/api2/json/%s'
    script = "; ".join(
        [
            'first=${PVE_IPS%%,*}:8006; echo "$NODE_2"',
            ask % ("$first", "nodes/one/qemu") + " | grep -o k3s-vm-one",
            ask % ("$first", "nodes/one/network?type=bridge"),
        ]
    )
    words = ["--seed", "healthy:without=two", "--nodes", "one,two", "--fault", "bridge-missing:node=one"]
    assert main([*words, "--pace", "test", "--", "sh", "-c", script]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[:2] == ["two", "k3s-vm-one"]
    assert "vmbr0" not in lines[2]


def test_the_release_of_proxmox_is_chosen_on_the_command_line(capfd: pytest.CaptureFixture[str]) -> None:
    ask = 'curl -s --cacert $PROXMOX_CA_BUNDLE -H "Authorization: PVEAPIToken=$API_TOKEN"'
    script = f'{ask} "https://${{PVE_IPS%%,*}}:8006/api2/json/version"'
    assert main(["--pve", "8.2", "--seed", "old-env", "--pace", "test", "--", "sh", "-c", script]) == 0
    assert '"release":"8.2"' in capfd.readouterr().out


def test_a_command_that_does_not_exist_or_is_killed_ends_as_in_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--", "no-such-command"]) == 127
    assert "no-such-command: command not found" in capsys.readouterr().err
    assert main(["--", "sh", "-c", "kill -9 $$"]) == 137


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "nonsense"], "no seed 'nonsense'"),
        (["--fault", "nonsense"], "no fault 'nonsense'"),
        (["--fault", "node-down:pve1"], "write NAME:key=value"),
        (["--nodes", "a,,b"], "give a number of nodes"),
        (["--pace", "soon"], "give demo, test, real or a number"),
        (["--pace", "-1"], "give a number above 0"),
    ],
)
def test_wrong_words_are_said_and_end_in_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--", "true"]) == 2
    assert said in capsys.readouterr().err


def test_it_prints_where_everything_is_and_runs_until_interrupted(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pvelab", "--folder", str(tmp_path), "--pace", "test"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd="src") as process:
        assert process.stdout
        try:
            lines = [process.stdout.readline() for _ in range(12)]
            curl = next(shlex.split(line) for line in lines if line.startswith("  curl"))
            answer = subprocess.run([*curl, "-s"], capture_output=True, text=True, timeout=5, check=False)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
    assert lines[-1] == "Ctrl-C ends it.\n"
    assert '"node":"pve1"' in answer.stdout
    assert lines[1].split()[:2] == ["pve1", "https://" + curl[-1].split("/")[2]]
    assert any(str(tmp_path / ".env") in line for line in lines)
    assert (tmp_path / ".env").read_text().startswith("API_TOKEN=")


def test_it_tidies_up_when_it_is_told_to_end(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pvelab", "--nodes", "1", "--pace", "test"]
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd="src", env=environment) as process:
        assert process.stdout
        try:
            process.stdout.readline()
            assert list(tmp_path.glob("pvelab-*"))
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert list(tmp_path.glob("pvelab-*")) == []
