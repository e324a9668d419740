"""Runs parsed shell scripts on a machine, with dash's messages and exit codes."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pvelab.machine import Command as Program
from pvelab.machine import Process
from pvelab.shell.arithmetic import ArithmeticRefused
from pvelab.shell.control import Exit, LoopControl, Return
from pvelab.shell.environment import Environment, Executed
from pvelab.shell.expand import Expander, ExpansionFailed, matches
from pvelab.shell.parser import parse
from pvelab.shell.redirect import RedirectionFailed, Streams, redirected
from pvelab.shell.streams import Collected, Nothing, Pipe
from pvelab.shell.syntax import (
    Case,
    Command,
    For,
    Function,
    Group,
    If,
    Item,
    Loop,
    Pipeline,
    Script,
    Simple,
    SyntaxRefused,
)

PROGRAM_FOLDERS = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")
NOT_FOUND, NOT_EXECUTABLE, BROKEN_PIPE = 127, 126, 141
Builtin = Callable[["Shell", Process], Awaitable[int]]
_background: set[asyncio.Task[int]] = set()


@dataclass(slots=True)
class Shell:
    """One shell: an environment, streams, and the commands built into it."""

    environment: Environment
    streams: Streams
    builtins: Mapping[str, Builtin]
    substitution_code: int = 0
    """That of the last $(...), which is that of a command that only assigns."""

    async def run_text(self, text: str) -> int:
        """Parse and run a whole script to the end of the shell; the exit code."""
        try:
            code = await self._run_to_exit(parse(text))
        except SyntaxRefused as refused:
            await self.streams.write(2, f"{self.environment.name}: {refused}\n".encode())
            code = 2
        self.environment.last = code
        if self.environment.at_exit:
            trap, self.environment.at_exit = self.environment.at_exit, ""
            code = await self._run_to_exit(parse(trap), code)
        return code

    async def run_script(self, script: Script) -> int:
        """Run commands one after the other; the exit code of the last."""
        code = 0
        for item in script:
            code = await self._run_item(item)
        return code

    async def subshell(self, script: Script, streams: Streams) -> int:
        """Run a script without an effect on this shell's environment."""
        inner = Shell(self.environment.copy(), streams, self.builtins)
        return await inner._run_to_exit(script)

    def nested(self, user: str = "") -> Shell:
        """A shell within this one, with the same streams, as this or another user."""
        environment = self.environment.copy()
        environment.user = user or environment.user
        return Shell(environment, self.streams, self.builtins)

    def where(self, word: str) -> str:
        """What the word would run: itself when it is built in, else a path; empty when it is unknown."""
        if word in self.environment.functions or word in self.builtins:
            return word
        files = self.environment.machine.files
        folders = [""] if "/" in word else (self.environment.value("PATH") or "").split(":")
        for folder in folders:
            path = self.environment.path(posixpath.join(folder, word))
            if files.is_file(path) and files.entry(path).mode & 0o111:
                return path
        return posixpath.join("/usr/bin", word) if self._program(word) else ""

    def note(self, process: Process, writes: tuple[str, ...] = ()) -> None:
        """Remember that a program runs."""
        self.environment.executed.append(Executed(tuple(process.argv), self.environment.user, writes))

    async def complain(self, reason: str) -> None:
        """Write a line to standard error under the shell's name and the line of the script."""
        text = f"{self.environment.name}: {self.environment.line}: {reason}\n"
        await self.streams.write(2, text.encode())

    async def _run_to_exit(self, script: Script, code: int = 0) -> int:
        try:
            return await self.run_script(script) or code
        except Exit as ended:
            return ended.code
        except (Return, LoopControl):
            return self.environment.last
        except (ExpansionFailed, ArithmeticRefused, SyntaxRefused) as failed:
            await self.complain(str(failed))
            return 2

    async def _run_item(self, item: Item) -> int:
        if item.is_background:
            self._start_in_background(Item(item.first, item.rest))
            return self._remember(0)
        pipeline = item.first
        code = await self._run_pipeline(pipeline, is_tested=bool(item.rest))
        for position, (operator, following) in enumerate(item.rest, 1):
            if (code == 0) == (operator == "&&"):
                pipeline = following
                code = await self._run_pipeline(following, is_tested=position < len(item.rest))
        return code

    async def _run_pipeline(self, pipeline: Pipeline, *, is_tested: bool) -> int:
        kept = set(self.environment.options)
        if is_tested or pipeline.is_negated:
            self.environment.options.discard("e")
        try:
            if len(pipeline.commands) == 1:
                code = await self._run_command(pipeline.commands[0])
            else:
                code = await self._run_pipe(pipeline.commands)
        finally:
            if "e" in kept and (is_tested or pipeline.is_negated):
                self.environment.options.add("e")
        self._remember(int(not code) if pipeline.is_negated else code)
        if code and "e" in self.environment.options and not is_tested and not pipeline.is_negated:
            raise Exit(code)
        return self.environment.last

    async def _run_pipe(self, commands: tuple[Command, ...]) -> int:
        pipes = [Pipe() for _ in commands[1:]]
        ends: list[asyncio.Task[int]] = []
        for position, command in enumerate(commands):
            source = pipes[position - 1] if position else None
            sink = pipes[position] if position < len(pipes) else None
            ends.append(asyncio.create_task(self._run_part(command, source, sink)))
        try:
            codes = await asyncio.gather(*ends)
        finally:
            for end in ends:
                end.cancel()
        failures = [code for code in codes if code]
        return failures[-1] if failures and "pipefail" in self.environment.options else codes[-1]

    async def _run_part(self, command: Command, source: Pipe | None, sink: Pipe | None) -> int:
        streams = self.streams.copy()
        if source:
            streams.put(0, source)
        if sink:
            streams.put(1, sink)
        inner = Shell(self.environment.copy(), streams, self.builtins)
        try:
            return await inner._run_to_exit((Item(Pipeline((command,))),))
        finally:
            if source:
                await source.abandon()
            if sink:
                await sink.close()

    def _start_in_background(self, item: Item) -> None:
        streams = self.streams.copy()
        streams.put(0, Nothing())
        task = asyncio.create_task(self.subshell((item,), streams))
        _background.add(task)
        task.add_done_callback(_background.discard)
        self.streams.background.append(task)

    async def _run_command(self, command: Command) -> int:
        if isinstance(command.kind, Simple):
            return await self._run_simple(command.kind, command)
        if isinstance(command.kind, Function):
            self.environment.functions[command.kind.name] = command.kind.body
            return 0
        outer = self.streams
        try:
            async with redirected(self, command.redirections) as (streams, _):
                self.streams = streams
                return await self._run_compound(command.kind)
        except RedirectionFailed as failed:
            return await self._refused(failed)
        finally:
            self.streams = outer

    async def _run_compound(self, kind: Group | If | Loop | For | Case) -> int:
        if isinstance(kind, Group):
            if kind.is_subshell:
                return await self.subshell(kind.body, self.streams)
            return await self.run_script(kind.body)
        if isinstance(kind, If):
            return await self._run_if(kind)
        if isinstance(kind, Loop):
            return await self._run_loop(kind)
        if isinstance(kind, For):
            return await self._run_for(kind)
        return await self._run_case(kind)

    async def _run_if(self, kind: If) -> int:
        for condition, body in kind.branches:
            if await self._holds(condition):
                return await self.run_script(body)
        return await self.run_script(kind.otherwise)

    async def _holds(self, condition: Script) -> bool:
        had = "e" in self.environment.options
        self.environment.options.discard("e")
        try:
            return await self.run_script(condition) == 0
        finally:
            if had:
                self.environment.options.add("e")

    async def _run_loop(self, kind: Loop) -> int:
        code = 0
        while await self._holds(kind.condition) != kind.is_until:
            goes_on, code = await self._run_round(kind.body)
            if not goes_on:
                break
            await asyncio.sleep(0)
        return code

    async def _run_for(self, kind: For) -> int:
        code = 0
        values = list(self.environment.positional) if kind.words is None else await self.expander.fields(kind.words)
        for value in values:
            self.environment.variables[kind.name] = value
            goes_on, code = await self._run_round(kind.body)
            if not goes_on:
                break
        return code

    async def _run_round(self, body: Script) -> tuple[bool, int]:
        try:
            return True, await self.run_script(body)
        except LoopControl as control:
            if control.levels > 1:
                raise LoopControl(control.levels - 1, continues=control.continues) from None
            return control.continues, 0

    async def _run_case(self, kind: Case) -> int:
        text = await self.expander.text(kind.word)
        for patterns, body in kind.branches:
            for pattern in patterns:
                if matches(text, await self.expander.pattern(pattern)):
                    return await self.run_script(body)
        return 0

    async def _run_simple(self, simple: Simple, command: Command) -> int:
        self.environment.line = simple.line
        argv = await self.expander.fields(simple.words)
        if argv == ["exec"]:
            return await self._keep_redirections(command)
        outer = self.streams
        try:
            async with redirected(self, command.redirections) as (streams, writes):
                self.streams = streams
                return await self._run_argv(simple, argv, writes)
        except RedirectionFailed as failed:
            return await self._refused(failed)
        finally:
            self.streams = outer

    async def _keep_redirections(self, command: Command) -> int:
        for one in command.redirections:
            target = await self.expander.text(one.target)
            path = await self.streams.redirect(one, target, self.environment)
            self.environment.executed.append(Executed((), self.environment.user, (path,) if path else ()))
        return 0

    async def _refused(self, failed: RedirectionFailed) -> int:
        await self.complain(str(failed))
        return self._remember(2)

    async def _run_argv(self, simple: Simple, argv: list[str], writes: tuple[str, ...]) -> int:
        variables = self.environment.variables
        self.substitution_code = 0
        values = {name: await self.expander.text(word) for name, word in simple.assignments}
        if not argv:
            variables.update(values)
            if writes:
                self.environment.executed.append(Executed((), self.environment.user, writes))
            return self.substitution_code
        if argv[0] in self.environment.functions:
            variables.update(values)
            return await self._call_function(argv)
        process = self.process(argv, values)
        self.note(process, writes)
        if "x" in self.environment.options:
            await self.streams.write(2, f"+ {' '.join(argv)}\n".encode())
        return await self._finish(process)

    async def _finish(self, process: Process) -> int:
        try:
            if process.argv[0] in self.builtins:
                code = await self.builtins[process.argv[0]](self, process)
            else:
                code = await self.execute(process)
            await process.flush()
        except (Exit, Return, LoopControl):
            await process.flush()
            raise
        except BrokenPipeError:
            raise Exit(BROKEN_PIPE) from None
        except OSError as failed:
            await self.streams.write(2, f"{process.argv[0]}: write error: {failed.strerror}\n".encode())
            return 1
        return code

    async def _call_function(self, argv: list[str]) -> int:
        environment = self.environment
        kept, environment.positional = environment.positional, argv[1:]
        environment.outer_values.append({})
        try:
            return await self._run_command(environment.functions[argv[0]])
        except Return:
            return environment.last
        finally:
            environment.positional = kept
            for name, value in environment.outer_values.pop().items():
                environment.variables.pop(name, None)
                environment.variables |= {} if value is None else {name: value}

    def process(self, argv: list[str], values: Mapping[str, str]) -> Process:
        """A process with this shell's streams; values are the assignments before its words."""
        environment = self.environment
        process = Process(environment.machine, argv, env={**environment.exports(), **values}, user=environment.user)
        process.cwd, process.umask = environment.cwd, environment.umask
        self.streams.connect(process)
        return process

    async def execute(self, process: Process) -> int:
        """Run a program of the machine: one of its commands, or a script among its files."""
        word = process.argv[0]
        program = self._program(word)
        if program:
            return await program(process)
        files = self.environment.machine.files
        path = self.where(word)
        is_script = bool(path) and files.read(path)[:2] == b"#!"
        if not is_script:
            there = "/" in word and files.exists(self.environment.path(word))
            reason = "Permission denied" if there else "not found"
            process.complain(f"{self.environment.name}: {self.environment.line}: {word}: {reason}")
            return NOT_EXECUTABLE if there else NOT_FOUND
        inner = self.nested()
        inner.environment.name, inner.environment.positional = path, process.argv[1:]
        inner.environment.options, inner.environment.functions = set(), {}
        return await inner.run_text(files.read(path, self.environment.user).decode())

    def _program(self, word: str) -> Program | None:
        folder, _, name = word.rpartition("/")
        if not folder or folder in PROGRAM_FOLDERS:
            return self.environment.machine.commands.get(name)
        return None

    @property
    def expander(self) -> Expander:
        """Expands words here."""
        return Expander(self.environment, self._substituted)

    async def _substituted(self, script: Script) -> str:
        collected = Collected()
        streams = self.streams.copy()
        streams.put(1, collected)
        self.environment.last = self.substitution_code = await self.subshell(script, streams)
        return collected.data.decode(errors="surrogateescape")

    def _remember(self, code: int) -> int:
        self.environment.last = code
        return code
