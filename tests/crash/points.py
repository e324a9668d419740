"""The moments at which a run is killed: each of its writes, before, after and during."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from pvelab.interception import Arrival
from pvelab.state import Action

SHOWN = 100
_BEFORE_COMMAND = re.compile(r"(?:sudo(?: -\S+)* |env |\w+=\S* )*")
_OWN_NAMES: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"\.[0-9a-f]{6,}\.part"), ".*.part"),
    (re.compile(r"(/tmp/\.?[a-z-]+)\.\w{6,}"), r"\1.*"),
    (re.compile(r" --digest \w+"), ""),
    (re.compile(r" --comment '[^']*'"), " --comment ..."),
    (re.compile(r"(k3s token delete) \w+"), r"\1 *"),
    (re.compile(r"127\.\d+\.\d+\.\d+"), "ADDRESS"),
)
"""What differs from run to run."""
_STARTS_TASK = re.compile(
    r"(POST /nodes/[^/]+/qemu|DELETE /nodes/[^/]+/qemu/\d+|PUT /nodes/.*/resize|POST /nodes/.*/(config|status/\w+)"
    r"|POST /nodes/.*/(download-url|upload))"
)
_KIND_WORDS = re.compile(r"(?<![\w/.-])[a-z]\w+(?![\w/.])")
"""Words that are neither options nor paths nor numbers."""
_TAKES_NO_TIME = re.compile(r"(mkdir|mv|rm|mktemp|systemctl|touch|chmod|ln)\b")


class Moment(Enum):
    """When, as seen from the write."""

    BEFORE = "before"
    AFTER = "after"
    DURING = "during"


@dataclass(frozen=True, slots=True, order=True)
class Write:
    """A write by what it is: the `number`th of its like on that machine."""

    machine: str
    what: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.machine} {self.what} #{self.number}"

    @property
    def kind(self) -> str:
        """What it is, wherever and on whichever VM it is done: method and path, or the first words of a command."""
        if self._is_api:
            return re.sub(r"(?<=/nodes/)[^/]+|(?<=/storage/)[^/]+|(?<=/qemu/)\d+", "*", self.what)
        return " ".join(_KIND_WORDS.findall(self.what)[:3])

    @property
    def is_on_proxmox(self) -> bool:
        """Is it the wire to Proxmox that it goes by? To guests and to k3s there is only one."""
        return self._is_api or self.what.split()[0] in ("qm", "pvesh", "pvesm") or "/lib/vz" in self.what

    @property
    def comes_by_the_clock(self) -> bool:
        """Is it the renewal of the mark for other machines? A run that waits less does not come to it."""
        return self.what.startswith(("PUT /pools", "pvesh set /pools"))

    @property
    def _is_api(self) -> bool:
        return self.what.split()[0] in ("POST", "PUT", "DELETE")

    @property
    def moments(self) -> Iterator[Moment]:
        """The moments at which it makes a difference to be killed."""
        yield from (Moment.BEFORE, Moment.AFTER)
        if _STARTS_TASK.fullmatch(self.what) if self._is_api else not _TAKES_NO_TIME.match(self.what):
            yield Moment.DURING


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """One moment of one write."""

    write: Write
    moment: Moment

    def __str__(self) -> str:
        return f"{self.moment.value} {self.write}"


def what_is_written(arrival: Arrival) -> str:
    """One line for a write, the same in every run."""
    if arrival.method:
        return f"{arrival.method} {arrival.path}"
    line = without_prefix(" ".join(arrival.command_line.split()))
    for pattern, name in _OWN_NAMES:
        line = pattern.sub(name, line)
    return line[:SHOWN]


def without_prefix(command_line: str) -> str:
    """A command line without sudo and variables before the command."""
    return _BEFORE_COMMAND.sub("", command_line, count=1)


@dataclass(slots=True)
class Recorder:
    """Notes every write of a run; it lets them all through."""

    writes: list[Write] = field(default_factory=list)
    _seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def take(self, arrival: Arrival) -> Action | None:
        """As the lab's traps."""
        if arrival.is_write:
            key = (arrival.machine, what_is_written(arrival))
            self._seen[key] += 1
            self.writes.append(Write(*key, self._seen[key]))
        return None

    @property
    def points(self) -> list[CrashPoint]:
        """Every moment of every write, in their order."""
        return [CrashPoint(write, moment) for write in self.writes for moment in write.moments]


@dataclass(slots=True)
class Killer:
    """Kills the run at a point. What a dying run had sent before and the lab reads later counts as not sent."""

    point: CrashPoint
    kill: Callable[[], None]
    has_killed: bool = False
    _seen: int = 0
    _is_armed: bool = False

    def take(self, arrival: Arrival) -> Action | None:
        """As the lab's traps."""
        if self.has_killed:
            return Action("reset")
        if self._is_armed and "/tasks/" in arrival.path:
            self._end()
            return Action("reset")
        return self._hit(arrival) if self._is_meant(arrival) else None

    def _is_meant(self, arrival: Arrival) -> bool:
        write = self.point.write
        if not arrival.is_write or (arrival.machine, what_is_written(arrival)) != (write.machine, write.what):
            return False
        self._seen += 1
        return self._seen == write.number

    def _hit(self, arrival: Arrival) -> Action | None:
        if self.point.moment is Moment.BEFORE:
            self._end()
            return Action("reset")
        if self.point.moment is Moment.AFTER:
            return Action("reset-after", when_cut=self._end)
        if arrival.method and not arrival.path.endswith("/upload"):
            self._is_armed = True
            return None
        return Action("drop", when_cut=self._end)

    def _end(self) -> None:
        self.has_killed = True
        self.kill()
