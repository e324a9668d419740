"""One lab and one stage for all tests of this folder, anew before each; their time moves only when a test lets it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvelab.lab import Lab
from replay.stage import Stage
from support.clock import SteppingClock


@pytest.fixture(scope="session")
def running_lab() -> Iterator[Lab]:
    with Lab(clock=SteppingClock()) as lab:
        yield lab


@pytest.fixture
def lab(running_lab: Lab) -> Lab:
    running_lab.reset()
    return running_lab


@pytest.fixture(scope="session")
def one_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("stage"))
    yield made
    made.close()


@pytest.fixture
def stage(one_stage: Stage) -> Stage:
    """In the state of the recordings."""
    one_stage.reset()
    return one_stage
