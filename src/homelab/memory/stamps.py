"""Times as they stand in notes and comments, for persons and for runs from other machines: 2026-11-22T12:00:00Z."""

from __future__ import annotations

from datetime import UTC, datetime

FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def stamp(at: float) -> str:
    """`at` is in Unix seconds."""
    return datetime.fromtimestamp(at, UTC).strftime(FORMAT)


def read_stamp(text: str) -> float | None:
    """In Unix seconds; None for what is no such time."""
    try:
        return datetime.strptime(text, FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
