"""Further commands, a module each; what `python -m homelab.main NAME` does is `run` in the module of that name."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from homelab.report import Report
from homelab.runtime import Clock
from homelab.settings import Config, Via


class Command(Protocol):
    """Does its work and returns the exit code; what ends it is raised as for a run."""

    def __call__(self, config: Config, via: Via, report: Report, clock: Clock) -> int: ...


def chosen(name: str) -> Command:
    """The command of that name, one of cli.COMMANDS."""
    return cast(Command, import_module(f"homelab.commands.{name}").run)
