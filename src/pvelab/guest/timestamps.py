"""Times as Kubernetes and the logs write them."""

from __future__ import annotations

import datetime


def timestamp(unix_time_s: float) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return datetime.datetime.fromtimestamp(unix_time_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
