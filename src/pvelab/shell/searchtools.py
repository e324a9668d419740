"""Core utilities that search and compare: grep, sha256sum and the other checksums."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from types import MappingProxyType

from pvelab.machine import Command, Process
from pvelab.shell.arguments import Options, complain_about
from pvelab.shell.contents import Content, Memory
from pvelab.shell.texttools import lines, pieces, whole

_CLASSES = {
    "[:space:]": r"\s",
    "[:digit:]": "0-9",
    "[:alpha:]": "A-Za-z",
    "[:alnum:]": "A-Za-z0-9",
    "[:upper:]": "A-Z",
    "[:lower:]": "a-z",
    "[:blank:]": r" \t",
    "[:xdigit:]": "0-9A-Fa-f",
}


async def grep(process: Process) -> int:
    """grep [-EFcilnoqsvwx] [-e PATTERN] PATTERN [NAME...]"""
    options = Options(process, "EFGcilnoqsvwxe:hm:", ("quiet", "fixed-strings", "extended-regexp"))
    words = options.words
    patterns = options.values("-e") or [words.pop(0)] if words or options.values("-e") else []
    if not patterns:
        process.complain("Usage: grep [OPTION]... PATTERNS [FILE]...")
        return 2
    pattern = re.compile("|".join(_expression(text, options) for text in patterns), re.I if "-i" in options else 0)
    found, code = False, 0
    for name in words or ["-"]:
        try:
            found |= _grep_one(process, (await whole(process, name)).splitlines(), name, pattern, options)
        except OSError as failed:
            code = 2 if "-s" in options else complain_about(process, failed, name) + 1
    return 0 if found and (not code or "-q|--quiet" in options) else code or 1


def _expression(text: str, options: Options) -> str:
    if "-F|--fixed-strings" in options:
        expression = re.escape(text)
    else:
        expression = text if "-E|--extended-regexp" in options else _extended(text)
        for name, members in _CLASSES.items():
            expression = expression.replace(name, members)
    expression = f"(?:{expression})"
    if "-w" in options:
        expression = rf"\b{expression}\b"
    return rf"\A{expression}\Z" if "-x" in options else expression


def _extended(basic: str) -> str:
    """A basic regular expression with its operators turned into extended ones."""

    def one(found: re.Match[str]) -> str:
        token = found[0]
        if len(token) == 2:
            return token[1] if token[1] in "(){}|+?" else token
        return "\\" + token

    return re.sub(r"\\.|[(){}|+?]", one, basic)


def _grep_one(process: Process, text: list[str], name: str, pattern: re.Pattern[str], options: Options) -> bool:
    hits = [(n, line) for n, line in enumerate(text, 1) if bool(pattern.search(line)) != ("-v" in options)]
    prefix = f"{name}:" if len(options.words) > 1 and "-h" not in options else ""
    if "-q|--quiet" in options:
        return bool(hits)
    if "-l" in options:
        if hits:
            process.print(name)
    elif "-c" in options:
        process.print(f"{prefix}{len(hits)}")
    else:
        for n, line in hits:
            shown = [found[0] for found in pattern.finditer(line) if found[0]] if "-o" in options else [line]
            for one in shown:
                process.print(f"{prefix}{f'{n}:' if '-n' in options else ''}{one}")
    return bool(hits)


async def checksum(process: Process) -> int:
    """sha256sum, sha512sum, sha1sum, md5sum [-c] [NAME...]"""
    options = Options(process, "cbt", ("check", "status", "quiet", "strict", "ignore-missing"))
    algorithm = process.argv[0].rpartition("/")[2].removesuffix("sum")
    if "-c|--check" in options:
        return await _check(process, options, algorithm)
    code = 0
    for name in options.words or ["-"]:
        try:
            process.print(f"{await _digest(process, name, algorithm)}  {name}")
        except OSError as failed:
            code = complain_about(process, failed, name)
    return code


async def _digest(process: Process, name: str, algorithm: str) -> str:
    content: Content
    if name == "-":
        content = Memory(b"".join([chunk async for chunk in pieces(process, name)]))
    else:
        content = process.machine.files.content(process.path(name), process.user)
    return await asyncio.to_thread(content.digest, algorithm)


async def _check(process: Process, options: Options, algorithm: str) -> int:
    found, code = await lines(process, options.words)
    failures = 0
    for line in found:
        wanted, _, name = line.partition(" ")
        name = name.lstrip(" *")
        try:
            matches = await _digest(process, name, algorithm) == wanted.lower()
        except OSError as failed:
            if "--ignore-missing" not in options:
                complain_about(process, failed, name)
                process.print(f"{name}: FAILED open or read")
                failures += 1
            continue
        failures += not matches
        if "--status" not in options and not (matches and "--quiet" in options):
            process.print(f"{name}: {'OK' if matches else 'FAILED'}")
    if failures and "--status" not in options:
        plural = "" if failures == 1 else "s"
        process.complain(f"{process.argv[0]}: WARNING: {failures} computed checksum{plural} did NOT match")
    return 1 if failures else code


SEARCH_TOOLS: Mapping[str, Command] = MappingProxyType(
    {
        "grep": grep,
        "md5sum": checksum,
        "sha1sum": checksum,
        "sha256sum": checksum,
        "sha512sum": checksum,
    }
)
