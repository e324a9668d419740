"""A real terminal (a pty) with a person at it who types what is given, and whose screen is kept."""

from __future__ import annotations

import os
import pty
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

END_OF_INPUT = b"\x04"
MOST_QUESTIONS = 40


@dataclass
class Screen:
    """What was shown; `text` is whole once the terminal is closed."""

    shown: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        return self.shown.decode().replace("\r\n", "\n")


@contextmanager
def terminal(typed: str, patch: pytest.MonkeyPatch) -> Iterator[Screen]:
    """Standard input and standard error are the terminal; after the last line typed its input is at its end."""
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    os.write(master, typed.encode() + END_OF_INPUT * MOST_QUESTIONS)
    screen = Screen()
    reader = threading.Thread(target=_read, args=(master, screen), daemon=True)
    reader.start()
    try:
        with open(os.dup(slave), encoding="utf-8") as keyboard, open(slave, "w", encoding="utf-8") as shown:  # noqa: PTH123
            patch.setattr(sys, "stdin", keyboard)
            patch.setattr(sys, "stderr", shown)
            yield screen
    finally:
        reader.join(5)
        os.close(master)


def _read(master: int, screen: Screen) -> None:
    """Until the other side is closed, which Linux tells as an error."""
    with suppress(OSError):
        while chunk := os.read(master, 1 << 16):
            screen.shown += chunk
