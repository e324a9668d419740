"""The commands that start other commands: sudo, env, timeout, sh and their like."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from types import MappingProxyType

from pvelab.machine import Process
from pvelab.shell.control import Exit
from pvelab.shell.environment import PATH
from pvelab.shell.interpreter import NOT_FOUND, Builtin, Shell

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIMED_OUT, _TIMEOUT_FAILED = 124, 125


async def _exec(shell: Shell, process: Process) -> int:
    raise Exit(await _start(shell, process, process.argv[1:]))


async def _command(shell: Shell, process: Process) -> int:
    words = process.argv[1:]
    if words[:1] in (["-v"], ["-V"]):
        found = [shell.where(name) for name in words[1:]]
        for path in filter(None, found):
            process.print(path)
        return 0 if all(found) else NOT_FOUND
    return await _start(shell, process, words)


async def _start(shell: Shell, process: Process, words: list[str]) -> int:
    """Run another command in place of this one, with the same streams."""
    if not words:
        return 0
    process.argv[:] = words
    shell.note(process)
    if words[0] in shell.builtins:
        return await shell.builtins[words[0]](shell, process)
    return await shell.execute(process)


async def _sudo(shell: Shell, process: Process) -> int:
    words = process.argv[1:]
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "--":
            break
        if option not in ("-n", "-H", "-E", "--non-interactive"):
            process.complain(f"sudo: invalid option -- '{option.lstrip('-')}'")
            return 1
    account = shell.environment.machine.accounts.get(shell.environment.user)
    if shell.environment.user != "root" and not (account and account.sudo):
        process.complain("sudo: a password is required")
        return 1
    inner = shell.nested(user="root")
    process.user = "root"
    for name, value in {"HOME": "/root", "USER": "root", "LOGNAME": "root", "PATH": PATH}.items():
        _give(inner, process, name, value)
    _take_assignments(inner, process, words)
    if words and not inner.where(words[0]):
        process.complain(f"sudo: {words[0]}: command not found")
        return 1
    return await _start(inner, process, words)


async def _env(shell: Shell, process: Process) -> int:
    words = process.argv[1:]
    inner = shell.nested()
    if words[:1] in (["-i"], ["-"]):
        words.pop(0)
        process.env = {}
        inner.environment.exported.clear()
    _take_assignments(inner, process, words)
    if not words:
        for name, value in process.env.items():
            process.print(f"{name}={value}")
        return 0
    if not inner.where(words[0]):
        process.complain(f"env: '{words[0]}': No such file or directory")
        return NOT_FOUND
    return await _start(inner, process, words)


def _take_assignments(inner: Shell, process: Process, words: list[str]) -> None:
    while words and (found := _ASSIGNMENT.fullmatch(words[0])):
        words.pop(0)
        _give(inner, process, found[1], found[2])


def _give(inner: Shell, process: Process, name: str, value: str) -> None:
    process.env = {**process.env, name: value}
    inner.environment.variables[name] = value
    inner.environment.exported.add(name)


async def _nohup(shell: Shell, process: Process) -> int:
    return await _start(shell, process, process.argv[1:])


async def _timeout(shell: Shell, process: Process) -> int:
    words = process.argv[1:]
    while words and words[0].startswith("-"):
        del words[: 2 if words[0] in ("-k", "-s") else 1]
    found = _DURATION.fullmatch(words.pop(0)) if words else None
    if not found or not words:
        process.complain("timeout: missing operand" if not words else "timeout: invalid time interval")
        return _TIMEOUT_FAILED
    rings = asyncio.Event()
    shell.environment.machine.clock.after(float(found[1]) * _SECONDS[found[2]], rings.set)
    command = asyncio.create_task(_start(shell.nested(), process, words))
    alarm = asyncio.create_task(rings.wait())
    try:
        await asyncio.wait((command, alarm), return_when=asyncio.FIRST_COMPLETED)
        return _TIMED_OUT if rings.is_set() else command.result()
    finally:
        alarm.cancel()
        command.cancel()


async def _xargs(shell: Shell, process: Process) -> int:
    words = process.argv[1:] or ["echo"]
    while words and words[0].startswith("-"):
        if words.pop(0) in ("-n", "-I", "-P"):
            process.complain("xargs: only -r, -0 and a plain command are known here")
            return 1
    arguments = (await process.read()).decode(errors="surrogateescape").replace("\0", " ").split()
    return await _start(shell.nested(), process, words + arguments) if arguments else 0


async def _sh(shell: Shell, process: Process) -> int:
    name, *words = process.argv
    inner = shell.nested()
    environment = inner.environment
    environment.functions, environment.options = {}, set()
    environment.variables, environment.exported = dict(process.env), set(process.env)
    letters = ""
    while words and re.fullmatch("-[a-z]+", words[0]):
        letters += words.pop(0)[1:]
    environment.options |= set(letters) & {"e", "u", "x"}
    if words[:1] in (["-"], ["--"]):
        words.pop(0)
    if "c" in letters and not words:
        process.complain(f"{name}: 0: -c requires an argument")
        return 2
    try:
        text = await _script_text(inner, process, words, letters)
    except OSError:
        process.complain(f"{name}: 0: cannot open {words[0]}: No such file")
        return 2
    return await inner.run_text(text)


async def _script_text(inner: Shell, process: Process, words: list[str], letters: str) -> str:
    """The script of `sh -c TEXT`, `sh FILE` or `sh`; sets $0 and the positional parameters."""
    environment = inner.environment
    environment.name = process.argv[0]
    if "c" in letters:
        text, *rest = words
        environment.name, *environment.positional = rest or [process.argv[0]]
        return text
    if words and "s" not in letters:
        environment.name, *environment.positional = words
        return environment.machine.files.read(environment.path(words[0]), environment.user).decode()
    environment.positional = words
    return (await process.read()).decode()


STARTERS: Mapping[str, Builtin] = MappingProxyType(
    {
        "command": _command,
        "env": _env,
        "exec": _exec,
        "nohup": _nohup,
        "sudo": _sudo,
        "timeout": _timeout,
        "xargs": _xargs,
    }
    | dict.fromkeys(("sh", "dash", "bash", "/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash"), _sh)
)
