"""What coverage need not watch, as no line of the tool runs there: threads of the lab and of SSH connections, requests.

Until Python 3.12 a trace function slows every line down that runs below it, whoever has written it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import paramiko
import pytest
import requests
from urllib3.connection import HTTPConnection

PARTS_OF_A_REQUEST: tuple[tuple[type, str], ...] = (
    (requests.Session, "prepare_request"),
    (requests.Session, "merge_environment_settings"),
    (HTTPConnection, "getresponse"),
)
"""The costly ones that call nothing of the tool's."""


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


def leave_requests_unwatched(patch: pytest.MonkeyPatch) -> None:
    """What requests and urllib3 do for each request runs without coverage's trace function."""
    for owner, name in PARTS_OF_A_REQUEST:
        patch.setattr(owner, name, _unwatched(getattr(owner, name)))


def _unwatched(work: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(work)
    def alone(*words: Any, **options: Any) -> Any:
        watch = sys.gettrace()
        sys.settrace(None)
        try:
            return work(*words, **options)
        finally:
            sys.settrace(watch)

    return alone
