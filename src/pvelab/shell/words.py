"""Reads words out of shell text: quotes, parameters, substitutions."""

from __future__ import annotations

import re
from collections.abc import Callable

from pvelab.shell.syntax import Arithmetic, Parameter, Part, Script, Substitution, SyntaxRefused, Text, Word

META = "|&;<>() \t\n"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9?#$!@*-]")
_BRACED_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?#$!@*-]")
_ORDINARY = re.compile(r"[^'\"\\$`}\s|&;<>()]+")
_ORDINARY_IN_QUOTES = re.compile(r"[^\"\\$`}]+")
_OPERATOR = re.compile(r":?[-=?+]|##?|%%?")


class WordReader:
    """A position in shell text. `parse_script` reads commands up to a closing word; the parser provides it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.parse_script: Callable[[str], Script] = lambda _: ()

    @property
    def line(self) -> int:
        """The line of the position, from 1."""
        return self.text.count("\n", 0, self.at) + 1

    def refuse(self, reason: str) -> SyntaxRefused:
        """The error to raise here."""
        return SyntaxRefused(self.line, reason)

    def next(self, count: int = 1) -> str:
        """The characters to come."""
        return self.text[self.at : self.at + count]

    def take(self, expected: str) -> bool:
        """Step over expected if it comes next."""
        if self.text.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False

    def word(self) -> Word:
        """The word at the position; empty if there is none."""
        parts: list[Part] = []
        while self.at < len(self.text) and self.next() not in META:
            parts += self._part()
        return tuple(_joined(parts))

    def here_text(self, text: str) -> Word:
        """Text of a here-document: parameters and substitutions, but no quotes."""
        return type(self)(text).quoted_until("") or (Text("", True),)

    def quoted_until(self, end: str) -> Word:
        """What stands between double quotes; with an empty end, all that is left."""
        parts: list[Part] = []
        while not (end and self.take(end)):
            if self.at >= len(self.text):
                if end:
                    raise self.refuse("Unterminated quoted string")
                break
            parts.append(self._quoted_part(end))
        return tuple(_joined(parts))

    def _part(self) -> list[Part]:
        char = self.next()
        if char == "'":
            return [Text(self._single_quoted(), True)]
        if char == '"':
            self.at += 1
            return [Text("", True), *self.quoted_until('"')]
        if char == "\\":
            self.at += 2
            escaped = self.text[self.at - 1 : self.at]
            return [] if escaped == "\n" else [Text(escaped or "\\", True)]
        if char == "$":
            return [self._dollar(is_quoted=False)]
        if char == "`":
            return [self._backticks(is_quoted=False)]
        return [Text(self._run_of(_ORDINARY))]

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise self.refuse("Unterminated quoted string")
        text = self.text[self.at + 1 : end]
        self.at = end + 1
        return text

    def _quoted_part(self, end: str) -> Part:
        char = self.next()
        if char == "\\" and self.text[self.at + 1 : self.at + 2] in ("$", "`", "\\", "\n", end or "$"):
            escaped = self.text[self.at + 1]
            self.at += 2
            return Text("" if escaped == "\n" else escaped, True)
        if char == "$":
            return self._dollar(is_quoted=True)
        if char == "`":
            return self._backticks(is_quoted=True)
        return Text(self._run_of(_ORDINARY_IN_QUOTES), True)

    def _run_of(self, pattern: re.Pattern[str]) -> str:
        """The characters to come that the pattern takes, at least one."""
        start, found = self.at, pattern.match(self.text, self.at)
        self.at = found.end() if found else start + 1
        return self.text[start : self.at]

    def _dollar(self, *, is_quoted: bool) -> Part:
        self.at += 1
        if self.next(2) == "((" and (arithmetic := self._arithmetic(is_quoted=is_quoted)):
            return arithmetic
        if self.take("("):
            return Substitution(self.parse_script(")"), is_quoted)
        if self.take("{"):
            return self._braced(is_quoted=is_quoted)
        if found := _PLAIN_PARAMETER.match(self.text, self.at):
            self.at = found.end()
            return Parameter(found[0], is_quoted=is_quoted)
        return Text("$", is_quoted)

    def _arithmetic(self, *, is_quoted: bool) -> Arithmetic | None:
        depth, end = 2, self.at + 2
        while end < len(self.text) and depth:
            depth += {"(": 1, ")": -1}.get(self.text[end], 0)
            end += 1
        if depth or self.text[end - 2 : end] != "))":
            return None
        inner = type(self)(self.text[self.at + 2 : end - 2])
        self.at = end
        return Arithmetic(inner.quoted_until(""), is_quoted)

    def _braced(self, *, is_quoted: bool) -> Parameter:
        if self.next() == "#" and self.next(2) != "#}":
            self.at += 1
            length = "length"
        else:
            length = ""
        found = _BRACED_PARAMETER.match(self.text, self.at)
        if not found:
            raise self.refuse("Bad substitution")
        self.at = found.end()
        if self.take("}"):
            return Parameter(found[0], length, (), is_quoted)
        operator = _OPERATOR.match(self.text, self.at)
        if not operator or length:
            raise self.refuse("Bad substitution")
        self.at = operator.end()
        is_literal = is_quoted and operator[0][0] not in "#%"  # quotes around it do not make a pattern a text
        return Parameter(found[0], operator[0], self._until_brace(is_quoted=is_literal), is_quoted)

    def _until_brace(self, *, is_quoted: bool) -> Word:
        parts: list[Part] = []
        while not self.take("}"):
            if self.at >= len(self.text):
                raise self.refuse("Missing '}'")
            if is_quoted and self.next() != '"':
                parts.append(self._quoted_part("}"))
            else:
                parts += self._part()
        return tuple(_joined(parts))

    def _backticks(self, *, is_quoted: bool) -> Substitution:
        found = re.compile(r"`((?:[^`\\]|\\.)*)`", re.DOTALL).match(self.text, self.at)
        if not found:
            raise self.refuse("EOF in backquote substitution")
        self.at = found.end()
        escapable = r'\\([$`\\"])' if is_quoted else r"\\([$`\\])"
        inner = type(self)(re.sub(escapable, r"\1", found[1]))
        return Substitution(inner.parse_script(""), is_quoted)


def _joined(parts: list[Part]) -> list[Part]:
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Text) and isinstance(last, Text) and part.is_quoted == last.is_quoted:
            joined[-1] = Text(last.text + part.text, part.is_quoted)
        else:
            joined.append(part)
    return joined


def plain(word: Word) -> str | None:
    """The word's text if it is one unquoted literal, as reserved words and names are."""
    if len(word) == 1 and isinstance(word[0], Text) and not word[0].is_quoted:
        return word[0].text
    return None
