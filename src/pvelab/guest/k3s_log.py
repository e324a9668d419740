"""The lines that k3s writes to the journal."""

from __future__ import annotations

import datetime


def line(now: float, level: str, message: str) -> str:
    """A message in logrus's text format."""
    time = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    escaped = message.replace("\\", "\\\\").replace('"', '\\"')
    return f'time="{time}" level={level} msg="{escaped}"'
