"""Questions to a person at a terminal, to be answered by y; wherever nobody is there, nobody is asked."""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from homelab.report import Report
from homelab.runtime import calls_away

YES = ("y", "yes")


@dataclass(frozen=True, slots=True)
class Questions:
    """Asked on stderr, one at a time."""

    report: Report
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    @property
    def can_be_asked(self) -> bool:
        """Is this a run by hand, with a terminal to read the question from and to answer it on?"""
        if self.report.is_json or self.report.is_quiet or self.report.is_cron:
            return False
        return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))

    def agreed(self, lines: Sequence[str], question: str) -> bool:
        """Show the lines and ask; everything but yes means no, the end of the input or of the run too."""
        with self._one_at_a_time:
            if select.select(calls_away(), [], [], 0)[0]:
                return False
            for line in ("", *lines):
                self.report.progress(line)
            sys.stderr.write(f"{question} [y/N] ")
            sys.stderr.flush()
            try:
                return _typed().strip().lower() in YES
            except (OSError, UnicodeDecodeError):
                return False


def _typed() -> str:
    """The line that is typed next; empty when the run is to end before. A terminal hands over one line at a time."""
    ready, _, _ = select.select([sys.stdin, *calls_away()], [], [])
    return sys.stdin.readline() if sys.stdin in ready else ""
