"""For the whole suite: what was imported and collected stays, and need not be looked through for garbage."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Keep everything that exists by now out of the garbage collector's rounds, a tenth of all the time otherwise."""
    gc.collect()
    gc.freeze()
