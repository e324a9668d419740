"""The lines that k3s writes to the journal."""

from __future__ import annotations

import datetime

from pvelab.guest.timestamps import timestamp


def line(now: float, level: str, message: str) -> str:
    """A message in logrus's text format."""
    escaped = message.replace("\\", "\\\\").replace('"', '\\"')
    return f'time="{timestamp(now)}" level={level} msg="{escaped}"'


def kubernetes_error(now: float, source: str, message: str) -> str:
    """An error of the Kubernetes components inside k3s, in klog's format."""
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return f"E{moment:%m%d %H:%M:%S}.000000     612 {source}] {message}"
