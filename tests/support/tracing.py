"""Threads that coverage need not watch: the lab's, which is not measured and does most of the work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def threads_unwatched() -> Iterator[None]:
    """Threads that are started within, and later by them on their event loop, run without coverage's trace function."""
    watch = threading.gettrace()
    threading.settrace(None)
    try:
        yield
    finally:
        threading.settrace(watch)
