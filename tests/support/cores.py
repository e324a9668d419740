"""Which core a process of the tests works on."""

from __future__ import annotations

import os


def stay_on_core(number: int) -> None:
    """Work on one core from now on, with all threads and children; numbers begin again after the last core.

    The tool, the lab and the threads of both take turns all the time. On one core that is a fifth less work than on
    two, where they wake each other across cores and wait for the interpreter's lock. Without effect on macOS.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
