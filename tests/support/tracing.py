"""Threads that coverage need not watch: the lab's, and those of SSH connections. No line of the tool runs in them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko
import pytest


@contextmanager
def threads_unwatched() -> Iterator[None]:
    """Threads that are started within run without coverage's trace function.

    Around the start of a thread only: around a fixture's yield it would hide the threads of every later test.
    """
    watch = threading.gettrace()
    threading.settrace(None)
    try:
        yield
    finally:
        threading.settrace(watch)


def leave_connections_unwatched(patch: pytest.MonkeyPatch) -> None:
    """The thread that paramiko begins for each connection runs without coverage's trace function."""
    work = paramiko.Transport.run

    def unwatched(connection: paramiko.Transport) -> None:
        sys.settrace(None)
        work(connection)

    patch.setattr(paramiko.Transport, "run", unwatched)
