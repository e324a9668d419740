"""A tool as a command of the node: finds the command among the words, shows usage and help."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pvelab import schema
from pvelab.api import Api
from pvelab.commands import usage
from pvelab.commands.tool import FAILED, Entry, Invocation, may_run, run_entry
from pvelab.machine import Command, Process
from pvelab.state import Node

Groups = Sequence[Sequence[Entry]]
HELP = "help"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool by its name, with its commands in the order of its usage text; `aliases` are older names of commands."""

    name: str
    groups: Groups
    aliases: Mapping[str, str]

    @property
    def entries(self) -> dict[str, Entry]:
        """The commands by their words, as `disk import`."""
        return command_entries(self.groups)

    def below(self, group: str) -> list[Entry]:
        """The commands of a group, as those of `disk`; all of them where a word could be several."""
        entries = self.entries
        return [entry for words, entry in entries.items() if words.startswith(f"{group} ")] or list(entries.values())


@dataclass(frozen=True, slots=True)
class Found:
    """What words call: a command and how many of them are its name, or a group, or nothing; `said` is what was read."""

    said: str
    command: str = ""
    length: int = 0
    group: str = ""


def command_entries(groups: Groups) -> dict[str, Entry]:
    """The commands of a tool by their words, as `disk import`."""
    return {_command_words(entry): entry for group in groups for entry in group}


def find(tool: Tool, words: Sequence[str]) -> Found:
    """What the words call; a command's name may be cut short where that is clear."""
    entries, said, left = tool.entries, "", list(words)
    while left:
        names = _next_words(entries, said)
        word = _expanded(left.pop(0), names | ({HELP} if not said else set()))
        said = f"{said} {word}".strip()
        said = tool.aliases.get(said, said)
        if said in entries or said == HELP:
            return Found(said, command=said, length=len(words) - len(left))
        if not _next_words(entries, said):
            is_unclear = any(name.startswith(word) for name in names)
            return Found(said, group=said if is_unclear else "")
    return Found(said, group=said)


def _next_words(entries: Mapping[str, Entry], said: str) -> set[str]:
    """Which words can follow those that were read."""
    read = said.split()
    commands = [name.split() for name in entries]
    return {words[len(read)] for words in commands if words[: len(read)] == read and len(words) > len(read)}


def tool_command(tool: Tool, api: Api, node: Node) -> Command:
    """The tool as a command of a node."""

    async def run(process: Process) -> int:
        refused = may_run(node, process)
        if refused:
            return refused
        words = process.argv[1:]
        if not words:
            return _show_usage(process, tool, "no command specified")
        found = find(tool, words)
        if found.command == HELP:
            return _help(process, tool, words[1:], api)
        if found.command:
            return await run_entry(Invocation(api, node, process, tool.entries[found.command]), words[found.length :])
        if found.group:
            return _show_group(process, tool, found.group)
        return _show_usage(process, tool, f"unknown command '{tool.name} {found.said}'")

    return run


def _expanded(word: str, names: set[str]) -> str:
    fitting = [name for name in names if name.startswith(word)]
    return fitting[0] if word not in names and len(fitting) == 1 else word


def _command_words(entry: Entry) -> str:
    return " ".join(itertools.takewhile(lambda word: word.strip("<>[]-") == word, entry.usage.split()[1:]))


def _usage_lines(tool: Tool) -> Iterator[str]:
    yield f"USAGE: {tool.name} <COMMAND> [ARGS] [OPTIONS]"
    for group in tool.groups:
        yield ""
        for entry in group:
            yield f"       {entry.usage}"
    yield f"\n       {tool.name} help [<extra-args>] [OPTIONS]"


def _show_usage(process: Process, tool: Tool, problem: str) -> int:
    process.complain(f"ERROR: {problem}")
    for line in _usage_lines(tool):
        process.complain(line)
    return FAILED


def _show_group(process: Process, tool: Tool, group: str) -> int:
    process.complain(f"ERROR: incomplete command '{tool.name} {group}'")
    process.complain(f"USAGE: {tool.name} <COMMAND> [ARGS] [OPTIONS]\n")
    for entry in tool.below(group):
        process.complain(f"       {entry.usage}")
    return FAILED


def _help(process: Process, tool: Tool, words: Sequence[str], api: Api) -> int:
    if not words:
        for line in _usage_lines(tool):
            process.print(line)
        return 0
    found = find(tool, words)
    if not found.group and found.command not in tool.entries:
        return _show_usage(process, tool, f"unknown command '{words[0]}'")
    entries = [tool.entries[found.command]] if found.command else tool.below(found.group)
    release = api.world.profile.release
    for entry in entries:
        published = schema.load(release).paths.get(entry.path, {}).get(entry.method, {})
        properties = {name: one for name, one in entry.properties(release).items() if name != "node"}
        positional = [name.strip("[]") for name in entry.arguments]
        description = entry.description or published.get("description", "")
        for line in usage.full(usage.Described("", description, properties, positional), entry.usage):
            process.print(line)
    process.print("")
    return 0
