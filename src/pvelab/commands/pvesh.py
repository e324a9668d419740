"""pvesh: the API from a node's shell. It waits for tasks, and a failed one does not show in its exit code."""

from __future__ import annotations

from pvelab import schema
from pvelab.answers import ApiError
from pvelab.api import Api
from pvelab.commands.options import Properties, UsageRefused, place_arguments, read_options
from pvelab.commands.pvesh_look import FORMAT_OPTIONS, VERBS, here, list_children, own_properties, show_usage
from pvelab.commands.results import show
from pvelab.commands.tool import FAILED, Entry, Invocation, complain, is_upid, may_run
from pvelab.machine import Command, Process
from pvelab.state import Node

USAGE = """USAGE: pvesh <COMMAND> [ARGS] [OPTIONS]

       pvesh create <api_path> [OPTIONS] [FORMAT_OPTIONS]
       pvesh delete <api_path> [OPTIONS] [FORMAT_OPTIONS]
       pvesh get <api_path> [OPTIONS] [FORMAT_OPTIONS]
       pvesh ls <api_path> [OPTIONS] [FORMAT_OPTIONS]
       pvesh set <api_path> [OPTIONS] [FORMAT_OPTIONS]
       pvesh usage <api_path> [OPTIONS]

       pvesh help [<extra-args>] [OPTIONS]"""
NO_HANDLER = 1
_UNREACHED = (595, 596)
LOOKS = {"ls": list_children, "usage": show_usage}
LOOK_USAGES = {
    "ls": "pvesh ls <api_path> [OPTIONS] [FORMAT_OPTIONS]",
    "usage": "pvesh usage <api_path> [OPTIONS]",
}


def pvesh(api: Api, node: Node) -> Command:
    """pvesh as a command of a node."""

    async def run(process: Process) -> int:
        refused = may_run(node, process)
        if refused:
            return refused
        verb, *words = process.argv[1:] or [""]
        verb = _expanded(verb)
        if verb == "help":
            return _help(process, words)
        if verb in LOOKS:
            return await _look(Invocation(api, node, process, Entry(LOOK_USAGES[verb])), verb, words)
        if verb not in VERBS:
            problem = f"unknown command 'pvesh {verb}'" if verb else "no command specified"
            process.complain(f"ERROR: {problem}\n{USAGE}")
            return FAILED
        return await _call(Invocation(api, node, process, Entry(f"pvesh {verb}")), verb, words)

    return run


def _expanded(verb: str) -> str:
    fitting = [name for name in (*VERBS, *LOOKS, "help") if verb and name.startswith(verb)]
    return fitting[0] if len(fitting) == 1 else verb


def _help(process: Process, words: list[str]) -> int:
    lines = [line for line in USAGE.splitlines() if words and line.startswith(f"       pvesh {words[0]} ")]
    if words and not lines:
        process.complain(f"ERROR: unknown command '{words[0]}'\n{USAGE}")
        return FAILED
    process.print(f"USAGE: {lines[0].strip()}" if lines else USAGE)
    return 0


async def _look(run: Invocation, verb: str, words: list[str]) -> int:
    try:
        return await LOOKS[verb](run, words)
    except UsageRefused as refused:
        return _misused(run, refused, run.entry.usage)
    except ApiError as refusal:
        return complain(run.process, refusal, run.entry.usage)


def _misused(run: Invocation, refused: UsageRefused, usage: str) -> int:
    for warning in refused.warnings:
        run.process.complain(warning)
    run.process.complain(f"400 {refused}\n{usage}")
    return FAILED


async def _call(run: Invocation, verb: str, words: list[str]) -> int:
    path = here(run, words[0] if words else "")
    published = schema.load(run.api.world.profile.release)
    method = published.find(VERBS[verb], path)
    if words and method is None:
        return _no_handler(run, verb, words[0])
    properties = own_properties(method)
    usage = f"pvesh {verb} <api_path> {_required(properties)}[OPTIONS] [FORMAT_OPTIONS]"
    try:
        formats = _read_words(run, words, properties)
        answer = await run.call(VERBS[verb], path, run.params)
    except UsageRefused as refused:
        return _misused(run, refused, usage)
    except ApiError as refusal:
        if refusal.status == 501:
            return _no_handler(run, verb, words[0])
        there = run.api.world.nodes.get(method.in_path.get("node", "")) if method and method.is_proxied else None
        if there is None or there is run.node:
            return complain(run.process, refusal, usage)
        return _proxy_failed(run, there, refusal, f"pvesh --noproxy {verb} {words[0]} --output-format json")
    if is_upid(answer.data):
        await run.follow(answer.data)
    returns = published.paths[method.path][method.name].get("returns") if method else None
    show(run.process, answer.data, formats, returns or {})
    return 0


def _proxy_failed(run: Invocation, there: Node, refusal: ApiError, command: str) -> int:
    """Another member is asked over SSH; what it said comes first, then that the command there has failed."""
    if refusal.status in _UNREACHED:
        run.process.complain(f"ssh: connect to host {there.address} port 22: {refusal.reason}")
        code = FAILED
    else:
        code = complain(run.process, refusal, command)
    known = f"/etc/pve/nodes/{there.hostname}/ssh_known_hosts"
    options = ("BatchMode=yes", f"HostKeyAlias={there.hostname}", f"UserKnownHostsFile={known}",
               "GlobalKnownHostsFile=none")  # fmt: skip
    quoted = " ".join(f"-o '{one}'" for one in options)
    login = f"/usr/bin/ssh -e none {quoted} root@{there.address}"
    run.process.complain(f"proxy handler failed: command '{login} -- {command}' failed: exit code {code}")
    return FAILED


def _no_handler(run: Invocation, verb: str, path: str) -> int:
    run.process.complain(f"No '{verb}' handler defined for '{path}'")
    return NO_HANDLER


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
