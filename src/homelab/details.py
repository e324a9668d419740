"""What the rooms and the libraries log while a run lasts, and what this program did not expect: for the printer."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from homelab.errors import HomelabError, Problem

OWN = "homelab"
logger = logging.getLogger(__name__)

Tell = Callable[[int, str], None]
"""Gets the level of what is logged, and its text."""


class _Handler(logging.Handler):
    """Hands what is logged to the one printer: the whole text, with the exception that a record may carry."""

    def __init__(self, tell: Tell, *, is_verbose: bool) -> None:
        super().__init__()
        self._tell = tell
        self._is_verbose = is_verbose

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == OWN:
            self._tell(record.levelno, self.format(record))
        elif self._is_verbose:
            self._tell(logging.DEBUG, f"{record.name}: {self.format(record)}")


@contextmanager
def told(tell: Tell, *, is_verbose: bool) -> Iterator[None]:
    """What the rooms log is told while this lasts: warnings always, each request where `is_verbose`.

    What the libraries warn of is among the details. Raises HomelabError where this program has a defect.
    """
    root, own, handler = logging.getLogger(), logging.getLogger(OWN), _Handler(tell, is_verbose=is_verbose)
    own.setLevel(logging.DEBUG if is_verbose else logging.WARNING)
    root.addHandler(handler)
    try:
        yield
    except HomelabError:
        raise
    except Exception as error:
        problem = defect(error)
        raise HomelabError(problem.what, problem.why, problem.cure) from error
    finally:
        root.removeHandler(handler)
        own.setLevel(logging.NOTSET)


def defect(error: Exception) -> Problem:
    """Something that this program did not expect; where it happened is among the details."""
    logger.debug("%s", "".join(traceback.format_exception(error)))
    cure = "run again with -v and report what it prints"
    return Problem("defect in homelab", f"{type(error).__name__}: {error}", cure)
