"""From words to the arguments of a command: parameters, substitutions, field splitting, file name patterns."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pvelab.shell.arithmetic import evaluate
from pvelab.shell.syntax import Arithmetic, Parameter, Part, Script, Substitution, Text, Word

if TYPE_CHECKING:
    from pvelab.shell.environment import Environment

Segment = tuple[str, bool]
"""Text, and whether it was quoted."""
Substitute = Callable[[Script], Awaitable[str]]


class ExpansionFailed(Exception):
    """`${NAME:?text}`, or an unset parameter under `set -u`; ends the shell with exit code 2."""


class Expander:
    """Expands words in an environment; `substitute` runs the script of a $(...) and gives its output."""

    def __init__(self, environment: Environment, substitute: Substitute) -> None:
        self._environment = environment
        self._substitute = substitute

    async def fields(self, words: tuple[Word, ...]) -> list[str]:
        """The arguments that the words stand for."""
        found: list[str] = []
        for word in words:
            for segments in await self._split(word):
                found += self._matching_files(segments)
        return found

    async def text(self, word: Word) -> str:
        """The word as one piece: an assignment, a redirection's target, a here-document."""
        return "".join([text for part in self._with_home(word) for text, _ in await self._piece(part)])

    async def pattern(self, word: Word) -> str:
        """The word as a pattern, in which quoted characters stand for themselves."""
        segments = [segment for part in self._with_home(word) for segment in await self._piece(part)]
        return _pattern(segments)

    async def _split(self, word: Word) -> list[list[Segment]]:
        fields: list[list[Segment]] = [[]]
        keeps_empty = True
        for part in self._with_home(word):
            if isinstance(part, Parameter) and part.name == "@" and not part.operator:
                keeps_empty = keeps_empty and bool(self._environment.positional)
                pieces = [[(argument, part.is_quoted)] for argument in self._environment.positional]
                _append(fields, pieces)
            elif isinstance(part, Text) or part.is_quoted:
                fields[-1] += await self._piece(part)
            else:
                separators = self._environment.variables.get("IFS", " \t\n")
                _append(fields, _cut_apart(await self._piece(part), separators))
        return [field for field in fields if any(text or (is_quoted and keeps_empty) for text, is_quoted in field)]

    async def _piece(self, part: Part) -> list[Segment]:
        if isinstance(part, Text):
            return [(part.text, part.is_quoted)]
        if isinstance(part, Substitution):
            return [((await self._substitute(part.script)).rstrip("\n"), part.is_quoted)]
        if isinstance(part, Arithmetic):
            expression = await self.text(part.expression)
            return [(str(evaluate(expression, self._environment.variables)), part.is_quoted)]
        return await self._parameter(part)

    async def _parameter(self, part: Parameter) -> list[Segment]:
        value = self._environment.value(part.name)
        operator = part.operator
        if operator == "length":
            return [(str(len(value or "")), part.is_quoted)]
        if operator.lstrip(":") in ("-", "=", "?", "+") and operator:
            return await self._with_default(part, value)
        if value is None and "u" in self._environment.options and part.name not in "@*#":
            raise ExpansionFailed(f"{part.name}: parameter not set")
        value = value or ""
        if operator in ("#", "##", "%", "%%"):
            value = _trimmed(value, operator, await self.pattern(part.word))
        return [(value, part.is_quoted)]

    async def _with_default(self, part: Parameter, value: str | None) -> list[Segment]:
        is_missing = value is None or (part.operator.startswith(":") and not value)
        operator = part.operator[-1]
        if operator == "+":
            return [] if is_missing else await self._default(part)
        if not is_missing:
            return [(value or "", part.is_quoted)]
        if operator == "?":
            reason = await self.text(part.word) or "parameter not set or null"
            raise ExpansionFailed(f"{part.name}: {reason}")
        if operator == "=":
            self._environment.variables[part.name] = await self.text(part.word)
        return await self._default(part)

    async def _default(self, part: Parameter) -> list[Segment]:
        segments = [segment for inner in self._with_home(part.word) for segment in await self._piece(inner)]
        return [(text, is_quoted or part.is_quoted) for text, is_quoted in segments]

    def _with_home(self, word: Word) -> Word:
        if not word or not isinstance(word[0], Text) or word[0].is_quoted or not word[0].text.startswith("~"):
            return word
        name, slash, rest = word[0].text.partition("/")
        home = self._environment.home(name[1:])
        return (Text(home, True), Text(slash + rest), *word[1:]) if home else word

    def _matching_files(self, segments: list[Segment]) -> list[str]:
        plain = "".join(text for text, _ in segments)
        has_pattern = any(set(text) & set("*?[") for text, is_quoted in segments if not is_quoted)
        if not has_pattern or "f" in self._environment.options:
            return [plain]
        return self._glob(_pattern(segments)) or [plain]

    def _glob(self, pattern: str) -> list[str]:
        found = ["/" if pattern.startswith("/") else ""]
        files = self._environment.machine.files
        for part in pattern.strip("/").split("/"):
            deeper: list[str] = []
            for base in found:
                folder = posixpath.join(self._environment.cwd, base)
                if files.is_folder(folder):
                    deeper += [posixpath.join(base, name) for name in files.names(folder) if _matches(name, part)]
            found = deeper
        return found


def matches(text: str, pattern: str) -> bool:
    """Does the text match a pattern, as in `case`?"""
    return re.fullmatch(fnmatch.translate(pattern), text) is not None


def _matches(name: str, pattern: str) -> bool:
    return matches(name, pattern) and (pattern.startswith(".") or not name.startswith("."))


def _pattern(segments: list[Segment]) -> str:
    return "".join(re.sub(r"([*?\[])", r"[\1]", text) if is_quoted else text for text, is_quoted in segments)


def _append(fields: list[list[Segment]], pieces: list[list[Segment]]) -> None:
    if pieces:
        fields[-1] += pieces[0]
        fields += pieces[1:]


def _cut_apart(segments: list[Segment], separators: str) -> list[list[Segment]]:
    pieces: list[list[Segment]] = [[]]
    for text, is_quoted in segments:
        parts = [text] if is_quoted or not separators else re.split(f"[{re.escape(separators)}]+", text)
        pieces[-1].append((parts[0], is_quoted))
        pieces += [[(part, is_quoted)] for part in parts[1:]]
    return pieces


def _trimmed(value: str, operator: str, pattern: str) -> str:
    forward = range(len(value) + 1)
    for cut in forward if operator in ("#", "%%") else reversed(forward):
        if operator.startswith("#") and matches(value[:cut], pattern):
            return value[cut:]
        if operator.startswith("%") and matches(value[cut:], pattern):
            return value[:cut]
    return value
