"""Core utilities that pass text and data on: cat, tee, printf, head, cut and their like."""

from __future__ import annotations

import asyncio
import base64 as encoding
import posixpath
import re
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType

from pvelab.machine import Command, Process
from pvelab.shell.arguments import Options, complain_about
from pvelab.shell.streams import DEVICES

_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "\\": "\\",
    "a": "\a",
    "b": "\b",
    "e": "\x1b",
    "f": "\f",
    "v": "\v",
    "0": "\0",
}


async def pieces(process: Process, name: str) -> AsyncIterator[bytes]:
    """The data of a file, or of the input for `-`, in pieces. Raises OSError."""
    path = process.path(name)
    if name == "-" or path == "/dev/stdin":
        while chunk := await process.stdin.chunk():
            yield chunk
    elif path in DEVICES:
        device = DEVICES[path]()
        while chunk := await device.chunk():
            yield chunk
    else:
        for chunk in process.machine.files.content(path, process.user).chunks():
            yield chunk
            await asyncio.sleep(0)


async def whole(process: Process, name: str) -> str:
    """The text of a file, or of the input for `-`. Raises OSError."""
    data = b"".join([chunk async for chunk in pieces(process, name)])
    return data.decode(errors="surrogateescape")


async def lines(process: Process, names: list[str]) -> tuple[list[str], int]:
    """The lines of all files, or of the input, and 1 if one could not be read (said on err)."""
    found: list[str] = []
    code = 0
    for name in names or ["-"]:
        try:
            found += (await whole(process, name)).splitlines()
        except OSError as failed:
            code = complain_about(process, failed, name)
    return found, code


async def cat(process: Process) -> int:
    """cat [NAME...]"""
    code = 0
    for name in Options(process, "u").words or ["-"]:
        try:
            source = pieces(process, name)
            chunk = await anext(source, b"")
        except OSError as failed:
            code = complain_about(process, failed, name)
            continue
        while chunk:
            process.out += chunk
            await process.flush()
            chunk = await anext(source, b"")
    return code


async def tee(process: Process) -> int:
    """tee [-a] NAME..."""
    options = Options(process, "a", ("append",))
    writers, code = [], 0
    mode, files = 0o666 & ~process.umask, process.machine.files
    for name in options.words:
        if process.path(name) in DEVICES:
            continue
        try:
            append = "-a|--append" in options
            writers.append(files.open_writer(process.path(name), process.user, mode=mode, append=append))
        except OSError as failed:
            code = complain_about(process, failed, name)
    try:
        async for chunk in pieces(process, "-"):
            for writer in writers:
                writer.write(chunk)
            process.out += chunk
            await process.flush()
    finally:
        for writer in writers:
            writer.close()
    return code


async def echo(process: Process) -> int:
    """echo [-n] WORD..., with backslash escapes as in dash"""
    words = process.argv[1:]
    ends_line = words[:1] != ["-n"]
    text = " ".join(words if ends_line else words[1:])
    process.out += _unescaped(text).encode(errors="surrogateescape") + (b"\n" if ends_line else b"")
    return 0


def _unescaped(text: str) -> str:
    def one(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 8))
        if found[2]:
            return chr(int(found[2], 16))
        return _ESCAPES.get(found[3], found[0])

    return re.sub(r"\\(?:([0-7]{2,4})|x([0-9a-fA-F]{1,2})|(.))", one, text)


async def printf(process: Process) -> int:
    """printf FORMAT [ARGUMENT...]"""
    if len(process.argv) < 2:
        process.complain("sh: 1: printf: usage: printf format [arg ...]")
        return 2
    template, arguments = process.argv[1], process.argv[2:]
    text = ""
    while True:
        before = len(arguments)
        text += _formatted(template, arguments)
        if not arguments or len(arguments) == before:
            break
    process.out += text.encode(errors="surrogateescape")
    return 0


