"""Stories: old-env, bad-env."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.conftest import WIRES, Homelab
from e2e.world import nodes_with_running_vm, ready_members
from pvelab.lab import Lab
from pvelab.state import World
from stories import NOT_IN_AN_OLD_FILE

HERE = Path(__file__).parent
OLD_ENV = HERE / "old.env"
BAD_ENVS = sorted((HERE / "bad_env").glob("*.env"))


def accept_token_of(env_file: Path, lab: Lab) -> None:
    """The token in the file is one that the cluster knows."""
    match = re.search(r"^API_TOKEN=(\S+)!(\S+)=(\S+)$", env_file.read_text(), re.MULTILINE)
    assert match

    def add(world: World) -> None:
        (token,) = world.tokens.values()
        world.tokens[f"{match[1]}!{match[2]}"] = replace(token, userid=match[1], name=match[2], secret=match[3])

    lab.look(add)


def give_home_the_key(lab: Lab, homelab: Homelab) -> None:
    """The old default: ~/.ssh/id_rsa and its .pub."""
    folder = homelab.home / ".ssh"
    folder.mkdir(mode=0o700)
    shutil.copy(lab.env["SSH_KEY_PATH"], folder / "id_rsa")
    shutil.copy(lab.env["SSH_PUBKEY_PATH"], folder / "id_rsa.pub")


def test_file_of_the_old_script_runs_unchanged(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.reset("old-env")
    accept_token_of(OLD_ENV, lab)
    give_home_the_key(lab, homelab)
    environment = {name: lab.env[name] for name in NOT_IN_AN_OLD_FILE}

    run = homelab.with_file(OLD_ENV, environment, "--via", via)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["fun-bedbug", "pve"]
    assert ready_members(lab) == {"k3s-server", "k3s-vm-pve", "k3s-vm-fun-bedbug"}
    configs = {vm["node"]: vm["config"] for vm in lab.snapshot()["vms"].values()}
    assert "bridge=vmbr1" in configs["pve"]["net1"]
    assert "size=200G" in configs["fun-bedbug"]["scsi0"]
    assert "correct-horse" not in run.text


def broken_files() -> list[tuple[str, Path, list[str]]]:
    """Each broken file on each wire with the problems it has there; SSH needs no API_TOKEN."""
    found = []
    for via in WIRES:
        for env_file in BAD_ENVS:
            problems = env_file.with_suffix(".problems").read_text().splitlines()
            found.append((via, env_file, [p for p in problems if via == "api" or not p.startswith("API_TOKEN")]))
    return [(via, env_file, problems) for via, env_file, problems in found if problems]


@pytest.mark.parametrize(
    ("via", "env_file", "problems"), [pytest.param(*case, id=f"{case[0]}-{case[1].stem}") for case in broken_files()]
)
def test_broken_file_gives_its_list_of_problems_and_contacts_nothing(
    lab: Lab, homelab: Homelab, via: str, env_file: Path, problems: list[str]
) -> None:
    run = homelab.with_file(env_file, {}, "--via", via)

    assert run.exit_code == 2, run.text
    assert [problem for problem in problems if problem not in run.err] == []
    assert f"{len(problems)} problem(s) in the configuration; nothing was contacted" in run.err
    assert "canary" not in run.text
    assert lab.requests == []
