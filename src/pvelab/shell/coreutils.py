"""The commands every lab machine has; a machine adds its own to these."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from pvelab.machine import Command, Process
from pvelab.shell.arguments import UsageRefused, complain_about
from pvelab.shell.filetools import FILE_TOOLS
from pvelab.shell.looktools import LOOK_TOOLS
from pvelab.shell.machinetools import MACHINE_TOOLS
from pvelab.shell.searchtools import SEARCH_TOOLS
from pvelab.shell.texttools import TEXT_TOOLS, pieces

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "k": 1 << 10}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


async def true(_process: Process) -> int:
    """true"""
    return 0


async def false(_process: Process) -> int:
    """false"""
    return 1


async def sleep(process: Process) -> int:
    """sleep SECONDS"""
    for word in process.argv[1:]:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", word)
        if not found:
            process.complain(f"sleep: invalid time interval '{word}'")
            return 1
        await process.machine.clock.sleep(float(found[1]) * _SECONDS[found[2]])
    return 0


async def dd(process: Process) -> int:
    """dd [if=NAME] [of=NAME] [bs=SIZE] [skip=N] [count=N] [conv=...] [oflag=...] [status=none]"""
    operands = dict(word.partition("=")[::2] for word in process.argv[1:])
    unknown = operands.keys() - {"if", "of", "bs", "skip", "count", "conv", "oflag", "iflag", "status"}
    block = re.fullmatch(r"(\d+)([KMGk]?)", operands.get("bs", "512"))
    if unknown or not block:
        process.complain(f"dd: unrecognized operand '{next(iter(unknown), operands.get('bs'))}'")
        return 1
    block_bytes = int(block[1]) * _UNITS[block[2]]
    left_bytes = block_bytes * int(operands["count"]) if "count" in operands else 1 << 62
    to_skip_bytes = block_bytes * int(operands.get("skip", "0"))
    name, copied_bytes, writer = operands.get("if", "-"), 0, None
    try:
        if "of" in operands:
            mode = 0o666 & ~process.umask
            writer = process.machine.files.open_writer(process.path(operands["of"]), process.user, mode=mode)
        async for chunk in pieces(process, name):
            taken = chunk[to_skip_bytes:][: left_bytes - copied_bytes]
            to_skip_bytes = max(to_skip_bytes - len(chunk), 0)
            copied_bytes += len(taken)
            if writer:
                writer.write(taken)
            else:
                process.out += taken
                await process.flush()
            if copied_bytes >= left_bytes:
                break
    except OSError as failed:
        return complain_about(process, failed, str(failed.filename or operands.get("of", name)), "failed to open")
    finally:
        if writer:
            writer.close()
    if operands.get("status") != "none":
        process.complain(f"{copied_bytes} bytes copied")
    return 0


async def seq(process: Process) -> int:
    """seq [FIRST] LAST"""
    numbers = [int(word) for word in process.argv[1:] if re.fullmatch(r"-?\d+", word)]
    if not 1 <= len(numbers) == len(process.argv) - 1 <= 2:
        process.complain("seq: one or two whole numbers are known here")
        return 1
    for number in range(numbers[0] if len(numbers) == 2 else 1, numbers[-1] + 1):
        process.print(str(number))
    return 0


def _explained(command: Command) -> Command:
    async def run(process: Process) -> int:
        try:
            return await command(process)
        except UsageRefused as refused:
            process.complain(str(refused))
            return 2 if process.argv[0] in ("grep", "ls", "sort") else 1

    return run


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        name: _explained(command)
        for name, command in {
            **FILE_TOOLS,
            **LOOK_TOOLS,
            **MACHINE_TOOLS,
            **SEARCH_TOOLS,
            **TEXT_TOOLS,
            "dd": dd,
            "false": false,
            "seq": seq,
            "sleep": sleep,
            "sync": true,
            "true": true,
        }.items()
    }
)
