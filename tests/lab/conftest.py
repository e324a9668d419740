"""One lab for all tests of this folder, back to fresh before each; its time moves only when a test lets it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvelab.lab import Lab
from support.clock import SteppingClock


@pytest.fixture(scope="session")
def running_lab() -> Iterator[Lab]:
    with Lab(clock=SteppingClock()) as lab:
        yield lab


@pytest.fixture
def lab(running_lab: Lab) -> Lab:
    running_lab.reset()
    return running_lab
