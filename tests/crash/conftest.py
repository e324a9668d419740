"""The arenas of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crash.arena import Arena
from pvelab.spec import LabSpec, nodes_called
from support.tracing import threads_unwatched


@pytest.fixture(scope="session")
def arena() -> Iterator[Arena]:
    yield from _arena(Arena())


@pytest.fixture(scope="session")
def wide_arena() -> Iterator[Arena]:
    """One with four nodes."""
    yield from _arena(Arena(LabSpec(nodes=nodes_called("4"))))


def _arena(arena: Arena) -> Iterator[Arena]:
    with threads_unwatched():
        arena.start()
    try:
        yield arena
    finally:
        arena.close()
