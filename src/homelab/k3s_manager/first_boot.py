"""What `cloud-init status` says of a machine's first boot, in one line. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from homelab import json_text

OVER = frozenset({"done", "error", "disabled", "degraded done"})
MOST_SHOWN = 300


def state(text: str) -> str:
    """The status, from JSON or (before 23.1) `status: ...`; empty: not understood."""
    if status := _document(text).get("status"):
        return str(status)
    plain = re.search(r"^status:\s*(.+?)\s*$", text, re.MULTILINE)
    return plain[1] if plain else ""


def progress(text: str) -> str:
    """How far it is: the status, and the stage where it names one."""
    document = _document(text)
    return f"{document.get('status')} ({document.get('detail')})" if document.get("detail") else in_one_line(text)


def troubles(text: str) -> str:
    """What it could not do: its errors, then those that it got over; empty where it names none."""
    document = _document(text)
    by_kind = document.get("recoverable_errors")
    lists = [document.get("errors"), *(by_kind.values() if isinstance(by_kind, Mapping) else ())]
    named = [str(one) for found in lists if isinstance(found, list) for one in found]
    return in_one_line("; ".join(dict.fromkeys(named)))


def in_one_line(text: str) -> str:
    """The text without its line breaks, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_SHOWN else f"{line[:MOST_SHOWN]} ..."


def _document(text: str) -> Mapping[str, Any]:
    """Empty for what is no JSON object, as the plain words of older releases."""
    try:
        document = json_text.read(text)
    except ValueError:
        return {}
    return document if isinstance(document, Mapping) else {}
