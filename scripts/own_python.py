"""Has a script go on in the project's .venv when another Python has started it."""

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PYTHON = PROJECT / ".venv" / "bin" / "python"


def go_on() -> None:
    """Returns where this is the .venv's Python already, or there is no .venv yet."""
    if PYTHON.exists() and Path(sys.prefix) != PYTHON.parents[1]:
        os.execv(PYTHON, [str(PYTHON), *sys.argv])
