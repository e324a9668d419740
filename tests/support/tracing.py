"""Threads that coverage need not watch: the lab's, which is not measured and does most of the work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


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