def _formatted(template: str, arguments: list[str]) -> str:
    def one(found: re.Match[str]) -> str:
        if found[0].startswith("\\"):
            return _unescaped(found[0])
        if found[2] == "%":
            return "%"
        value = arguments.pop(0) if arguments else ""
        if found[2] == "b":
            return _unescaped(value)
        if found[2] == "s":
            return f"%{found[1]}s" % value
        if found[2] == "c":
            return value[:1]
        return f"%{found[1]}{found[2]}" % int(value or "0", 0)

    return re.sub(r"%([-+ 0#]*\d*(?:\.\d+)?)([sdiuxXocb%])|\\(?:[0-7]{1,4}|x[0-9a-fA-F]{1,2}|.)", one, template)


async def head(process: Process) -> int:
    """head [-n LINES] [-c BYTES] [NAME...]"""
    return await _part_of_each(process, is_head=True)


async def tail(process: Process) -> int:
    """tail [-n [+]LINES] [-c BYTES] [NAME...]"""
    return await _part_of_each(process, is_head=False)


async def _part_of_each(process: Process, *, is_head: bool) -> int:
    process.argv[1:] = [re.sub(r"^-(\d+)$", r"-n\1", word) for word in process.argv[1:]]
    options = Options(process, "n:c:q", ("lines=", "bytes="))
    count = options.value("-n|-c|--lines|--bytes", "10")
    if not re.fullmatch(r"[-+]?\d+", count):
        process.complain(f"{process.argv[0]}: invalid number of lines: '{count}'")
        return 1
    first, last = _bounds(count, is_head=is_head)
    code = 0
    for name in options.words or ["-"]:
        try:
            data = await _enough(process, name, last, counts_bytes="-c|--bytes" in options)
        except OSError as failed:
            code = complain_about(process, failed, name, "cannot open")
            continue
        if "-c|--bytes" in options:
            process.out += data[first:last]
        else:
            process.out += b"".join(data.splitlines(keepends=True)[first:last])
    return code


async def _enough(process: Process, name: str, last: int | None, *, counts_bytes: bool) -> bytes:
    """What has to be read to know the first `last` lines or bytes; all of it if that counts from the end."""
    data = bytearray()
    async for chunk in pieces(process, name):
        data += chunk
        if last is not None and last >= 0 and (len(data) if counts_bytes else data.count(b"\n")) >= last:
            break
    return bytes(data)


def _bounds(count: str, *, is_head: bool) -> tuple[int | None, int | None]:
    """The slice that `head` or `tail` keeps."""
    if is_head:
        return None, int(count)
    if count.startswith("+"):
        return max(0, int(count) - 1), None
    kept = abs(int(count))
    return (-kept, None) if kept else (0, 0)


async def wc(process: Process) -> int:
    """wc [-l] [-w] [-c] [NAME...]"""
    options = Options(process, "lwcm", ("lines", "words", "bytes"))
    shows_all = not {"-l", "-w", "-c", "-m"} & {word[:2] for word in process.argv[1:]}
    code = 0
    for name in options.words or ["-"]:
        counts = [0, 0, 0]
        try:
            async for chunk in pieces(process, name):
                counts = [counts[0] + chunk.count(b"\n"), counts[1] + len(chunk.split()), counts[2] + len(chunk)]
        except OSError as failed:
            code = complain_about(process, failed, name)
            continue
        wanted = [shows_all or "-l|--lines" in options, shows_all or "-w|--words" in options]
        wanted.append(shows_all or "-c|-m|--bytes" in options)
        shown = [str(count) for count, is_wanted in zip(counts, wanted, strict=True) if is_wanted]
        process.print(" ".join(shown + ([name] if name != "-" else [])))
    return code


