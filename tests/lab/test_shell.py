"""The lab's shell answers as dash 0.5.12 and GNU coreutils 9.1 did when the cases were recorded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from lab.shell_machine import plain_machine, run_on_plain_machine
from pvelab.shell.environment import Executed
from pvelab.shell.run import Result, run

CASES = [json.loads(line) for line in Path(__file__).with_name("shell-cases.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", CASES, ids=[case["script"][:60] for case in CASES])
def test_script_ends_as_in_dash(tmp_path: Path, case: dict[str, Any]) -> None:
    result = run_on_plain_machine(tmp_path, case["script"], stdin=b"in1\nin2\n")
    answer = {"exit_code": result.exit_code, "out": result.out.decode(), "err": result.err.decode()}
    assert answer == {key: case[key] for key in ("exit_code", "out", "err")}


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("foo", "sh: 1: foo: not found"),
        ("if true; then echo", "sh: 1: Syntax error: end of file unexpected"),
        ("cat <(echo)", 'sh: 1: Syntax error: "(" unexpected'),
        ("echo ${x//a/b}", "sh: 1: Syntax error: Bad substitution"),
        ("stat -f /", "stat: invalid option -- 'f'"),
        ("df -B 1X", "df: only block sizes in bytes, K, M or G are known here"),
        ("sort -k 2", "sort: invalid option -- 'k'"),
        ("set -q", "sh: 1: set: Illegal option -q"),
    ],
)
def test_what_is_not_known_is_refused_by_name(tmp_path: Path, script: str, complaint: str) -> None:
    result = run_on_plain_machine(tmp_path, script)
    assert result.exit_code
    assert result.err.decode().startswith(complaint)


def test_sudo_works_only_for_those_who_have_it(tmp_path: Path) -> None:
    allowed = run_on_plain_machine(tmp_path, "sudo -n sh -c 'id -un; echo x > /root/f'; sudo -n cat /root/f", "ubuntu")
    assert (allowed.exit_code, allowed.out) == (0, b"root\nx\n")
    denied = run_on_plain_machine(tmp_path, "sudo -n true", "guest")
    assert (denied.exit_code, denied.err) == (1, b"sudo: a password is required\n")


def test_user_without_rights_cannot_read_or_write_what_is_roots(tmp_path: Path) -> None:
    result = run_on_plain_machine(tmp_path, "ls /root; echo x > /etc/f; mkdir /etc/d; id -u", "ubuntu")
    assert result.err.decode().splitlines() == [
        "ls: cannot open directory '/root': Permission denied",
        "sh: 1: cannot create /etc/f: Permission denied",
        "mkdir: cannot create directory '/etc/d': Permission denied",
    ]
    assert result.out == b"1000\n"


def test_environment_is_minimal(tmp_path: Path) -> None:
    result = run_on_plain_machine(tmp_path, "env", "ubuntu")
    assert {line.partition("=")[0] for line in result.out.decode().splitlines()} == {
        "HOME",
        "LOGNAME",
        "PATH",
        "PWD",
        "SHELL",
        "USER",
    }


def test_programs_that_ran_are_told_with_their_files(tmp_path: Path) -> None:
    script = "umask 077; f=$(mktemp -d)/x; echo hi > $f; sudo -n env A=1 cat < $f | tee /tmp/y >/dev/null"
    executed = run_on_plain_machine(tmp_path, script, "ubuntu").executed
    folder = executed[2].writes[0]
    assert executed[0] == Executed(("umask", "077"), "ubuntu")
    assert executed[1].argv == ("mktemp", "-d")
    assert folder.startswith("/tmp/tmp.") and folder.endswith("/x")
    assert {one.argv for one in executed[3:]} >= {("tee", "/tmp/y"), ("cat",)}
    assert {one.user for one in executed if one.argv == ("cat",)} == {"root"}


def test_pipe_stops_a_writer_that_nobody_reads(tmp_path: Path) -> None:
    result = run_on_plain_machine(tmp_path, "cat /dev/zero | head -c 5 | wc -c")
    assert (result.exit_code, result.out) == (0, b"5\n")


def test_write_to_a_full_disk_keeps_what_fitted(tmp_path: Path) -> None:
    async def start() -> Result:
        machine = plain_machine(tmp_path, asyncio.get_running_loop())
        machine.files.mounted[0].total_bytes = 100_000
        return await run(
            machine, "root", "cat /dev/zero > /tmp/big; echo $?; wc -c < /tmp/big; df -B1 --output=avail /"
        )

    result = asyncio.run(start())
    assert result.err == b"cat: write error: No space left on device\n"
    assert result.out == b"1\n65536\nAvail\n34464\n"
