"""The one table from API calls to commands of a Proxmox node. No secret ever stands in what it returns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homelab.errors import Refused

Values = Mapping[str, Any]

TABLE = {
    "POST /nodes/{node}/qemu": "qm create {vmid}",
    "PUT /nodes/{node}/qemu/{vmid}/config": "qm set {vmid}",
    "PUT /nodes/{node}/qemu/{vmid}/resize": "qm resize {vmid} {disk} {size}",
    "POST /nodes/{node}/qemu/{vmid}/status/start": "qm start {vmid}",
    "POST /nodes/{node}/qemu/{vmid}/status/stop": "qm stop {vmid}",
    "POST /nodes/{node}/qemu/{vmid}/status/resume": "qm resume {vmid}",
    "POST /nodes/{node}/qemu/{vmid}/status/reset": "qm reset {vmid}",
    "DELETE /nodes/{node}/qemu/{vmid}": "qm destroy {vmid}",
    "POST /nodes/{node}/qemu/{vmid}/agent/exec": "qm guest exec {vmid} --synchronous 0 --",
    "DELETE /nodes/{node}/storage/{storage}/content/{volume}": "pvesm free {volume}",
    "POST /nodes/{node}/storage/{storage}/download-url": "pvesh create {path}",
    "POST /pools": "pvesh create {path}",
    "PUT /pools/{poolid}": "pvesh set {path}",
    "DELETE /pools/{poolid}": "pvesh delete {path}",
}
"""What follows a command are the call's other parameters as `--name value`; after ` --` the words of `command`."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a node. `node` is empty where any node will do; `prints_json`: its output is the data."""

    argv: tuple[str, ...]
    node: str = ""
    prints_json: bool = False

    @property
    def fails_silently(self) -> bool:
        """`qm resize` exits 0 when it fails; only standard error tells."""
        return self.argv[:2] == ("qm", "resize")


def command_for(method: str, path: str, params: Values) -> Command:
    """The command that does what an API call does; raises Refused for a call that is not in the table."""
    if method == "GET":
        return Command(("pvesh", "get", path, *_options(params), "--output-format", "json"), prints_json=True)
    for call, words in TABLE.items():
        known_method, pattern = call.split()
        found = re.fullmatch(_expression(pattern), path)
        if known_method == method and found:
            return _filled(words, found.groupdict(), path, params)
    raise Refused(f"{method} {path}", "there is no command for it", "use the API: --via auto or api", status=501)


def _expression(pattern: str) -> str:
    """A pattern with a group for each of its holes; only the name of a volume has slashes in it."""
    return re.sub(r"\{(\w+)\}", lambda hole: f"(?P<{hole[1]}>{'.+' if hole[1] == 'volume' else '[^/]+'})", pattern)


def _filled(words: str, parts: Mapping[str, str], path: str, params: Values) -> Command:
    values = {**params, **parts, "path": path}
    argv = [word.format_map(values) for word in words.split()]
    used = set(re.findall(r"\{(\w+)\}", words))
    if words.endswith(" --"):
        return Command((*argv, *params["command"]), parts["node"], prints_json=True)
    rest = {key: value for key, value in params.items() if key not in used}
    is_pvesh = words.startswith("pvesh")
    json_options = ("--output-format", "json") if is_pvesh else ()
    return Command((*argv, *_options(rest), *json_options), parts.get("node", ""), prints_json=is_pvesh)


def _options(params: Values) -> list[str]:
    return [word for key, value in params.items() for word in (f"--{key}", _text(value))]


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
