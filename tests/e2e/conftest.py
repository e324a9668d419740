"""The tool in one process with the lab: real sockets, one clock that moves only when somebody waits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from homelab import main as tool
from homelab import memory
from homelab.commands import delete_vm
from pvelab.lab import Lab
from support.clock import SteppingClock
from support.names import without_name_server
from support.request_check import request_findings
from support.terminal import terminal
from support.tracing import threads_unwatched

WIRES = ("api", "ssh")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the tool, as its user sees it."""

    exit_code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Homelab:
    """Runs the tool's commands against a lab, with nothing of this machine's environment."""

    def __init__(self, lab: Lab, clock: SteppingClock, home: Path, capture: pytest.CaptureFixture[str]) -> None:
        self._lab = lab
        self._clock = clock
        self.home = home
        self._capture = capture

    def __call__(self, *arguments: str, **settings: str | None) -> Run:
        """`python -m homelab.main ARGUMENTS` with the lab's .env; a setting of None leaves the key out."""
        return self.with_file(self._env_file(settings), {}, *arguments)

    def with_file(self, env_file: Path, environment: Mapping[str, str], *arguments: str) -> Run:
        """`python -m homelab.main --env FILE ARGUMENTS` with these variables in the environment."""
        words = ["--env", str(env_file), *arguments]
        return self._run(lambda: tool.main(words, clock=self._clock), environment)

    def at_terminal(self, typed: str, *arguments: str, **settings: str | None) -> Run:
        """`python -m homelab.main ARGUMENTS` by hand on a terminal; `typed` are the answers, a line for each."""
        words = ["--env", str(self._env_file(settings)), *arguments]
        with pytest.MonkeyPatch.context() as patch, terminal(typed, patch) as screen:
            run = self._run(lambda: tool.main(words, clock=self._clock), {})
        return replace(run, err=screen.text)

    def delete(
        self,
        *arguments: str,
        answer: str | None = None,
        ask: Callable[[str], str] | None = None,
        **settings: str | None,
    ) -> Run:
        """`scripts/delete_vm.py ARGUMENTS`; `answer` is what the person types, or what `ask` returns."""
        words = ["--env", str(self._env_file(settings)), *arguments]
        ask = ask if answer is None else lambda _: str(answer)
        return self._run(lambda: delete_vm.main(words, clock=self._clock, ask=ask), {})

    def state_folder(self) -> Path:
        """Where the tool's memory of the lab's cluster lies; made if need be."""
        names = frozenset(node.name for node in self._lab.spec.nodes)
        cluster = memory.Cluster(names, frozenset(self._lab.env["PVE_IPS"].split(", ")))
        folder = memory.find_folder(self.home / "state" / "homelab", cluster)
        memory.make_folder(folder)
        memory.note_cluster(folder, cluster)
        return folder

    def _env_file(self, settings: Mapping[str, str | None]) -> Path:
        return self._lab.write_env(self.home / "lab.env", **settings)

    def _run(self, command: Callable[[], int], environment: Mapping[str, str]) -> Run:
        with pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                patch.delenv(name)
            patch.setenv("HOME", str(self.home))
            patch.setenv("PATH", "/usr/bin:/bin")
            patch.setenv("XDG_STATE_HOME", str(self.home / "state"))
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.chdir(self.home)
            self._capture.readouterr()
            exit_code = command()
        said = self._capture.readouterr()
        return Run(exit_code, said.out, said.err)


@pytest.fixture(autouse=True)
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    without_name_server(monkeypatch)


@pytest.fixture(scope="session")
def shared_clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture(scope="session")
def session_lab(shared_clock: SteppingClock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(folder=tmp_path_factory.mktemp("lab"), clock=shared_clock)
    with threads_unwatched():
        lab.start()
    yield lab
    lab.stop()


@pytest.fixture
def lab(session_lab: Lab) -> Lab:
    session_lab.reset()
    return session_lab


@pytest.fixture(autouse=True)
def requests_as_published(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test had the lab asked is what Proxmox VE's schema allows, unless the test is about a slip."""
    asked: Lab | None = request.getfixturevalue("lab") if "lab" in request.fixturenames else None
    yield
    findings = request_findings(asked.requests if asked else ())
    assert bool(findings) == bool(request.node.get_closest_marker("against_schema")), findings


@pytest.fixture
def homelab(lab: Lab, shared_clock: SteppingClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Homelab:
    return Homelab(lab, shared_clock, tmp_path, capsys)


@pytest.fixture(params=WIRES)
def via(request: pytest.FixtureRequest) -> str:
    return str(request.param)
