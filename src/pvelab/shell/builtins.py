"""The commands built into the shell: they change or ask the shell itself."""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Mapping
from types import MappingProxyType

from pvelab.machine import Process
from pvelab.shell.control import Exit, LoopControl, Return
from pvelab.shell.interpreter import Builtin, Shell
from pvelab.shell.parser import parse
from pvelab.shell.starters import STARTERS
from pvelab.shell.streams import Prefixed

_OPTIONS: Mapping[str, str] = MappingProxyType(
    {"errexit": "e", "noglob": "f", "nounset": "u", "xtrace": "x", "pipefail": "pipefail"}
)


async def _colon(_shell: Shell, _process: Process) -> int:
    return 0


async def _cd(shell: Shell, process: Process) -> int:
    environment = shell.environment
    target = process.argv[1] if len(process.argv) > 1 else environment.home()
    path = posixpath.normpath(environment.path(target))
    try:
        environment.machine.files.names(path, environment.user)
    except OSError:
        process.complain(f"{environment.name}: {environment.line}: cd: can't cd to {target}")
        return 2
    environment.cwd = environment.variables["PWD"] = path
    return 0


async def _pwd(shell: Shell, process: Process) -> int:
    process.print(shell.environment.cwd)
    return 0


async def _exit(shell: Shell, process: Process) -> int:
    raise Exit(_number(process, shell.environment.last) & 0xFF)


async def _return(shell: Shell, process: Process) -> int:
    shell.environment.last = _number(process, shell.environment.last)
    raise Return


async def _break(_shell: Shell, process: Process) -> int:
    raise LoopControl(_number(process, 1), continues=False)


async def _continue(_shell: Shell, process: Process) -> int:
    raise LoopControl(_number(process, 1), continues=True)


def _number(process: Process, default: int) -> int:
    return int(process.argv[1]) if len(process.argv) > 1 and process.argv[1].isdigit() else default


async def _export(shell: Shell, process: Process) -> int:
    for word in process.argv[1:]:
        name, equals, value = word.partition("=")
        shell.environment.exported.add(name)
        if equals:
            shell.environment.variables[name] = value
    return 0


async def _local(shell: Shell, process: Process) -> int:
    for word in process.argv[1:]:
        name, _, value = word.partition("=")
        if shell.environment.outer_values:
            shell.environment.outer_values[-1].setdefault(name, shell.environment.variables.get(name))
        shell.environment.variables[name] = value
    return 0


async def _unset(shell: Shell, process: Process) -> int:
    for name in process.argv[1:]:
        shell.environment.variables.pop(name, None)
        shell.environment.functions.pop(name, None)
        shell.environment.exported.discard(name)
    return 0


async def _set(shell: Shell, process: Process) -> int:
    words = process.argv[1:]
    while words and words[0][:1] in ("-", "+") and len(words[0]) > 1:
        word = words.pop(0)
        if word == "--":
            shell.environment.positional = words
            return 0
        letters = [_OPTIONS.get(words.pop(0), "?")] if word[1:] == "o" and words else list(word[1:])
        letters = ["e", _OPTIONS.get(words.pop(0), "?")] if word[1:] == "eo" and words else letters
        for letter in letters:
            if letter not in _OPTIONS.values():
                process.complain(f"{shell.environment.name}: {shell.environment.line}: set: Illegal option {word}")
                raise Exit(2)
            (shell.environment.options.add if word[0] == "-" else shell.environment.options.discard)(letter)
    if words:
        shell.environment.positional = words
    return 0


async def _shift(shell: Shell, process: Process) -> int:
    count = _number(process, 1)
    if count > len(shell.environment.positional):
        process.complain(f"{shell.environment.name}: {shell.environment.line}: shift: can't shift that many")
        raise Exit(2)
    del shell.environment.positional[:count]
    return 0


async def _umask(shell: Shell, process: Process) -> int:
    if len(process.argv) == 1:
        process.print(f"{shell.environment.umask:04o}")
        return 0
    if not re.fullmatch("[0-7]{1,4}", process.argv[1]):
        process.complain(f"{shell.environment.name}: {shell.environment.line}: umask: Illegal mode: {process.argv[1]}")
        return 2
    shell.environment.umask = int(process.argv[1], 8)
    return 0


async def _eval(shell: Shell, process: Process) -> int:
    return await _nested(shell, " ".join(process.argv[1:]))


async def _dot(shell: Shell, process: Process) -> int:
    path = shell.environment.path(process.argv[1]) if len(process.argv) > 1 else ""
    try:
        text = shell.environment.machine.files.read(path, shell.environment.user).decode()
    except OSError:
        process.complain(f"{shell.environment.name}: {shell.environment.line}: .: cannot open {path}: No such file")
        raise Exit(2) from None
    try:
        return await _nested(shell, text)
    except Return:
        return shell.environment.last


async def _nested(shell: Shell, text: str) -> int:
    return await shell.run_script(parse(text))


async def _read(shell: Shell, process: Process) -> int:
    names = [word for word in process.argv[1:] if word != "-r"]
    line = await _line(shell, process)
    values = line.rstrip("\n").split(None, max(0, len(names) - 1))
    for position, name in enumerate(names):
        shell.environment.variables[name] = values[position].rstrip() if position < len(values) else ""
    return 0 if line.endswith("\n") else 1


async def _line(shell: Shell, process: Process) -> str:
    """One line of the input; the rest of what arrived with it goes back."""
    data = bytearray()
    while b"\n" not in data and (chunk := await process.stdin.chunk()):
        data += chunk
    line, newline, rest = bytes(data).partition(b"\n")
    if rest:
        shell.streams.put(0, Prefixed(rest, process.stdin))
    return (line + newline).decode(errors="surrogateescape")


async def _wait(shell: Shell, _process: Process) -> int:
    tasks, shell.streams.background[:] = list(shell.streams.background), []
    await asyncio.gather(*tasks)
    return 0


async def _trap(shell: Shell, process: Process) -> int:
    if len(process.argv) > 2 and {"EXIT", "0"} & set(process.argv[2:]):
        shell.environment.at_exit = "" if process.argv[1] == "-" else process.argv[1]
    return 0


BUILTINS: Mapping[str, Builtin] = MappingProxyType(
    {
        ":": _colon,
        ".": _dot,
        "break": _break,
        "cd": _cd,
        "continue": _continue,
        "eval": _eval,
        "exit": _exit,
        "export": _export,
        "local": _local,
        "pwd": _pwd,
        "read": _read,
        "return": _return,
        "set": _set,
        "shift": _shift,
        "trap": _trap,
        "umask": _umask,
        "unset": _unset,
        "wait": _wait,
        **STARTERS,
    }
)
