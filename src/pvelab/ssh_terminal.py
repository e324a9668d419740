"""What a person at a terminal needs of a shell over SSH: a prompt, the echo of keys, Ctrl-C."""

from __future__ import annotations

import asyncio
import re

from pvelab.machine import Input
from pvelab.shell.interpreter import Shell
from pvelab.shell.streams import Output

INTERRUPTED = 130
_KEYS = re.compile(rb"\x1b\[[0-9;]*[A-Za-z~]|.", re.DOTALL)
_UP, _DOWN = b"\x1b[A", b"\x1b[B"
_ENTER, _ERASE, _INTERRUPT, _END, _KILL = (b"\r", b"\n"), (b"\x7f", b"\x08"), b"\x03", b"\x04", b"\x15"
_LEAVING = re.compile(r"\s*(?:exit|logout)(?:\s+(\d+))?\s*")


class TerminalOutput:
    """Output to a terminal, which wants a carriage return before each line feed."""

    def __init__(self, output: Output) -> None:
        self._output = output

    async def write(self, data: bytes) -> None:
        """Send data. Raises BrokenPipeError when the client is gone."""
        await self._output.write(data.replace(b"\n", b"\r\n"))

    async def close(self) -> None:
        """The channel is closed by the exit status."""


class Conversation:
    """A shell that reads line after line from the keys of a terminal."""

    def __init__(self, shell: Shell, keys: Input, screen: Output) -> None:
        self._shell = shell
        self._keys = keys
        self._screen = screen
        self._typed: list[bytes] = []
        self._coming: asyncio.Task[bytes] | None = None
        self._history: list[bytes] = []

    async def hold(self) -> int:
        """Until exit, Ctrl-D or the end of the connection; the exit code."""
        try:
            return await self._hold()
        finally:
            if self._coming:
                self._coming.cancel()

    async def _hold(self) -> int:
        code = 0
        while (line := await self._line()) is not None:
            leaving = _LEAVING.fullmatch(line)
            if leaving:
                await self._screen.write(b"logout\n")
                return int(leaving[1] or code)
            if line.strip():
                code = await self._run(line)
        return code

    def _prompt(self) -> bytes:
        environment = self._shell.environment
        home = environment.value("HOME") or "/"
        where = "~" + environment.cwd.removeprefix(home) if environment.cwd.startswith(home) else environment.cwd
        sign = "#" if environment.user == "root" else "$"
        return f"{environment.user}@{environment.machine.hostname}:{where}{sign} ".encode()

    async def _line(self) -> str | None:
        """The next line typed; None at the end."""
        await self._screen.write(self._prompt())
        line, place = b"", len(self._history)
        while key := await self._key():
            if key in _ENTER:
                await self._screen.write(b"\n")
                self._history += [line] if line.strip() else []
                return line.decode(errors="replace")
            if key == _END and not line:
                await self._screen.write(b"logout\n")
                return None
            if key == _INTERRUPT:
                await self._screen.write(b"^C\n" + self._prompt())
                line = b""
            elif key in (_UP, _DOWN):
                place = min(max(place + (-1 if key == _UP else 1), 0), len(self._history))
                line = await self._show(line, [*self._history, b""][place])
            elif key in _ERASE:
                line = await self._show(line, line[:-1])
            elif key == _KILL:
                line = await self._show(line, b"")
            elif key >= b" " and not key.startswith(b"\x1b"):
                line += key
                await self._screen.write(key)
        return None

    async def _show(self, before: bytes, after: bytes) -> bytes:
        """Put another line in the place of the one on screen."""
        await self._screen.write(b"\b \b" * len(before) + after)
        return after

    async def _key(self) -> bytes:
        """The next key; empty at the end of the connection."""
        while not self._typed:
            data = await self._next_piece()
            if not data:
                return b""
            self._typed += _KEYS.findall(data)
        return self._typed.pop(0)

    async def _next_piece(self) -> bytes:
        if self._coming is None:
            self._coming = asyncio.create_task(self._keys.chunk())
        coming = self._coming
        await asyncio.wait((coming,))
        self._coming = None
        return coming.result()

    async def _run(self, line: str) -> int:
        """Run a line, which Ctrl-C ends; what else is typed meanwhile is for the next line."""
        work = asyncio.create_task(self._shell.run_text(line))
        is_watched = True
        while not work.done():
            if is_watched and self._coming is None:
                self._coming = asyncio.create_task(self._keys.chunk())
            awaited: list[asyncio.Task[int] | asyncio.Task[bytes]] = [work]
            if self._coming:
                awaited.append(self._coming)
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if self._coming and self._coming.done():
                data, self._coming = self._coming.result(), None
                is_watched = bool(data)
                keys = _KEYS.findall(data)
                if _INTERRUPT in keys:
                    work.cancel()
                    await asyncio.wait((work,))
                    await self._screen.write(b"^C\n")
                    return INTERRUPTED
                self._typed += keys
        return work.result()
