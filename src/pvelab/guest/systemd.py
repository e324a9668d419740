"""The service manager of a guest: units from files on its disk, their states, restarts and results."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine

ADMIN_FOLDER = "/etc/systemd/system"
VENDOR_FOLDER = "/usr/lib/systemd/system"
WANTS_FOLDER = f"{ADMIN_FOLDER}/multi-user.target.wants"
_FIRST_PID = 612
_EXEC_FAILED = 203


class NoSuchUnit(Exception):
    """There is no file for a unit of that name."""


class Program(Protocol):
    """What a service runs."""

    def start(self) -> None:
        """Begin; readiness and the end are told to the run it was made for."""

    def stop(self) -> None:
        """End now, by order or because the power went."""

    def pause(self) -> None:
        """The whole machine stands still."""

    def resume(self) -> None:
        """It goes on."""


class Idle:
    """A program of which nothing is to be seen, ready at once: sshd, cron and their like."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def start(self) -> None:
        """Be ready."""
        self._run.ready()

    def stop(self) -> None:
        """Nothing to end."""

    def pause(self) -> None:
        """Nothing to hold."""

    def resume(self) -> None:
        """Nothing to go on with."""


@dataclass(slots=True, eq=False)
class Unit:
    """A service and its state, in systemd's own words."""

    name: str
    path: str
    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    restarts: int = 0
    exit_status: int = 0
    main_pid: int = 0
    run: Run | None = None

    def is_now(self, active: str, sub: str) -> None:
        """Enter a state."""
        self.active, self.sub = active, sub


@dataclass(slots=True, eq=False, repr=False)
class Run:
    """One start of a service, until it ends; what it tells after that is ignored."""

    systemd: Systemd
    unit: Unit
    argv: list[str]
    env: Mapping[str, str]
    program: Program | None = None

    @property
    def guest(self) -> GuestMachine:
        """The machine it runs on."""
        return self.systemd.guest

    @property
    def is_current(self) -> bool:
        """Has it not ended yet?"""
        return self.unit.run is self

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call back in the machine's own time, unless the run has ended by then."""
        self.guest.after(delay_s, lambda: callback() if self.is_current else None)

    def log(self, text: str) -> None:
        """Write a line to the journal under the unit's name."""
        identifier = f"{posixpath.basename(self.argv[0])}[{self.unit.main_pid}]"
        self.guest.journal.write(self.guest.boot_id, self.unit.name, identifier, text)

    def ready(self) -> None:
        """The service is up (READY=1)."""
        if self.is_current and self.unit.active == "activating":
            self.unit.is_now("active", "running")
            self.systemd.note(self.unit, f"Started {self.unit.name} - {self.systemd.description(self.unit)}.")

    def exited(self, status: int) -> None:
        """The main process ended by itself."""
        if self.is_current:
            self.systemd.main_process_exited(self, status)


