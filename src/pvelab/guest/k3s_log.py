"""The lines that k3s writes to the journal."""

from __future__ import annotations

from pvelab.guest.timestamps import timestamp


def line(now: float, level: str, message: str) -> str:
    """A message in logrus's text format."""
    escaped = message.replace("\\", "\\\\").replace('"', '\\"')
    return f'time="{timestamp(now)}" level={level} msg="{escaped}"'
