"""A lab, one clock, and runs of the tool against it that can be killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from crash.processes import Ended, Tool
from pvelab.lab import Lab
from pvelab.spec import LabSpec
from support.clock import SteppingClock

STATE = "state"
MEMORY = Path("/dev/shm")
ROOM_BYTES = 1 << 30


def _new_folder() -> Path:
    """In memory where there is room: what a killed process wrote stays there too, and no run waits for a disk."""
    is_roomy = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM_BYTES
    return Path(tempfile.mkdtemp(prefix="crash-", dir=MEMORY if is_roomy else None))


class Arena:
    """Begin it at a seed, run things in it, look at what is left. For `patience` see crash.warm."""

    def __init__(self, spec: LabSpec | None = None) -> None:
        self.folder = _new_folder()
        self.clock = SteppingClock()
        self.tool = Tool(self.clock, self.folder)
        self.lab = Lab(spec, folder=self.folder / "lab", clock=self.clock)
        self.home = self.folder / "home"
        self.patience = 1.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        self.lab.start()

    def close(self) -> None:
        self.tool.close()
        self.lab.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def begin(self, seed: str, options: Mapping[str, object] | None = None) -> None:
        """The lab at a seed, and a person's home where nothing has run yet."""
        self.lab.reset(seed, **(options or {}))
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()

    def homelab(self, *arguments: str, **settings: str | None) -> Ended:
        """`python -m homelab.main ARGUMENTS` with the lab's .env; a setting of None leaves the key out."""
        words = ("--env", str(self.lab.write_env(self.home / "lab.env", **settings)), *arguments)
        return self.tool.run("main", words, self.home, self.patience)

    def delete(self, *arguments: str, **settings: str | None) -> Ended:
        """`scripts/delete_vm.py ARGUMENTS`, likewise."""
        words = ("--env", str(self.lab.write_env(self.home / "lab.env", **settings)), *arguments)
        return self.tool.run("delete_vm", words, self.home, self.patience)

    def forget(self) -> None:
        """From now on runs are another machine's: nothing is known there of earlier ones."""
        shutil.rmtree(self.home / STATE, ignore_errors=True)

    def pass_time(self, seconds: float) -> None:
        """Let lab time pass, in steps that grow, so that what follows from one another happens in its order."""
        passed = 0.0
        while passed < seconds:
            step = min(seconds - passed, max(5.0, passed / 10))
            self.clock.advance(step)
            passed += step