@dataclass(slots=True, eq=False, repr=False)
class Systemd:
    """All units of one boot of a machine."""

    guest: GuestMachine
    programs: Callable[[Run], Program | None]
    units: dict[str, Unit] = field(default_factory=dict)
    _next_pid: int = _FIRST_PID

    def find(self, name: str) -> Unit:
        """The unit of that name, `.service` supplied. Raises NoSuchUnit."""
        full = name if "." in name else f"{name}.service"
        path = self._path(full)
        if not path:
            if full in self.units and self.units[full].active != "inactive":
                return self.units[full]
            raise NoSuchUnit(full)
        unit = self.units.setdefault(full, Unit(full, path))
        unit.path = path
        return unit

    def description(self, unit: Unit) -> str:
        """The unit's Description, or its name."""
        return self._options(unit).get("Description", [unit.name])[-1]

    def start(self, unit: Unit) -> None:
        """Begin to start a unit that is not active; its state shows how it goes on."""
        if unit.run is None:
            unit.restarts = 0 if unit.sub != "auto-restart" else unit.restarts
            self._launch(unit)

    def stop(self, unit: Unit) -> None:
        """Stop a unit and cancel its restart."""
        self._end(unit)
        if unit.active != "inactive":
            unit.is_now("inactive", "dead")
            self.note(unit, f"Stopped {unit.name} - {self.description(unit)}.")
        unit.result, unit.restarts = "success", 0

    def main_process_exited(self, run: Run, status: int) -> None:
        """A main process ended: failed or done, and restarted where the unit says so."""
        unit = run.unit
        self._end(unit)
        unit.exit_status = status
        unit.result = "exit-code" if status else "success"
        text = f"code=exited, status={status}/{'FAILURE' if status == 1 else 'n/a' if status else 'SUCCESS'}"
        self.note(unit, f"{unit.name}: Main process exited, {text}")
        if status:
            self.note(unit, f"{unit.name}: Failed with result 'exit-code'.")
        options = self._options(unit)
        policy = options.get("Restart", ["no"])[-1]
        if policy != "always" and not (policy == "on-failure" and status):
            unit.is_now("failed" if status else "inactive", "failed" if status else "dead")
            return
        unit.is_now("activating", "auto-restart")
        delay_s = float(options.get("RestartSec", ["0.1"])[-1].removesuffix("s"))
        self.guest.after(delay_s, lambda: self._restart(unit))

    def enable(self, unit: Unit) -> str:
        """Have the unit started at boot; the link that was made, empty if it is there already."""
        link = f"{WANTS_FOLDER}/{unit.name}"
        if self.guest.files.exists(link):
            return ""
        self.guest.files.make_folder(WANTS_FOLDER, parents=True)
        self.guest.files.make_link(link, unit.path)
        return link

    def disable(self, unit_name: str) -> str:
        """Have the unit started at boot no longer; the link that was removed, if there was one."""
        link = f"{WANTS_FOLDER}/{unit_name}"
        if unit_name not in self._wanted():
            return ""
        self.guest.files.remove(link)
        return link

    def file_state(self, unit: Unit) -> str:
        """enabled, disabled, or static for a unit without [Install]."""
        if unit.name in self._wanted():
            return "enabled"
        return "disabled" if "WantedBy" in self._options(unit) else "static"

    def boot(self) -> None:
        """Start what is enabled."""
        for name in self._wanted():
            if self._path(name):
                self.start(self.find(name))

    def halt(self) -> None:
        """The power is gone: everything ends and nobody writes about it."""
        for unit in self.units.values():
            self._end(unit)

    def running(self) -> list[Program]:
        """The programs of services that run."""
        return [unit.run.program for unit in self.units.values() if unit.run and unit.run.program]

    def note(self, unit: Unit, text: str) -> None:
        """What systemd itself writes to the journal about a unit."""
        self.guest.journal.write(self.guest.boot_id, unit.name, "systemd[1]", text)

    def _restart(self, unit: Unit) -> None:
        if unit.sub != "auto-restart" or not self._path(unit.name):
            return
        unit.restarts += 1
        self.note(unit, f"{unit.name}: Scheduled restart job, restart counter is at {unit.restarts}.")
        self._launch(unit)

    def _launch(self, unit: Unit) -> None:
        options = self._options(unit)
        argv = shlex.split(options.get("ExecStart", [""])[-1]) or ["/bin/false"]
        run = Run(self, unit, argv, self._environment(options))
        unit.run, unit.main_pid, unit.result = run, self._next_pid, "success"
        self._next_pid += 7
        unit.is_now("activating", "start")
        self.note(unit, f"Starting {unit.name} - {self.description(unit)}...")
        run.program = self.programs(run)
        if run.program:
            run.program.start()
        else:
            self.note(unit, f"{unit.name}: Failed to locate executable {argv[0]}: No such file or directory")
            run.exited(_EXEC_FAILED)

    def _end(self, unit: Unit) -> None:
        run, unit.run, unit.main_pid = unit.run, None, 0
        if run and run.program:
            run.program.stop()

    def _path(self, name: str) -> str:
        paths = (f"{folder}/{name}" for folder in (ADMIN_FOLDER, VENDOR_FOLDER))
        return next((path for path in paths if self.guest.files.is_file(path)), "")

    def _wanted(self) -> list[str]:
        folder = WANTS_FOLDER
        return self.guest.files.names(folder) if self.guest.files.is_folder(folder) else []

    def _options(self, unit: Unit) -> dict[str, list[str]]:
        if not self.guest.files.is_file(unit.path):
            return {}
        text = re.sub(r"\\\n\s*", " ", self.guest.files.read(unit.path).decode())
        found: dict[str, list[str]] = {}
        for line in text.splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith(("#", ";")):
                found.setdefault(name.strip(), []).append(value.strip())
        return found

    def _environment(self, options: Mapping[str, list[str]]) -> dict[str, str]:
        values: dict[str, str] = {}
        for path in options.get("EnvironmentFile", []):
            plain = path.removeprefix("-")
            if self.guest.files.is_file(plain):
                lines = shlex.split(self.guest.files.read(plain).decode(), comments=True)
                values |= {name: value for name, _, value in (line.partition("=") for line in lines)}
        return values
