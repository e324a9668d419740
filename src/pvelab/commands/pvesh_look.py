"""What pvesh tells of the API itself: what lies below a path, and what its methods take."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pvelab import schema
from pvelab.answers import ApiError, refused
from pvelab.api import INVALID_PARAMETERS
from pvelab.commands import usage
from pvelab.commands.options import Properties, place_arguments, read_options
from pvelab.commands.tool import Invocation, pretty
from pvelab.schema import Method, Schema

VERBS: Mapping[str, str] = {"get": "GET", "set": "PUT", "create": "POST", "delete": "DELETE"}
FORMAT_OPTIONS: Properties = {
    "output-format": {"type": "string", "enum": ["text", "json", "json-pretty", "yaml"], "optional": 1},
    "human-readable": {"type": "boolean", "optional": 1},
    "noborder": {"type": "boolean", "optional": 1},
    "noheader": {"type": "boolean", "optional": 1},
    "quiet": {"type": "boolean", "optional": 1},
}
USAGE_OPTIONS: Properties = {
    "verbose": {"type": "boolean", "optional": 1},
    "returns": {"type": "boolean", "optional": 1},
    "command": {"type": "string", "enum": sorted(VERBS), "optional": 1},
}
_PERMISSIONS = (("PUT", "w"), ("POST", "c"), ("DELETE", "d"))


def own_properties(method: Method | None) -> Properties:
    """The parameters that are not in the path."""
    return {name: one for name, one in method.properties.items() if name not in method.in_path} if method else {}


def here(run: Invocation, path: str) -> str:
    """The path with this node's name for localhost."""
    return re.sub(r"^/nodes/localhost(?=/|$)", f"/nodes/{run.node.hostname}", "/" + path.strip("/"))


async def list_children(run: Invocation, words: list[str]) -> int:
    """pvesh ls: what lies below a path, and what can be done with it. Raises UsageRefused, ApiError."""
    run.words = read_options(words, FORMAT_OPTIONS)
    place_arguments(run.words, ("api_path",))
    asked = run.params["api_path"]
    path = here(run, asked)
    published = schema.load(run.api.world.profile.release)
    method = published.find("GET", path)
    if method is None:
        raise refused(f"no such resource '{asked}'")
    link = _child_link(published, method)
    if not link:
        raise refused(f"resource '{asked}' does not define child links")
    found = re.fullmatch(r"\{(\S+)\}", link)
    data = await run.get(path)
    for name in sorted({str(item[found[1]]) for item in data}) if found else ():
        can = _capabilities(published, f"{path.rstrip('/')}/{name}")
        run.process.print(f"{can:<12} {name}")
    return 0


async def show_usage(run: Invocation, words: list[str]) -> int:
    """pvesh usage: what the methods of a path take. Raises UsageRefused, ApiError."""
    run.words = read_options(words, USAGE_OPTIONS)
    place_arguments(run.words, ("api_path",))
    params = run.params
    asked, wanted = params["api_path"], params.get("command", "")
    errors = schema.verify(USAGE_OPTIONS, {name: value for name, value in params.items() if name != "api_path"})
    if errors:
        raise ApiError(400, INVALID_PARAMETERS, errors)
    published = schema.load(run.api.world.profile.release)
    found = {
        verb: method
        for verb, name in VERBS.items()
        if (method := published.find(name, here(run, asked))) and wanted in ("", verb)
    }
    if not found:
        raise refused(f"no '{wanted}' handler for '{asked}'" if wanted else f"no such resource '{asked}'")
    for verb, method in found.items():
        for line in _described(published, verb, asked, method, is_verbose=params.get("verbose") == "1"):
            run.process.print(line)
        if params.get("returns") == "1":
            run.process.print(f"RETURNS: {pretty(_entry(published, method).get('returns', {}))}\n")
    return 0


def _described(published: Schema, verb: str, path: str, method: Method, *, is_verbose: bool) -> Iterator[str]:
    properties = {
        name: one for name, one in own_properties(method).items() if name not in FORMAT_OPTIONS or not is_verbose
    }
    what = usage.Described(f"pvesh {verb} {path}", _entry(published, method).get("description", ""), properties)
    if is_verbose:
        yield from usage.full(what, usage.short(what))
    else:
        yield f"USAGE: {usage.short(what)}"


def _entry(published: Schema, method: Method) -> dict[str, Any]:
    return dict(published.paths[method.path][method.name])


def _child_link(published: Schema, method: Method) -> str:
    links = (_entry(published, method).get("returns") or {}).get("links", [])
    return next((str(one["href"]) for one in links if one.get("rel") == "child"), "")


def _capabilities(published: Schema, path: str) -> str:
    got = published.find("GET", path)
    letters = "--" if got is None else "Dr" if _child_link(published, got) else "-r"
    return letters + "".join(letter if published.find(name, path) else "-" for name, letter in _PERMISSIONS)