async def tr(process: Process) -> int:
    """tr [-d] [-s] SET [SET]"""
    options = Options(process, "ds")
    text = await whole(process, "-")
    first, *rest = [_characters(word) for word in options.words] or [""]
    if "-d" in options:
        text = "".join(char for char in text if char not in first)
    elif rest:
        second = rest[0] + rest[0][-1:] * (len(first) - len(rest[0]))
        text = text.translate({ord(char): second[n] for n, char in enumerate(first)})
    if "-s" in options:
        squeezed = rest[-1] if rest else first
        text = re.sub(f"([{re.escape(squeezed)}])\\1+", r"\1", text)
    process.out += text.encode(errors="surrogateescape")
    return 0


def _characters(word: str) -> str:
    ranges = {"[:upper:]": "A-Z", "[:lower:]": "a-z", "[:digit:]": "0-9", "[:space:]": " \\t\\n\\r\\v\\f"}
    for name, members in ranges.items():
        word = word.replace(name, members)
    word = _unescaped(word)
    return re.sub("(.)-(.)", lambda found: "".join(map(chr, range(ord(found[1]), ord(found[2]) + 1))), word)


async def cut(process: Process) -> int:
    """cut -d CHARACTER -f LIST, cut -c LIST"""
    options = Options(process, "d:f:c:s")
    found, code = await lines(process, options.words)
    wanted = _positions(options.value("-f|-c"))
    for line in found:
        if "-c" in options:
            process.print("".join(char for n, char in enumerate(line, 1) if wanted(n)))
            continue
        delimiter = options.value("-d", "\t")
        fields = line.split(delimiter)
        if len(fields) == 1:
            process.print(line)
        else:
            process.print(delimiter.join(field for n, field in enumerate(fields, 1) if wanted(n)))
    return code


def _positions(text: str) -> Callable[[int], bool]:
    bounds = [part.partition("-") for part in text.split(",")]
    spans = [(int(low or 1), int(high or (1 << 30)) if dash else int(low)) for low, dash, high in bounds]
    return lambda position: any(low <= position <= high for low, high in spans)


async def sort(process: Process) -> int:
    """sort [-n] [-r] [-u] [NAME...]"""
    options = Options(process, "nruV")
    found, code = await lines(process, options.words)
    found = sorted(set(found) if "-u" in options else found, key=_number if "-n" in options else str)
    for line in reversed(found) if "-r" in options else found:
        process.print(line)
    return code


def _number(line: str) -> float:
    found = re.match(r"\s*(-?\d+(?:\.\d+)?)", line)
    return float(found[1]) if found else 0.0


async def basename(process: Process) -> int:
    """basename NAME [SUFFIX]"""
    name, *suffix = Options(process).words or [""]
    own = posixpath.basename(name.rstrip("/")) or name[:1]
    process.print(own.removesuffix(suffix[0] if suffix else ""))
    return 0


async def dirname(process: Process) -> int:
    """dirname NAME"""
    for name in Options(process).words:
        process.print("/" if name.strip("/") == "" and name else posixpath.dirname(name.rstrip("/")) or ".")
    return 0


async def base64(process: Process) -> int:
    """base64 [-d] [-w COLUMNS] [NAME]"""
    options = Options(process, "dw:", ("decode", "wrap="))
    data = (await whole(process, (options.words or ["-"])[0])).encode(errors="surrogateescape")
    if "-d|--decode" in options:
        process.out += encoding.b64decode(data)
        return 0
    text, width = encoding.b64encode(data).decode(), int(options.value("-w|--wrap", "76"))
    for start in range(0, len(text), width or len(text) or 1):
        process.out += text[start : start + (width or len(text))].encode() + (b"\n" if width else b"")
    return 0


TEXT_TOOLS: Mapping[str, Command] = MappingProxyType(
    {
        "base64": base64,
        "basename": basename,
        "cat": cat,
        "cut": cut,
        "dirname": dirname,
        "echo": echo,
        "head": head,
        "printf": printf,
        "sort": sort,
        "tail": tail,
        "tee": tee,
        "tr": tr,
        "wc": wc,
    }
)
