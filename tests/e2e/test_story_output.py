"""Stories of what a person, a pipe and a program get to see, and what nobody ever sees."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import Homelab, Run
from e2e.world import ALL_MEMBERS, before_call, cluster, nodes_with_running_vm, ready_members, vm_on
from homelab import main as tool
from homelab.commands import delete_vm
from pvelab.lab import Lab
from support.clock import SteppingClock

# --- for programs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "settings", "words", "exit_code"),
    [
        ("healthy", {}, (), 0),
        ("stopped", {}, ("--dry-run",), 0),
        ("healthy", {"CPU_RATIO_2": "lots"}, (), 3),
        ("unknown", {}, (), 3),
    ],
    ids=["healthy", "dry-run", "dropped", "unknown"],
)
def test_json_is_all_there_is_on_stdout_and_carries_the_exit_code(
    lab: Lab, homelab: Homelab, via: str, seed: str, settings: dict[str, str], words: tuple[str, ...], exit_code: int
) -> None:
    lab.reset(seed)

    run = homelab("--json", "--via", via, *words, **settings)

    told = json.loads(run.out)
    assert run.exit_code == told["exit_code"] == exit_code, run.text
    assert told["dry_run"] is ("--dry-run" in words)
    assert {node["node"]: node["running"] for node in told["nodes"]}["pve1"] is True
    failed = [outcome for outcome in told["outcomes"] if outcome["status"] == "failed"]
    assert bool(failed) is (exit_code == 3)
    assert all(outcome["cure"] for outcome in failed)


# --- for cron ----------------------------------------------------------------------------------------------------


def test_quiet_says_nothing_when_all_is_well(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")

    run = homelab("--quiet", "--via", via)

    assert (run.exit_code, run.text) == (0, "")


def test_quiet_reports_when_something_is_not(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("unknown")

    run = homelab("--quiet", "--via", via)

    assert run.exit_code == 3
    assert "io-error" in run.out
    assert run.err.splitlines()[-1].startswith("error: VM k3s-vm-pve3 (vmid=102) is kept: ")


def test_quiet_run_that_mends_says_nothing_of_its_steps(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("stopped")

    run = homelab("--quiet", "--via", via)

    assert (run.exit_code, run.text) == (0, "")
    assert ready_members(lab) == ALL_MEMBERS


# --- for a person ------------------------------------------------------------------------------------------------


def test_verbose_shows_what_is_asked_of_the_nodes(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")

    run = homelab("-v", "--via", via)

    assert run.exit_code == 0
    assert "/cluster/resources" in run.err
    assert "/cluster/resources" not in run.out
    assert "/cluster/resources" not in homelab("--via", via).text


@pytest.mark.parametrize("seed", ["stopped", "paused"])
def test_dry_run_says_what_would_be_replaced_and_changes_nothing(
    lab: Lab, homelab: Homelab, via: str, seed: str
) -> None:
    lab.reset(seed)
    before = lab.snapshot()

    run = homelab("--dry-run", "--via", via)

    assert run.exit_code == 0, run.text
    assert f"VM k3s-vm-pve3 (vmid=102): replace: VM is {seed}" in run.out
    assert "nothing was changed (--dry-run)" in run.out
    assert lab.snapshot() == before
    assert lab.writes == []


def test_node_with_wrong_keys_of_its_own_is_left_out_and_the_others_are_finished(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    run = homelab("--via", via, CPU_RATIO_2="lots", K3S_EXISTING_NODE_IP=None)

    assert run.exit_code == 3, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve3"]
    assert "CPU_RATIO_2='lots' cannot be used" in run.err
    assert "try: set CPU_RATIO_2 to" in run.err
    assert not [request for request in lab.writes if request.node == "pve2"]


def test_gap_in_the_numbers_is_no_end_and_is_warned_about(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("healthy")

    run = homelab("--via", via, **{key: None for key in lab.env if key.endswith("_2")})

    assert run.exit_code == 0, run.text
    assert run.out.count("is healthy, skipping.") == 2
    assert "warning: " in run.err
    assert "NODE_2" in run.err


@pytest.mark.parametrize("words", [("--nonsense",), ("-v", "--quiet"), ("--via", "pigeon"), ("pve1",)])
def test_wrong_usage_is_exit_code_2_and_contacts_nothing(lab: Lab, homelab: Homelab, words: tuple[str, ...]) -> None:
    run = homelab(*words)

    assert run.exit_code == 2
    assert run.out == ""
    assert "usage: " in run.err
    assert lab.requests == []


def test_help_is_no_error(homelab: Homelab) -> None:
    assert homelab("--help").exit_code == 0


# --- interrupted -------------------------------------------------------------------------------------------------


def test_interrupted_while_it_looks_ends_in_130(lab: Lab, homelab: Homelab) -> None:
    lab.reset("stopped")
    before_call(lab, "GET", "/cluster/resources", lambda _: os.kill(os.getpid(), signal.SIGINT))

    run = homelab("--json", "--via", "api")

    assert run.exit_code == json.loads(run.out)["exit_code"] == 130
    assert "interrupted; run again to go on from here" in run.err
    assert lab.writes == []


@pytest.mark.parametrize(
    ("answer", "code", "said"), [(KeyboardInterrupt, 130, "interrupted"), (EOFError, 1, "nothing was deleted")]
)
def test_leaving_at_the_question_deletes_nothing(
    lab: Lab, shared_clock: SteppingClock, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    answer: type[BaseException], code: int, said: str,
) -> None:  # fmt: skip
    lab.reset("healthy")
    env_file = lab.write_env(tmp_path / "lab.env")

    def leave(_question: str) -> str:
        raise answer

    assert delete_vm.main(["--env", str(env_file), "pve3", "102"], clock=shared_clock, ask=leave) == code
    assert said in "".join(capsys.readouterr())
    assert lab.writes == []


# --- what nobody sees --------------------------------------------------------------------------------------------


def nothing(_lab: Lab) -> None:
    """All goes well."""


def crash(lab: Lab) -> None:
    lab.fault("join-fails", how="k3s-crash", vm="k3s-vm-pve3")


def rotated(lab: Lab) -> None:
    lab.look(lambda world: setattr(cluster(world).tokens, "server_password", "canary-rotated"))


@pytest.mark.parametrize(
    ("happens", "settings", "exit_code"),
    [
        (nothing, {}, 0),
        (crash, {}, 3),
        (rotated, {"K3S_ROLE_3": "server"}, 3),
        (nothing, {"K3S_ARTIFACT_URL": "http://127.0.0.1:9/nothing"}, 0),
        (nothing, {"API_TOKEN": "root@pam!lab=00000000-cana-ry00-0000-000000000000"}, 1),
    ],
    ids=["well", "crash", "rotated", "release-of-a-server", "wrong-token"],
)
def test_no_secret_is_ever_shown_nor_stands_in_an_argument(
    lab: Lab, homelab: Homelab, via: str, happens: Callable[[Lab], None], settings: dict[str, str], exit_code: int
) -> None:
    settings = {"CLOUD_PASSWORD": "canary pass#1", **settings}
    secrets = {
        "API token": lab.env["API_TOKEN"].partition("=")[2],
        "wrong token": "cana-ry00",
        "password": settings["CLOUD_PASSWORD"],
        "join token": lab.look(lambda world: cluster(world).tokens.server_password),
    }
    happens(lab)

    run = homelab("-v", "--via", via, NODE_ENABLED_1="0", NODE_ENABLED_2="0", **settings)

    if via == "api" or "API_TOKEN" not in settings:
        assert run.exit_code == exit_code, run.text
    typed = "\n".join(f"{request.what} {request.argv}" for request in lab.requests)
    assert [name for name, secret in secrets.items() if secret in run.text or secret in typed] == []
    assert "canary" not in run.text


def test_join_token_lies_in_a_file_that_only_root_reads(lab: Lab, homelab: Homelab, via: str) -> None:
    homelab("--via", via, NODE_ENABLED_1="0", NODE_ENABLED_2="0", K3S_ROLE_3="server")

    name = "k3s-vm-pve3"
    token = lab.look(lambda world: cluster(world).tokens.server_password)
    assert token in lab.shell(name, "cat /etc/rancher/k3s/config.yaml")
    assert lab.shell(name, "stat -c '%a %U' /etc/rancher/k3s/config.yaml") == "600 root\n"
    assert token not in lab.shell(name, "cat /etc/systemd/system/k3s.service /etc/systemd/system/*.env")


def test_module_run_as_a_program_ends_with_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["homelab.main", "--nonsense"])

    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(tool.__file__), run_name="__main__")
    assert end.value.code == 2


# --- as real processes, in real time -----------------------------------------------------------------------------

PROJECT = Path(__file__).parents[2]


class Shell:
    """Starts the commands as their user does, against a lab with a clock of its own."""

    def __init__(self, lab: Lab, home: Path) -> None:
        env_file = lab.write_env(home / "lab.env")
        self.main = [sys.executable, "-m", "homelab.main", "--env", str(env_file)]
        self.delete = [sys.executable, str(PROJECT / "scripts" / "delete_vm.py"), "--env", str(env_file)]
        self.environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT / "src")}
        self.home = home

    def start(self, words: list[str], stdin: int | None = None, out: int = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words, env=self.environment, cwd=self.home, text=True, stdin=stdin, stdout=out, stderr=subprocess.PIPE
        )

    def __call__(self, *words: str) -> Run:
        process = self.start(list(words))
        out, err = process.communicate(timeout=60)
        return Run(process.returncode, out, err)


def test_commands_do_their_work_as_processes(tmp_path: Path) -> None:
    with Lab(folder=tmp_path / "lab") as lab:
        lab.reset("healthy")
        shell = Shell(lab, tmp_path)

        well = shell(*shell.main)
        assert (well.exit_code, well.err) == (0, "")
        assert well.out.count("is healthy, skipping.") == 3

        deleted = shell(*shell.delete, "pve3", "102", "--yes")
        assert deleted.exit_code == 0, deleted.text
        assert 102 not in lab.snapshot()["vms"]

        interrupted = shell.start(shell.main)
        lab.wait_until(lambda world: 102 in world.vms, timeout_s=3000)
        interrupted.send_signal(signal.SIGINT)
        _, err = interrupted.communicate(timeout=30)
        assert interrupted.returncode == 130, err
        assert "Traceback" not in err

        again = shell(*shell.main)
        assert again.exit_code == 0, again.text
        assert vm_on(lab, "pve3")[1]["status"] == "running"
        assert ready_members(lab) == ALL_MEMBERS


def test_terminal_gets_a_table(tmp_path: Path) -> None:
    with Lab(folder=tmp_path / "lab") as lab:
        lab.reset("healthy")
        shell = Shell(lab, tmp_path)
        ours, theirs = os.openpty()
        process = shell.start(shell.main, theirs, theirs)
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:
            """Linux tells the end of the other side so."""
        finally:
            os.close(ours)
        assert process.communicate(timeout=30)[1] == ""
        assert process.returncode == 0
    assert "━" in shown.decode()
    assert shown.decode().count("is healthy, skipping.") == 3
    assert "\x1b[32mok" in shown.decode()


@pytest.mark.parametrize("command", ["main", "delete"])
def test_help_needs_neither_configuration_nor_network(tmp_path: Path, command: str) -> None:
    words = {"main": ["-m", "homelab.main"], "delete": [str(PROJECT / "scripts" / "delete_vm.py")]}[command]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT / "src")}

    run = subprocess.run(
        [sys.executable, *words, "--help"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert (run.returncode, run.stderr) == (0, "")
    assert "exit codes" in run.stdout


def test_password_that_is_the_user_s_name_is_warned_of_and_hides_no_name(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")

    run = homelab("--dry-run", CLOUD_PASSWORD="ubuntu", VM_SSH_PORT="1", KUBECONFIG=None)

    assert "warning: CLOUD_PASSWORD is the same as CLOUD_USER: anybody can guess it" in run.err
    assert "SSH to ubuntu@" in run.text
