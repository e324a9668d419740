"""What a person who was not there has to be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Matter:
    """Something that is so until it is over. `node` is empty where it is about the run as a whole.

    A trouble is said every day, anything else once.
    """

    node: str
    text: str
    is_trouble: bool = True
