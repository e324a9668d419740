"""What Proxmox makes of the guest agent's answers and errors, over the API and with qm."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.guest_world import Bench, play
from pvelab.machine import AgentError
from replay.stage import Stage

AGENT = "/nodes/pve1/qemu/100/agent"


@pytest.fixture
def stage(stage: Stage) -> Stage:
    """A VM that runs, with an agent that answers."""
    stage.as_root("POST", "/nodes/pve1/qemu", {"vmid": "100", "agent": "1", "memory": "64", "start": "1"})
    stage.guests.agent_answers = True
    return stage


def test_error_of_a_plain_command_is_its_result_and_that_of_one_with_parameters_a_refusal(stage: Stage) -> None:
    plain = stage.ask("GET", f"{AGENT}/get-fsinfo")
    said = {"class": "GenericError", "desc": "Command get-fsinfo has been disabled"}
    assert (plain.status, plain.json["data"]) == (200, {"result": {"error": said}})
    read = stage.ask("GET", f"{AGENT}/file-read", params={"file": "/etc/hostname"})
    assert (read.status, read.reason) == (500, "Agent error: Command file-read has been disabled")


def test_agent_that_is_configured_but_off_does_not_answer(stage: Stage) -> None:
    stage.as_root("POST", "/nodes/pve1/qemu", {"vmid": "101", "agent": "0", "memory": "64", "start": "1"})
    stage.guests.agent_answers = False
    ran = stage.shell(["qm", "guest", "cmd", "101", "ping"])
    assert (ran.exit_code, ran.err) == (255, "QEMU guest agent is not running\n")


@pytest.mark.parametrize(
    ("line", "code", "out", "err"),
    [
        ("qm guest cmd 100 fsfreeze-status", 0, "thawed\n", ""),
        ("qm guest exec 100", 255, "", "command or input-data (or both) required\n"),
        ("printf 'one\\ntwo\\n' | qm guest passwd 100 root", 255, "", "passwords do not match\n"),
        (
            "printf 'secret\\nsecret\\n' | qm guest passwd 100 root",
            29,
            "",
            "Agent error: Command set-user-password has been disabled\n",
        ),
        (
            "qm guest passwd 100 root --password abc",
            255,
            "",
            "400 Parameter verification failed.\npassword: value must be at least 5 characters long\n"
            "qm guest passwd <vmid> <username> [OPTIONS]\n",
        ),
        (
            "qm guest exec 100 --synchronous 0 --timeout 3 -- true",
            255,
            "",
            "400 Parameter verification failed.\nsynchronous: needs to be set for 'timeout'\n"
            "qm guest exec <vmid> [<extra-args>] [OPTIONS]\n",
        ),
    ],
)
def test_qm_guest_at_the_edges(stage: Stage, line: str, code: int, out: str, err: str) -> None:
    ran = stage.line(line)
    assert (ran.exit_code, ran.out, ran.err) == (code, out, err)


def test_input_of_qm_guest_exec_reaches_the_program(stage: Stage) -> None:
    ran = stage.line("echo given | qm guest exec 100 --pass-stdin 1 -- /bin/cat")
    assert '"out-data" : "given\\n"' in ran.out


def test_agent_tells_of_its_machine(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        await bench.booted(vm)

        def ask(command: str) -> object:
            return bench.guests.agent(vm, command, {})

        assert ask("get-vcpus") == [
            {"can-offline": number > 0, "logical-id": number, "online": True} for number in range(2)
        ]
        system = ask("get-fsinfo")[0]  # type: ignore[index]
        assert (system["name"], system["mountpoint"], system["type"]) == ("sda1", "/", "ext4")
        assert 0 < system["used-bytes"] < system["total-bytes"]
        assert ask("fstrim") == {"paths": [{"minimum": 0, "path": "/", "trimmed": 0}]}
        size = ask("get-memory-block-info")
        assert (size, ask("get-memory-blocks")[0]["phys-index"]) == ({"size": 134_217_728}, 0)  # type: ignore[index]
        for kind in ("ram", "disk", "hybrid"):
            with pytest.raises(AgentError, match="the requested suspend mode is not supported by the guest"):
                ask(f"suspend-{kind}")
        with pytest.raises(AgentError, match="The command guest-nosuch has not been found"):
            ask("nosuch")

    play(tmp_path, scenario)


def test_frozen_agent_takes_little_but_the_thaw(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        await bench.booted(vm)

        def ask(command: str) -> object:
            return bench.guests.agent(vm, command, {})

        def enabled(command: str) -> bool:
            commands = {one["name"]: one["enabled"] for one in ask("info")["supported_commands"]}  # type: ignore[index]
            return bool(commands[f"guest-{command}"])

        assert (ask("fsfreeze-status"), enabled("exec"), ask("fsfreeze-thaw")) == ("thawed", True, 0)
        assert (ask("fsfreeze-freeze"), ask("fsfreeze-status"), ask("ping")) == (1, "frozen", {})
        with pytest.raises(AgentError, match="guest-get-users has been disabled: the agent is in frozen state"):
            ask("get-users")
        assert (enabled("exec"), ask("fsfreeze-thaw"), ask("get-users")) == (False, 1, [])

    play(tmp_path, scenario)


def test_agent_reads_part_of_a_file_and_sets_passwords_of_those_it_knows(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        machine = await bench.booted(vm)
        machine.files.provide("/root/note", b"0123456789")
        part = bench.guests.agent(vm, "file-read", {"file": "/root/note", "offset": "2", "count": "3", "decode": "0"})
        assert part == {"bytes-read": 3, "content": "MjM0", "truncated": 1}
        whole = bench.guests.agent(vm, "file-read", {"file": "/root/note"})
        assert whole == {"bytes-read": 10, "content": "0123456789"}
        assert bench.guests.agent(vm, "set-user-password", {"username": "root", "password": "secret"}) == {}
        with pytest.raises(AgentError, match="child process has failed to set user password"):
            bench.guests.agent(vm, "set-user-password", {"username": "nobody-here", "password": "secret"})

    play(tmp_path, scenario)


def test_guest_that_is_told_to_shut_down_is_off_some_seconds_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.guests, "agent", lambda *_asked: None)
    assert stage.ask("POST", f"{AGENT}/shutdown").json == {"data": {"result": None}}
    stage.clock.advance(30)
    assert stage.look(lambda world: world.vms[100].qmp) == "stopped"
