"""The system journal of a guest, kept on its disk, and `journalctl`."""

from __future__ import annotations

import datetime
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pvelab.guest.options import BadOption, Grammar, Options

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine
    from pvelab.machine import Process

_KEPT_ENTRIES = 5000
_UNITS_S = dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0)
_UNITS_S |= dict.fromkeys(("m", "min", "minute", "minutes"), 60.0) | dict.fromkeys(("h", "hour", "hours"), 3600.0)
_GRAMMAR = Grammar(
    flags=("no-pager", "pager-end", "catalog", "quiet", "reverse", "boot", "all", "utc"),
    values=("unit", "lines", "output", "since", "grep"),
    short={"u": "unit", "n": "lines", "o": "output", "e": "pager-end", "x": "catalog", "q": "quiet", "r": "reverse"}
    | {"b": "boot", "a": "all", "S": "since", "g": "grep"},
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal."""

    time_s: float
    boot_id: str
    unit: str
    identifier: str
    text: str


@dataclass(slots=True)
class Journal:
    """The newest entries, over all boots of the disk."""

    now: Callable[[], float]
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=_KEPT_ENTRIES))

    def write(self, boot_id: str, unit: str, identifier: str, text: str) -> None:
        """Append a line."""
        self.entries.append(Entry(self.now(), boot_id, unit, identifier, text))

    def of(self, unit: str) -> list[str]:
        """The texts of one unit, oldest first."""
        return [entry.text for entry in self.entries if entry.unit == unit]


async def journalctl(guest: GuestMachine, process: Process) -> int:
    """Show entries, oldest first, as `journalctl` does."""
    try:
        options = _GRAMMAR.parse(process.argv[1:])
    except BadOption as problem:
        process.complain(f"journalctl: unrecognized option '{problem}'")
        return 1
    if options.words:
        process.complain(f"Failed to add match '{options.words[0]}': Invalid argument")
        return 1
    try:
        entries = _chosen(guest, options)
    except ValueError as problem:
        process.complain(str(problem))
        return 1
    output = options.value("output", "short")
    if output not in _FORMATS:
        process.complain(f"Unknown output format '{output}'.")
        return 1
    if not entries and "quiet" not in options:
        process.print("-- No entries --")
    for entry in entries:
        process.print(_FORMATS[output](guest.hostname, entry))
    return 0


def _chosen(guest: GuestMachine, options: Options) -> list[Entry]:
    units = {unit if "." in unit else f"{unit}.service" for unit in options.values.get("unit", [])}
    entries = [entry for entry in guest.journal.entries if not units or entry.unit in units]
    if "boot" in options:
        entries = [entry for entry in entries if entry.boot_id == guest.boot_id]
    if "grep" in options:
        entries = [entry for entry in entries if re.search(options.value("grep"), entry.text)]
    if "since" in options:
        since = _moment(options.value("since"), guest.clock.now())
        entries = [entry for entry in entries if entry.time_s >= since]
    lines = options.value("lines", "1000" if "pager-end" in options else "all")
    if lines != "all" and not lines.isdigit():
        raise ValueError(f"Failed to parse lines '{lines}'")
    entries = entries if lines == "all" else entries[max(0, len(entries) - int(lines)) :]
    return entries[::-1] if "reverse" in options else entries


def _moment(text: str, now: float) -> float:
    """A point in time as --since takes it: @UNIX, -5min, "5 minutes ago", or a date with time in UTC."""
    if re.fullmatch(r"@\d+(\.\d+)?", text):
        return float(text[1:])
    ago = re.fullmatch(r"-(\d+)\s*([a-z]*)|(\d+)\s*([a-z]+)\s+ago", text)
    if ago:
        number, unit = (ago[1], ago[2]) if ago[1] else (ago[3], ago[4])
        if unit in _UNITS_S:
            return now - float(number) * _UNITS_S[unit]
    try:
        return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()
    except ValueError:
        raise ValueError(f"Failed to parse timestamp: {text}") from None


def _cat(_hostname: str, entry: Entry) -> str:
    return entry.text


def _short(hostname: str, entry: Entry) -> str:
    time = datetime.datetime.fromtimestamp(entry.time_s, datetime.UTC)
    return f"{time:%b %d %H:%M:%S} {hostname} {entry.identifier}: {entry.text}"


def _iso(hostname: str, entry: Entry) -> str:
    time = datetime.datetime.fromtimestamp(entry.time_s, datetime.UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S+00:00} {hostname} {entry.identifier}: {entry.text}"


_FORMATS: dict[str, Callable[[str, Entry], str]] = {"cat": _cat, "short": _short, "short-iso": _iso}
