"""How a tool shows what an API call returned, in the format asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from pvelab.commands.tables import text_table
from pvelab.commands.tool import pretty
from pvelab.machine import Process


def show(process: Process, data: Any, formats: Mapping[str, str], returns: Mapping[str, Any]) -> None:
    """Print data: `formats` are the output options by name, `returns` is the schema of the data."""
    form = formats.get("output-format", "text")
    if data is None or formats.get("quiet") == "1":
        return
    if form == "json":
        process.print(json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    elif form == "json-pretty":
        process.print(pretty(data))
    elif form == "yaml":
        process.print(yaml.safe_dump(data, explicit_start=True, default_flow_style=False).rstrip("\n"))
    else:
        for line in text_table(data, returns, formats):
            process.print(line)
