"""pvesh: the API from a node's shell. It waits for tasks, and a failed one does not show in its exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from pvelab import schema
from pvelab.answers import ROOT_SSH, ApiError
from pvelab.api import Api
from pvelab.commands.options import Properties, UsageRefused, place_arguments, read_options
from pvelab.commands.tables import text_table
from pvelab.commands.tool import FAILED, Entry, Invocation, complain, is_upid, may_run, pretty
from pvelab.machine import Command, Process
from pvelab.schema import Method
from pvelab.state import Node

VERBS: Mapping[str, str] = {"create": "POST", "delete": "DELETE", "get": "GET", "set": "PUT"}
USAGE = """USAGE: pvesh <COMMAND> [ARGS] [OPTIONS]

       pvesh create <api_path> [OPTIONS] [FORMAT_OPTIONS]
       pvesh delete <api_path> [OPTIONS] [FORMAT_OPTIONS]
       pvesh get <api_path> [OPTIONS] [FORMAT_OPTIONS]
       pvesh ls <api_path> [OPTIONS] [FORMAT_OPTIONS]
       pvesh set <api_path> [OPTIONS] [FORMAT_OPTIONS]
       pvesh usage <api_path> [OPTIONS]

       pvesh help [<extra-args>] [OPTIONS]"""
FORMAT_OPTIONS: Properties = {
    "output-format": {"type": "string", "enum": ["text", "json", "json-pretty", "yaml"], "optional": 1},
    "human-readable": {"type": "boolean", "optional": 1},
    "noborder": {"type": "boolean", "optional": 1},
    "noheader": {"type": "boolean", "optional": 1},
    "quiet": {"type": "boolean", "optional": 1},
}
NO_HANDLER = 1
_PERMISSIONS = (("GET", "r"), ("PUT", "w"), ("POST", "c"), ("DELETE", "d"))


def pvesh(api: Api, node: Node) -> Command:
    """pvesh as a command of a node."""

    async def run(process: Process) -> int:
        refused = may_run(node, process)
        if refused:
            return refused
        verb, *words = process.argv[1:] or [""]
        if verb == "ls":
            return await _list(
                Invocation(api, node, process, Entry("pvesh ls <api_path> [OPTIONS] [FORMAT_OPTIONS]")), words
            )
        if verb not in VERBS:
            problem = f"unknown command 'pvesh {verb}'" if verb else "no command specified"
            process.complain(f"ERROR: {problem}\n{USAGE}")
            return FAILED
        return await _call(Invocation(api, node, process, Entry(f"pvesh {verb}")), verb, words)

    return run


async def _call(run: Invocation, verb: str, words: list[str]) -> int:
    path = "/" + (words[0].strip("/") if words else "")
    path = re.sub(r"^/nodes/localhost(?=/|$)", f"/nodes/{run.node.hostname}", path)
    published = schema.load(run.api.world.profile.release)
    method = published.find(VERBS[verb], path)
    if words and method is None:
        return _no_handler(run, verb, words[0])
    properties = _own_properties(method)
    usage = f"pvesh {verb} <api_path> {_required(properties)}[OPTIONS] [FORMAT_OPTIONS]"
    try:
        formats = _read_words(run, words, properties)
        answer = await run.call(VERBS[verb], path, run.params)
    except UsageRefused as refused:
        for warning in refused.warnings:
            run.process.complain(warning)
        run.process.complain(f"400 {refused}\n{usage}")
        return FAILED
    except ApiError as refusal:
        if refusal.status == 501:
            return _no_handler(run, verb, words[0])
        return complain(run.process, refusal, usage)
    if is_upid(answer.data):
        await run.follow(answer.data)
    returns = published.paths[method.path][method.name].get("returns") if method else None
    _show(run, answer.data, formats, returns or {})
    return 0


def _no_handler(run: Invocation, verb: str, path: str) -> int:
    run.process.complain(f"No '{verb}' handler defined for '{path}'")
    return NO_HANDLER


def _own_properties(method: Method | None) -> Properties:
    return {name: one for name, one in method.properties.items() if name not in method.in_path} if method else {}


def _required(properties: Properties) -> str:
    needed = [(name, one) for name, one in sorted(properties.items()) if not one.get("optional")]
    return "".join(f"--{name} <{one.get('type', 'string')}> " for name, one in needed)


def _read_words(run: Invocation, words: list[str], properties: Properties) -> dict[str, str]:
    """Take the parameters of the call; the options about output are returned. Raises UsageRefused, ApiError."""
    run.words = read_options(words, {**properties, **FORMAT_OPTIONS})
    place_arguments(run.words, ("api_path",))
    del run.words.params["api_path"]
    formats = {name: run.words.params.pop(name) for name in FORMAT_OPTIONS if name in run.words.params}
    errors = schema.verify(FORMAT_OPTIONS, formats)
    if errors:
        raise ApiError(400, "Parameter verification failed.", errors)
    return formats


def _show(run: Invocation, data: Any, formats: Mapping[str, str], returns: Mapping[str, Any]) -> None:
    form = formats.get("output-format", "text")
    if data is None or formats.get("quiet") == "1":
        return
    if form == "json":
        run.process.print(json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    elif form == "json-pretty":
        run.process.print(pretty(data))
    elif form == "yaml":
        run.process.print(yaml.safe_dump(data, explicit_start=True, default_flow_style=False).rstrip("\n"))
    elif isinstance(data, dict | list):
        for line in text_table(data, returns, formats):
            run.process.print(line)
    else:
        run.process.print(str(data))


async def _list(run: Invocation, words: list[str]) -> int:
    """pvesh ls: what lies below a path, and what can be done with it."""
    path = "/" + (words[0].strip("/") if words else "")
    published = schema.load(run.api.world.profile.release)
    matched = published.match(path.strip("/").split("/"))
    if not words or matched is None:
        run.process.complain(f"no such resource '{words[0] if words else path}'")
        return FAILED
    template = matched[0]
    below = sorted(
        {
            one.removeprefix(f"{template}/").partition("/")[0]
            for one in published.paths
            if one.startswith(f"{template}/")
        }
    )
    for name in below:
        child = f"{template}/{name}"
        has_more = any(one.startswith(f"{child}/") for one in published.paths)
        methods = published.paths.get(child, {})
        letters = "D" if has_more else "-"
        letters += "".join(letter if one in methods else "-" for one, letter in _PERMISSIONS)
        for shown in await _names(run, path, name):
            run.process.print(f"{letters:<12} {shown}")
    return 0


async def _names(run: Invocation, path: str, name: str) -> list[str]:
    if not name.startswith("{"):
        return [name]
    answer = await run.api.call("GET", path, {}, ROOT_SSH, run.node.hostname)
    return sorted(str(item[name.strip("{}")]) for item in answer.data)
