"""Ages as Kubernetes shows them."""

from __future__ import annotations

import calendar
import time

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def age(timestamp: str, now: float) -> str:
    """How long ago, in the short form."""
    seconds = max(0, int(now - calendar.timegm(time.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ"))))
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    if seconds < 10 * _MINUTE:
        return f"{seconds // _MINUTE}m" + (f"{seconds % _MINUTE}s" if seconds % _MINUTE else "")
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 8 * _HOUR:
        return f"{seconds // _HOUR}h" + (f"{seconds % _HOUR // _MINUTE}m" if seconds % _HOUR >= _MINUTE else "")
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    if seconds < 8 * _DAY:
        return f"{seconds // _DAY}d" + (f"{seconds % _DAY // _HOUR}h" if seconds % _DAY >= _HOUR else "")
    return f"{seconds // _DAY}d"
