"""`python -m pvelab.coverage [FOLDER]`: what the lab answers, each with the recordings of FOLDER that it is held to."""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pvelab import schema
from pvelab.commands.dispatch import Found, find
from pvelab.commands.pvesh_look import VERBS
from pvelab.commands.pvesm import PVESM
from pvelab.commands.pveum import PVEUM
from pvelab.commands.qm import QM
from pvelab.commands.tool import Entry, call_api, not_known, tells_no_failure
from pvelab.routes import ROUTES

RECORDINGS = Path(__file__).parents[2] / "tests" / "recordings"
RECORDED_RELEASE = "9.2"
COLUMNS, INDENT = 120, " " * 8
TOOLS = {tool.name: tool for tool in (QM, PVESM, PVEUM)}
AFTERWARDS = {
    "config": "GET /nodes/{node}/qemu/{vmid}/config",
    "content": "GET /nodes/{node}/storage/{storage}/content",
    "pending": "GET /nodes/{node}/qemu/{vmid}/pending",
    "status": "GET /nodes/{node}/qemu/{vmid}/status/current",
}
"""What is asked for the state afterwards."""
UPID = re.compile(r"<UPID:[^>]*>")

Proofs = Mapping[str, list[str]]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the coverage; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pvelab.coverage", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=RECORDINGS, help="of *.jsonl (default: %(default)s)")
    folder = parser.parse_args(argv).folder
    if not any(folder.glob("*.jsonl")):
        parser.error(f"no *.jsonl in {folder}")
    sys.stdout.write("\n".join(report(read(folder))) + "\n")
    return 0


def read(folder: Path) -> list[dict[str, Any]]:
    """The recorded cases of a folder, file by file."""
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


def report(cases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Endpoints and commands, each with the cases whose request goes to it, or that ask it for the state afterwards."""
    proofs: dict[str, list[str]] = {}
    beside: list[str] = []
    for case in cases:
        names = [name for name in subjects(case["request"]) if name in known()]
        for name in dict.fromkeys([*names, *afterwards(case)]):
            proofs.setdefault(name, []).append(case["id"])
        if not names:
            beside.append(case["id"])
    for title, names in (("Endpoints", endpoints()), ("Commands", commands())):
        yield from _section(title, names, proofs)
    if beside:
        yield f"To nothing that is there: {len(beside)} of {len(cases)} recordings"
        yield _wrapped(beside)


def known() -> set[str]:
    """Everything that is answered, by name."""
    return {*endpoints(), *commands()}


def endpoints() -> list[str]:
    """METHOD and path of each route."""
    return [f"{method} {path}" for method, path in sorted(ROUTES, key=lambda route: (route[1], route[0]))]


def commands() -> list[str]:
    """The commands of the node's tools, those that are refused by name left out."""
    of_tables = [
        f"{tool.name} {words}"
        for tool in TOOLS.values()
        for words, entry in sorted(tool.entries.items())
        if _is_known(entry)
    ]
    return [*of_tables, *(f"pvesh {verb}" for verb in (*VERBS, "ls", "usage"))]


def subjects(request: Mapping[str, Any]) -> list[str]:
    """What a recorded request goes to: an endpoint, a command, or with pvesh both."""
    if "argv" not in request:
        return [_endpoint(request["method"], request["path"])]
    tool, *words = request["argv"]
    if tool == "pvesh":
        verb, path = [*words, "", ""][:2]
        return [f"pvesh {verb}", _endpoint(VERBS.get(verb, ""), path)]
    found = find(TOOLS[tool], words) if tool in TOOLS and words else Found("")
    return [f"{tool} {found.command}"] if found.command else []


def afterwards(case: Mapping[str, Any]) -> list[str]:
    """The endpoints that are asked for the state after a case."""
    return [AFTERWARDS[name.partition(":")[0]] for name in case.get("after", {})]


def _endpoint(method: str, path: str) -> str:
    found = schema.load(RECORDED_RELEASE).find(method, UPID.sub("UPID", path))
    return f"{method} {found.path}" if found else ""


def _is_known(entry: Entry) -> bool:
    is_call = entry.run is call_api or entry.run is tells_no_failure
    return entry.run is not not_known and (not is_call or (entry.method, entry.path) in ROUTES)


def _section(title: str, names: Sequence[str], proofs: Proofs) -> Iterator[str]:
    proved = [name for name in names if name in proofs]
    yield f"{title}: {len(names)}, of them proved by recordings: {len(proved)}"
    for name in names:
        ids = proofs.get(name, [])
        yield f"    {name}  ({len(ids) or 'no'} {'recording' if len(ids) == 1 else 'recordings'})"
        if ids:
            yield _wrapped(ids)
    yield ""


def _wrapped(ids: Sequence[str]) -> str:
    return textwrap.fill(
        ", ".join(ids), COLUMNS, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False
    )


if __name__ == "__main__":
    raise SystemExit(main())
