"""One arena for all tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crash.arena import Arena
from support.tracing import threads_unwatched


@pytest.fixture(scope="session")
def arena() -> Iterator[Arena]:
    with threads_unwatched(), Arena() as made:
        yield made
