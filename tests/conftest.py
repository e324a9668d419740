"""For the whole suite: what was imported stays, no garbage to look through; files with secrets are nobody else's."""

from __future__ import annotations

import gc
import os

import pytest

from support.tracing import leave_connections_unwatched

os.umask(0o077)
"""As somebody has it who writes a `.env`: homelab warns of one that others may read."""


def pytest_collection_finish() -> None:
    """Keep everything that exists by now out of the garbage collector's rounds, a tenth of all the time otherwise."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    leave_connections_unwatched(pytest.MonkeyPatch())
