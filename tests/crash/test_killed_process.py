"""The same with nothing shared: `python -m homelab.main` against `python -m pvelab`, real time, kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from dotenv import dotenv_values

from crash.processes import SOURCES
from crash.stories import WIRES

PACE = "0.02"
PATIENCE_S = 30.0
NODES = ("pve1", "pve2", "pve3")


@dataclass(frozen=True, slots=True)
class Site:
    """A lab in a process of its own, as a person with its `.env` sees it."""

    folder: Path
    env: Mapping[str, str]

    def get(self, path: str) -> Any:
        """The data of a GET, asked of the first node with the token."""
        host, port = self.env["PVE_IPS"].partition(",")[0], self.env["PROXMOX_PORT"]
        answer = requests.get(
            f"https://{host}:{port}/api2/json{path}",
            headers={"Authorization": f"PVEAPIToken={self.env['API_TOKEN']}"},
            verify=self.env["PROXMOX_CA_BUNDLE"],
            timeout=10,
        )
        answer.raise_for_status()
        return answer.json()["data"]

    def homelab(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the tool."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-m", "homelab.main", "--env", str(self.folder / ".env"), *arguments],
            env={"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCES)},
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    command = [sys.executable, "-m", "pvelab", "--seed", "stopped", "--pace", PACE, "--folder", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout is not None
        assert any("Ctrl-C ends it" in line for line in lab.stdout)
        values = dotenv_values(tmp_path / ".env")
        yield Site(tmp_path, {name: value or "" for name, value in values.items()})
        lab.send_signal(signal.SIGINT)


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.mark.parametrize("via", WIRES)
@pytest.mark.parametrize("task", ["qmcreate"])
def test_run_killed_in_the_middle_of_a_task_is_gone_on_with_by_the_next(site: Site, via: str, task: str) -> None:
    killed = site.homelab("--via", via)
    _until(lambda: [one for one in site.get("/nodes/pve3/tasks?source=active") if one["type"] == task])
    killed.kill()
    killed.communicate()

    second = site.homelab("--via", via)
    said, _ = second.communicate(timeout=PATIENCE_S)

    assert second.returncode == 0, said
    vms = [vm for node in NODES for vm in site.get(f"/nodes/{node}/qemu")]
    assert [vm["name"] for vm in vms] == [f"k3s-vm-{node}" for node in NODES]
    assert {vm["status"] for vm in vms} == {"running"}
    assert not [vm for vm in vms if "homelab-unfinished" in vm.get("tags", "")]
    assert {volume["vmid"] for volume in site.get("/nodes/pve3/storage/local/content?content=images")} == {102}
