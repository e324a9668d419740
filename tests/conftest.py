"""For the whole suite: what was imported stays, no garbage to look through; files with secrets are nobody else's."""

from __future__ import annotations

import gc
import os
import signal

import pytest

from support.cores import stay_on_core
from support.quiet_ssh import leave_packets_unlogged
from support.tracing import leave_connections_unwatched, leave_requests_unwatched

os.umask(0o077)
"""As somebody has it who writes a `.env`: homelab warns of one that others may read."""


def pytest_collection_finish() -> None:
    """Keep everything that exists by now out of the garbage collector's rounds, a tenth of all the time otherwise."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """Whatever a shell in the background starts has Ctrl-C ignored, and so have its children: here it counts again."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        stay_on_core(int(worker.removeprefix("gw")))
    leave_packets_unlogged()
    leave_connections_unwatched(pytest.MonkeyPatch())
    leave_requests_unwatched(pytest.MonkeyPatch())
