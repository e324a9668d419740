"""`systemctl`, as far as services go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pvelab.guest.options import BadOption, Grammar, Options
from pvelab.guest.systemd import NoSuchUnit, Unit

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine
    from pvelab.machine import Process

_GRAMMAR = Grammar(
    flags=("no-block", "now", "quiet", "no-pager", "value", "full", "system", "no-ask-password", "force", "all"),
    values=("property", "lines", "output"),
    short={"p": "property", "q": "quiet", "l": "full", "n": "lines", "o": "output", "f": "force", "a": "all"},
)
_NOT_RUNNING, _UNKNOWN, _NOT_LOADED = 3, 4, 5
_POLL_S = 1.0
_PATIENCE_S = 3600.0
_NEEDS_ROOT = {"start", "stop", "restart", "enable", "disable", "daemon-reload", "reset-failed"}


async def systemctl(guest: GuestMachine, process: Process) -> int:
    """Run one verb on its units, in the order given."""
    try:
        options = _GRAMMAR.parse(process.argv[1:])
    except BadOption as problem:
        process.complain(f"systemctl: unrecognized option '{problem}'")
        return 1
    verb, *names = options.words or ["list-units"]
    if verb in _VERBS:
        if verb in _NEEDS_ROOT and process.user != "root":
            process.complain(f"Failed to {verb} {' '.join(names)}: Interactive authentication required.")
            return 1
        return await _VERBS[verb](guest, process, options, names)
    process.complain(f"Unknown command verb {verb}.")
    return 1


async def _start(guest: GuestMachine, process: Process, options: Options, names: list[str]) -> int:
    code = 0
    for name in names:
        code = await _start_one(guest, process, name, waits="no-block" not in options) or code
    return code


async def _start_one(guest: GuestMachine, process: Process, name: str, *, waits: bool) -> int:
    try:
        unit = guest.systemd.find(name)
    except NoSuchUnit as missing:
        process.complain(f"Failed to start {missing}: Unit {missing} not found.")
        return _NOT_LOADED
    if unit.run is None:
        guest.systemd.start(unit)
    return await _outcome(guest, process, unit) if waits else 0


async def _outcome(guest: GuestMachine, process: Process, unit: Unit) -> int:
    """Wait for the job as `systemctl start` does: for ever, where the unit sets no limit."""
    run = unit.run
    waited_s = 0.0
    while run and unit.run is run and unit.active == "activating":
        if waited_s < _PATIENCE_S:
            await guest.clock.sleep(_POLL_S)
            waited_s += _POLL_S
        else:
            await guest.is_off.wait()
            return 1
    if run is not None and unit.run is run:
        return 0
    process.complain(f"Job for {unit.name} failed because the control process exited with error code.")
    process.complain(f'See "systemctl status {unit.name}" and "journalctl -xeu {unit.name}" for details.')
    return 1


async def _stop(guest: GuestMachine, process: Process, _options: Options, names: list[str]) -> int:
    code = 0
    for name in names:
        try:
            guest.systemd.stop(guest.systemd.find(name))
        except NoSuchUnit as missing:
            process.complain(f"Failed to stop {missing}: Unit {missing} not loaded.")
            code = _NOT_LOADED
    return code


async def _restart(guest: GuestMachine, process: Process, options: Options, names: list[str]) -> int:
    code = 0
    for name in names:
        try:
            guest.systemd.stop(guest.systemd.find(name))
        except NoSuchUnit as missing:
            process.complain(f"Failed to restart {missing}: Unit {missing} not found.")
            code = _NOT_LOADED
            continue
        code = await _start_one(guest, process, name, waits="no-block" not in options) or code
    return code


async def _enable(guest: GuestMachine, process: Process, options: Options, names: list[str]) -> int:
    for name in names:
        try:
            unit = guest.systemd.find(name.rsplit("/", 1)[-1])
        except NoSuchUnit as missing:
            process.complain(f"Failed to enable unit: Unit file {missing} does not exist.")
            return 1
        link = guest.systemd.enable(unit)
        if link and "quiet" not in options:
            process.complain(f"Created symlink {link} → {unit.path}.")
    return await _start(guest, process, options, names) if "now" in options else 0


async def _disable(guest: GuestMachine, process: Process, options: Options, names: list[str]) -> int:
    for name in names:
        full = name if "." in name else f"{name}.service"
        link = guest.systemd.disable(full)
        if link and "quiet" not in options:
            process.complain(f'Removed "{link}".')
        if not link and not _exists(guest, full):
            process.complain(f"Failed to disable unit: Unit file {full} does not exist.")
            return 1
    return await _stop(guest, process, options, names) if "now" in options else 0


def _exists(guest: GuestMachine, name: str) -> bool:
    try:
        guest.systemd.find(name)
    except NoSuchUnit:
        return False
    return True


async def _is_active(guest: GuestMachine, process: Process, options: Options, names: list[str]) -> int:
    return _check(guest, process, options, (names, "active", _NOT_RUNNING))


async def _is_failed(guest: GuestMachine, process: Process, options: Options, names: list[str]) -> int:
    return _check(guest, process, options, (names, "failed", 1))


def _check(guest: GuestMachine, process: Process, options: Options, asked: tuple[list[str], str, int]) -> int:
    """Is any of the units in that state? Source: systemd 253 and newer, 4 where a unit does not exist."""
    names, wanted, otherwise = asked
    known = [_exists(guest, name) for name in names]
    pairs = zip(names, known, strict=True)
    states = [guest.systemd.find(name).active if exists else "inactive" for name, exists in pairs]
    for state in states if "quiet" not in options else []:
        process.print(state)
    return 0 if wanted in states else otherwise if all(known) else _UNKNOWN


async def _is_enabled(guest: GuestMachine, process: Process, options: Options, names: list[str]) -> int:
    code = 0
    for name in names:
        state = guest.systemd.file_state(guest.systemd.find(name)) if _exists(guest, name) else "not-found"
        if "quiet" not in options:
            process.print(state)
        code = {"enabled": 0, "static": 0, "disabled": 1}.get(state, _UNKNOWN) or code
    return code


async def _show(guest: GuestMachine, process: Process, options: Options, names: list[str]) -> int:
    for number, name in enumerate(names):
        shown = _properties(guest, name)
        asked = [one for text in options.values.get("property", []) for one in text.split(",")]
        if number:
            process.print("")
        for key, value in shown.items():
            if not asked or key in asked:
                process.print(value if "value" in options else f"{key}={value}")
    return 0


def _properties(guest: GuestMachine, name: str) -> dict[str, str]:
    full = name if "." in name else f"{name}.service"
    if not _exists(guest, full):
        return {"MainPID": "0", "Result": "success", "NRestarts": "0", "ExecMainStatus": "0", "Id": full} | {
            "LoadState": "not-found",
            "ActiveState": "inactive",
            "SubState": "dead",
            "UnitFileState": "",
        }
    unit = guest.systemd.find(full)
    return {
        "MainPID": str(unit.main_pid),
        "Result": unit.result,
        "NRestarts": str(unit.restarts),
        "ExecMainStatus": str(unit.exit_status),
        "Id": unit.name,
        "Description": guest.systemd.description(unit),
        "LoadState": "loaded",
        "ActiveState": unit.active,
        "SubState": unit.sub,
        "FragmentPath": unit.path,
        "UnitFileState": guest.systemd.file_state(unit),
    }


async def _status(guest: GuestMachine, process: Process, options: Options, names: list[str]) -> int:
    code = 0
    for name in names:
        if not _exists(guest, name):
            process.complain(f"Unit {name if '.' in name else name + '.service'} could not be found.")
            code = _UNKNOWN
            continue
        unit = guest.systemd.find(name)
        mark = {"active": "●", "failed": "×"}.get(unit.active, "○")
        process.print(f"{mark} {unit.name} - {guest.systemd.description(unit)}")
        process.print(f"     Loaded: loaded ({unit.path}; {guest.systemd.file_state(unit)}; preset: enabled)")
        process.print(f"     Active: {unit.active} ({unit.sub})")
        process.print("")
        for text in guest.journal.of(unit.name)[-int(options.value("lines", "10")) :]:
            process.print(text)
        code = code or (0 if unit.active in ("active", "activating") else _NOT_RUNNING)
    return code


async def _nothing(_guest: GuestMachine, _process: Process, _options: Options, _names: list[str]) -> int:
    return 0


async def _reset_failed(guest: GuestMachine, _process: Process, _options: Options, names: list[str]) -> int:
    for unit in guest.systemd.units.values():
        if unit.active == "failed" and (not names or unit.name.removesuffix(".service") in names):
            unit.is_now("inactive", "dead")
            unit.restarts, unit.result = 0, "success"
    return 0


async def _is_system_running(guest: GuestMachine, process: Process, _options: Options, _names: list[str]) -> int:
    states = {unit.active for unit in guest.systemd.units.values()}
    state = "starting" if not guest.is_booted else "degraded" if "failed" in states else "running"
    process.print(state)
    return 0 if state == "running" else 1


async def _cat(guest: GuestMachine, process: Process, _options: Options, names: list[str]) -> int:
    for name in names:
        if not _exists(guest, name):
            process.complain(f"No files found for {name if '.' in name else name + '.service'}.")
            return 1
        path = guest.systemd.find(name).path
        process.print(f"# {path}")
        process.out += guest.files.read(path)
    return 0


Verb = Callable[["GuestMachine", "Process", Options, list[str]], Awaitable[int]]
_VERBS: dict[str, Verb] = {
    "cat": _cat,
    "daemon-reload": _nothing,
    "disable": _disable,
    "enable": _enable,
    "is-active": _is_active,
    "is-enabled": _is_enabled,
    "is-failed": _is_failed,
    "is-system-running": _is_system_running,
    "reset-failed": _reset_failed,
    "restart": _restart,
    "show": _show,
    "start": _start,
    "status": _status,
    "stop": _stop,
}
