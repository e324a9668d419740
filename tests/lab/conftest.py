"""One lab and one stage for all tests of this folder, anew before each; their time moves only when a test lets it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvelab.lab import Lab
from replay.stage import Stage
from support.clock import SteppingClock
from support.tracing import threads_unwatched


@pytest.fixture(scope="session")
def running_lab() -> Iterator[Lab]:
    with threads_unwatched():
        lab = Lab(clock=SteppingClock())
        lab.start()
    yield lab
    lab.stop()


@pytest.fixture
def lab(running_lab: Lab) -> Lab:
    running_lab.reset()
    return running_lab


@pytest.fixture(scope="session")
def one_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with threads_unwatched():
        made = Stage(tmp_path_factory.mktemp("stage"))
    yield made
    made.close()


@pytest.fixture
def stage(one_stage: Stage) -> Stage:
    """In the state of the recordings."""
    one_stage.reset()
    return one_stage
