"""A tool as a command of the node: finds the command among the words, shows usage and help."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pvelab import schema
from pvelab.api import Api
from pvelab.commands.tool import FAILED, Entry, Invocation, may_run, run_entry
from pvelab.machine import Command, Process
from pvelab.state import Node

Groups = Sequence[Sequence[Entry]]
_HELP_COLUMNS = 66
_INDENT = "\t     "


def command_entries(groups: Groups) -> dict[str, Entry]:
    """The commands of a tool by their words, as `disk import`."""
    return {_command_words(entry): entry for group in groups for entry in group}


def find_entry(
    entries: Mapping[str, Entry], aliases: Mapping[str, str], words: Sequence[str]
) -> tuple[str, int] | None:
    """The command that the words call, and how many of them are its name."""
    for length in (2, 1):
        word = " ".join(words[:length])
        if len(words) >= length and aliases.get(word, word) in entries:
            return aliases.get(word, word), length
    return None


def tool_command(name: str, groups: Groups, aliases: Mapping[str, str], api: Api, node: Node) -> Command:
    """A tool with its commands; `aliases` are older names of commands."""
    entries = command_entries(groups)

    async def run(process: Process) -> int:
        refused = may_run(node, process)
        if refused:
            return refused
        words = process.argv[1:]
        if not words:
            return _show_usage(process, name, groups, "no command specified")
        if words[0] == "help":
            entry = entries.get(" ".join(words[1:]))
            return _show_help(process, entry, api) if entry else _show_usage(process, name, groups, "no such command")
        found = find_entry(entries, aliases, words)
        if found:
            return await run_entry(Invocation(api, node, process, entries[found[0]]), words[found[1] :])
        return _show_usage(process, name, groups, f"unknown command '{name} {words[0]}'")

    return run


def _command_words(entry: Entry) -> str:
    return " ".join(word for word in entry.usage.split()[1:3] if word.strip("<>[]-") == word)


def _show_usage(process: Process, name: str, groups: Groups, problem: str) -> int:
    process.complain(f"ERROR: {problem}")
    process.complain(f"USAGE: {name} <COMMAND> [ARGS] [OPTIONS]")
    for group in groups:
        process.complain("")
        for entry in group:
            process.complain(f"       {entry.usage}")
    process.complain(f"\n       {name} help [<extra-args>] [OPTIONS]")
    return FAILED


def _show_help(process: Process, entry: Entry, api: Api) -> int:
    release = api.world.profile.release
    published = schema.load(release).paths.get(entry.path, {}).get(entry.method, {})
    process.print(f"USAGE: {entry.usage}\n\n  {entry.description or published.get('description', '')}\n")
    properties = {name: one for name, one in entry.properties(release).items() if name != "node"}
    positional = [name.strip("[]") for name in entry.arguments]
    for name in positional:
        _print_all(process, _described(f"<{name}>", properties.get(name, {})))
    for name in sorted(properties.keys() - set(positional)):
        _print_all(process, _described(f"--{name}", properties[name]))
    process.print("")
    return 0


def _print_all(process: Process, lines: Iterator[str]) -> None:
    for line in lines:
        process.print(line)


def _described(shown_name: str, one: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {shown_name:<10} {_type_text(one)}"
    for line in textwrap.wrap(one.get("description", ""), _HELP_COLUMNS):
        yield _INDENT + line
    yield ""


def _type_text(one: Mapping[str, Any]) -> str:
    if "enum" in one:
        return f"<{' | '.join(map(str, one['enum']))}>"
    return str(one.get("typetext") or f"<{one.get('type', 'string')}>")
