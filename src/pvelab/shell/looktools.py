"""Core utilities that look at files: ls, stat, df, test."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from pvelab.machine import Command, Process
from pvelab.shell.arguments import Options, complain_about
from pvelab.shell.entries import Entry, File, Folder, Link
from pvelab.shell.files import Usage
from pvelab.shell.streams import DEVICES


async def ls(process: Process) -> int:
    """ls [-1aAdl] [NAME...]"""
    options = Options(process, "1aAdlhn", ("all",))
    names, code = options.words or ["."], 0
    folders: list[str] = []
    for name in sorted(names):
        try:
            if "-d" in options or not isinstance(process.machine.files.entry(process.path(name), process.user), Folder):
                _list_one(process, process.path(name), name, options)
            else:
                folders.append(name)
        except OSError as failed:
            complain_about(process, failed, name, "cannot access")
            code = 2
    for name in folders:
        if len(names) > 1:
            process.print(f"\n{name}:" if process.out else f"{name}:")
        code = max(code, _list_folder(process, name, options))
    return code


def _list_folder(process: Process, name: str, options: Options) -> int:
    path = process.path(name)
    try:
        names = process.machine.files.names(path, process.user)
    except OSError as failed:
        complain_about(process, failed, name, "cannot open directory")
        return 2
    if "-a|--all" in options:
        names = [".", "..", *names]
    shown = [inner for inner in names if not inner.startswith(".") or "-a|-A|--all" in options]
    if "-l" in options:
        process.print(f"total {4 * len(shown)}")
    for inner in shown:
        _list_one(process, posixpath.join(path, inner), inner, options)
    return 0


def _list_one(process: Process, path: str, name: str, options: Options) -> None:
    if "-l" not in options:
        process.print(name)
        return
    entry = process.machine.files.entry(path, process.user, follow=False)
    when = datetime.fromtimestamp(entry.modified, UTC).strftime("%b %e %H:%M")
    arrow = f" -> {entry.target}" if isinstance(entry, Link) else ""
    process.print(f"{_letters(entry)} 1 {entry.owner} {entry.owner} {_size_bytes(entry)} {when} {name}{arrow}")


def _letters(entry: Entry) -> str:
    kind = {Folder: "d", Link: "l", File: "-"}[type(entry)]
    return kind + "".join(letter if entry.mode >> 8 - n & 1 else "-" for n, letter in enumerate("rwxrwxrwx"))


def _size_bytes(entry: Entry) -> int:
    if isinstance(entry, File):
        return entry.content.size_bytes
    return len(entry.target) if isinstance(entry, Link) else 4096


async def stat(process: Process) -> int:
    """stat -c FORMAT NAME..."""
    options = Options(process, "c:L", ("format=", "printf=", "dereference"))
    template = options.value("-c|--format|--printf")
    if not template:
        process.complain("stat: only -c FORMAT is known here")
        return 1
    code = 0
    for name in options.words:
        try:
            follow = "-L|--dereference" in options
            entry = process.machine.files.entry(process.path(name), process.user, follow=follow)
            process.print(_stat_text(process, entry, name, template))
        except OSError as failed:
            code = complain_about(process, failed, name, "cannot statx")
    return code


def _stat_text(process: Process, entry: Entry, name: str, template: str) -> str:
    account = process.machine.accounts.get(entry.owner)
    uid = str(account.uid if account else 0)
    kinds = {File: "regular file", Folder: "directory", Link: "symbolic link"}
    is_empty = isinstance(entry, File) and not entry.content.size_bytes
    values = {
        "s": str(_size_bytes(entry)),
        "b": str((entry.content.allocated_bytes if isinstance(entry, File) else 4096) // 512),
        "a": f"{entry.mode:o}",
        "A": _letters(entry),
        "U": entry.owner,
        "G": entry.owner,
        "u": uid,
        "g": uid,
        "n": name,
        "F": "regular empty file" if is_empty else kinds[type(entry)],
        "Y": str(int(entry.modified)),
        "y": datetime.fromtimestamp(entry.modified, UTC).strftime("%Y-%m-%d %H:%M:%S.%f000 +0000"),
        "%": "%",
    }
    return re.sub(r"%([a-zA-Z%])", lambda found: values.get(found[1], "?"), template)


async def df(process: Process) -> int:
    """df [-P] [-k] [-h] [-B SIZE] [--output=FIELDS] [NAME...]"""
    options = Options(process, "PkhTB:", ("output=", "block-size=", "portability"))
    block = options.value("-B|--block-size", "1K")
    found = re.fullmatch(r"(\d*)([KMG]?)", block)
    is_human = "-h" in options
    if not found:
        process.complain("df: only block sizes in bytes, K, M or G are known here")
        return 1
    fields = options.value("--output", "source,size,used,avail,pcent,target").split(",")
    if not set(fields) <= set(_DF):
        process.complain(f"df: option --output: field '{next(iter(set(fields) - set(_DF)))}' unknown")
        return 1
    block_bytes = int(found[1] or 1) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]]
    titles = {**_DF_TITLES, "avail": "Avail"} if "--output" in options or is_human else _DF_TITLES
    titles = {**titles, "size": "Size"} if is_human else titles
    rows = [[titles.get(field, field) for field in fields]]
    files, code = process.machine.files, 0
    for name in options.words or [one.point for one in files.mounted]:
        path = process.path(name)
        if not files.exists(path):
            process.complain(f"df: {name}: No such file or directory")
            code = 1
        else:
            rows.append([_DF[field](files.usage(path), 0 if is_human else block_bytes) for field in fields])
    if len(rows) > 1:
        _print_table(process, rows, [field in ("source", "fstype", "target") for field in fields])
    return code


def _print_table(process: Process, rows: list[list[str]], is_text: list[bool]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, is_text, strict=True)
        process.print(" ".join(one.ljust(width) if left else one.rjust(width) for one, width, left in cells).rstrip())


def _blocks(size_bytes: int, block_bytes: int) -> str:
    """In blocks, or with 0 as people read it: rounded up, one decimal below ten."""
    if block_bytes:
        return str(-(-size_bytes // block_bytes))
    amount, units = float(size_bytes), list("KMGTP")
    unit = ""
    while amount >= 1024 and units:
        amount, unit = amount / 1024, units.pop(0)
    return f"{math.ceil(amount * 10) / 10:.1f}{unit}" if unit and amount < 10 else f"{math.ceil(amount)}{unit}"


def _percent(usage: Usage, _block_bytes: int) -> str:
    return f"{-(-100 * usage.used_bytes // max(1, usage.total_bytes))}%"


_DF_TITLES = {
    "source": "Filesystem",
    "fstype": "Type",
    "size": "1K-blocks",
    "used": "Used",
    "avail": "Available",
    "pcent": "Use%",
    "target": "Mounted on",
}
_DF: Mapping[str, Callable[[Usage, int], str]] = MappingProxyType(
    {
        "source": lambda usage, _: usage.mounted.device,
        "fstype": lambda usage, _: usage.mounted.kind,
        "size": lambda usage, block_bytes: _blocks(usage.total_bytes, block_bytes),
        "used": lambda usage, block_bytes: _blocks(usage.used_bytes, block_bytes),
        "avail": lambda usage, block_bytes: (
            str(usage.available_bytes // block_bytes) if block_bytes else _blocks(usage.available_bytes, 0)
        ),
        "pcent": _percent,
        "target": lambda usage, _: usage.mounted.point,
    }
)


class _Test:
    """The expression of `test`."""

    def __init__(self, process: Process, words: list[str]) -> None:
        self._process = process
        self._words = words

    def whole(self) -> bool:
        """All words as one expression. Raises ValueError."""
        result = self._either() if self._words else False
        if self._words:
            raise ValueError(f"{self._words[0]}: unexpected operator")
        return result

    def _either(self) -> bool:
        result = self._both()
        while self._words[:1] == ["-o"]:
            self._words.pop(0)
            result = self._both() or result
        return result

    def _both(self) -> bool:
        result = self._one()
        while self._words[:1] == ["-a"]:
            self._words.pop(0)
            result = self._one() and result
        return result

    def _one(self) -> bool:
        words = self._words
        if len(words) >= 3 and words[1] in _COMPARISONS:
            left, operator, right = words[:3]
            del words[:3]
            return _COMPARISONS[operator](left, right)
        word = words.pop(0) if words else ""
        if word == "!" and words:
            return not self._one()
        if word == "(" and words:
            result = self._either()
            if words[:1] != [")"]:
                raise ValueError("closing paren expected")
            words.pop(0)
            return result
        if re.fullmatch("-[a-zA-Z]", word) and words:
            return self._about(word, words.pop(0))
        return bool(word)

    def _about(self, operator: str, name: str) -> bool:
        if operator in ("-n", "-z"):
            return bool(name) == (operator == "-n")
        if operator == "-t":
            return False
        if operator not in ("-e", "-f", "-d", "-s", "-r", "-w", "-x", "-L", "-h", "-c"):
            raise ValueError(f"{operator}: unexpected operator")
        path = self._process.path(name)
        if path in DEVICES:
            return operator in ("-e", "-r", "-w", "-c")
        try:
            entry = self._process.machine.files.entry(path, self._process.user, follow=operator not in ("-L", "-h"))
        except OSError:
            return False
        return self._holds(operator, entry)

    def _holds(self, operator: str, entry: Entry) -> bool:
        if operator in ("-r", "-w", "-x"):
            bit = {"-r": 4, "-w": 2, "-x": 1}[operator]
            if self._process.user == "root":
                return operator != "-x" or isinstance(entry, Folder) or bool(entry.mode & 0o111)
            return bool(entry.mode >> (6 if entry.owner == self._process.user else 0) & bit)
        return {
            "-e": True,
            "-f": isinstance(entry, File),
            "-d": isinstance(entry, Folder),
            "-s": _size_bytes(entry) > 0,
            "-L": isinstance(entry, Link),
            "-h": isinstance(entry, Link),
            "-c": False,
        }[operator]


def _numbers(compare: Callable[[int, int], bool]) -> Callable[[str, str], bool]:
    def numeric(left: str, right: str) -> bool:
        for word in (left, right):
            if not re.fullmatch(r"\s*[-+]?\d+\s*", word):
                raise ValueError(f"Illegal number: {word}")
        return compare(int(left), int(right))

    return numeric


_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = MappingProxyType(
    {
        "=": lambda left, right: left == right,
        "==": lambda left, right: left == right,
        "!=": lambda left, right: left != right,
        "-eq": _numbers(lambda left, right: left == right),
        "-ne": _numbers(lambda left, right: left != right),
        "-lt": _numbers(lambda left, right: left < right),
        "-le": _numbers(lambda left, right: left <= right),
        "-gt": _numbers(lambda left, right: left > right),
        "-ge": _numbers(lambda left, right: left >= right),
    }
)


async def test(process: Process) -> int:
    """test EXPRESSION, [ EXPRESSION ]"""
    words = process.argv[1:]
    if process.argv[0] == "[" and (not words or words.pop() != "]"):
        process.complain("sh: 1: [: missing ]")
        return 2
    try:
        return 0 if _Test(process, words).whole() else 1
    except ValueError as refused:
        process.complain(f"sh: 1: {process.argv[0]}: {refused}")
        return 2


LOOK_TOOLS: Mapping[str, Command] = MappingProxyType(
    {
        "[": test,
        "df": df,
        "ls": ls,
        "stat": stat,
        "test": test,
    }
)
