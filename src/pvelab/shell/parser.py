"""Reads a shell script into its parts; what it cannot read it refuses, as dash does, with exit code 2."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

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
    Redirection,
    Script,
    Simple,
    Text,
    Word,
)
from pvelab.shell.words import META, NAME, WordReader, plain

_REDIRECTION = re.compile(r"([0-9]*)(<<-|<<|<&|<>|<|>>|>&|>\||>)")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
_RESERVED = frozenset(("if", "then", "elif", "else", "fi", "while", "until", "do", "done", "for", "case", "esac", "!"))
_ENDS = frozenset(("then", "elif", "else", "fi", "do", "done", "esac", "}", ";;", ")"))


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Script:
    """The commands of a script, which nothing alters. Raises SyntaxRefused."""
    return _Parser(text).script("")


class _Parser(WordReader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.parse_script = self.script

    def script(self, end: str) -> Script:
        """Commands up to and including `end` (`)`), or up to the end of the text."""
        items = self._items()
        self._blanks()
        if end and not self.take(end):
            raise self._unexpected(end)
        if not end and self.at < len(self.text):
            raise self._unexpected()
        return items

    def _items(self) -> Script:
        items: list[Item] = []
        self._lines()
        while self.at < len(self.text) and self._peek() not in _ENDS:
            items.append(self._item())
            self._lines()
        return tuple(items)

    def _item(self) -> Item:
        first = self._pipeline()
        rest: list[tuple[str, Pipeline]] = []
        while operator := self._operator("&&", "||"):
            self._lines()
            rest.append((operator, self._pipeline()))
        is_background = False
        self._blanks()
        if self.next(2) != ";;" and self.next() in ("&", ";"):
            is_background = self.next() == "&"
            self.at += 1
        elif self.next() not in ("\n", "", ")") and self._peek() not in _ENDS:
            raise self._unexpected()
        return Item(first, tuple(rest), is_background)

    def _pipeline(self) -> Pipeline:
        self._blanks()
        is_negated = self._keyword("!")
        commands = [self._command()]
        while self._pipe():
            self._lines()
            commands.append(self._command())
        return Pipeline(tuple(commands), is_negated)

    def _pipe(self) -> bool:
        self._blanks()
        return self.next(2) != "||" and self.take("|")

    def _command(self) -> Command:
        self._blanks()
        word = self._peek()
        readers: dict[str, Callable[[], If | Loop | For | Case | Group]] = {
            "if": self._if,
            "while": self._loop,
            "until": self._loop,
            "for": self._for,
            "case": self._case,
            "{": self._group,
            "(": self._subshell,
        }
        if word in readers:
            kind = readers[word]()
            return Command(kind, self._redirections())
        if word in _ENDS or word in _RESERVED:
            raise self._unexpected()
        return self._function() or self._simple()

    def _simple(self) -> Command:
        line = self.line
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirections: list[Redirection] = []
        while True:
            self._blanks()
            found = _ASSIGNMENT.match(self.text, self.at)
            if redirection := self._redirection():
                redirections.append(redirection)
            elif found and not words:
                self.at = found.end()
                assignments.append((found[1], self.word()))
            elif word := self.word():
                words.append(word)
            else:
                break
        if not (assignments or words or redirections):
            raise self._unexpected()
        return Command(Simple(line, tuple(assignments), tuple(words)), tuple(redirections))

    def _function(self) -> Command | None:
        found = re.compile(NAME.pattern + r"[ \t]*\([ \t]*\)").match(self.text, self.at)
        if not found:
            return None
        self.at = found.end()
        self._lines()
        name = found[0].partition("(")[0].strip()
        return Command(Function(name, self._command()))

    def _if(self) -> If:
        branches: list[tuple[Script, Script]] = []
        otherwise: Script = ()
        keyword = "if"
        while keyword in ("if", "elif"):
            self._expect(keyword)
            condition = self._some_items()
            self._expect("then")
            branches.append((condition, self._some_items()))
            keyword = self._peek()
        if self._keyword("else"):
            otherwise = self._some_items()
        self._expect("fi")
        return If(tuple(branches), otherwise)

    def _loop(self) -> Loop:
        is_until = self._keyword("until")
        if not is_until:
            self._expect("while")
        condition = self._some_items()
        return Loop(condition, self._body(), is_until)

    def _for(self) -> For:
        self._expect("for")
        self._blanks()
        name = plain(self.word())
        if not name or not NAME.fullmatch(name):
            raise self.refuse("Bad for loop variable")
        self._lines()
        words: list[Word] | None = None
        if self._keyword("in"):
            words = []
            self._blanks()
            while word := self.word():
                words.append(word)
                self._blanks()
        self._operator(";")
        self._lines()
        return For(name, None if words is None else tuple(words), self._body())

    def _case(self) -> Case:
        self._expect("case")
        self._blanks()
        word = self.word()
        self._lines()
        self._expect("in")
        self._lines()
        branches: list[tuple[tuple[Word, ...], Script]] = []
        while not self._keyword("esac"):
            branches.append((self._patterns(), self._items()))
            self._blanks()
            if not self.take(";;") and self._peek() != "esac":
                raise self._unexpected(";;")
            self._lines()
        return Case(word, tuple(branches))

    def _patterns(self) -> tuple[Word, ...]:
        self._operator("(")
        patterns: list[Word] = []
        while True:
            self._blanks()
            pattern = self.word()
            if not pattern:
                raise self._unexpected(")")
            patterns.append(pattern)
            if self._operator(")"):
                return tuple(patterns)
            if not self._operator("|"):
                raise self._unexpected(")")

    def _group(self) -> Group:
        self._expect("{")
        body = self._some_items()
        self._expect("}")
        return Group(body, is_subshell=False)

    def _subshell(self) -> Group:
        self.take("(")
        body = self._some_items()
        if not self._operator(")"):
            raise self._unexpected(")")
        return Group(body, is_subshell=True)

    def _body(self) -> Script:
        self._expect("do")
        body = self._some_items()
        self._expect("done")
        return body

    def _some_items(self) -> Script:
        items = self._items()
        if not items:
            raise self._unexpected()
        return items

    def _redirections(self) -> tuple[Redirection, ...]:
        found: list[Redirection] = []
        self._blanks()
        while redirection := self._redirection():
            found.append(redirection)
            self._blanks()
        return tuple(found)

    def _redirection(self) -> Redirection | None:
        found = _REDIRECTION.match(self.text, self.at)
        if not found:
            return None
        self.at = found.end()
        self._blanks()
        if self.next() in ("<", ">"):
            raise self.refuse("redirection unexpected")
        target = self.word()
        if not target:
            raise self._unexpected()
        number = int(found[1]) if found[1] else int(found[2].startswith(">"))
        if found[2].startswith("<<"):
            return Redirection(number, "<<", self._here_document(target, strips_tabs=found[2] == "<<-"))
        return Redirection(number, found[2], target)

    def _here_document(self, end: Word, *, strips_tabs: bool) -> Word:
        """The text from the next line on; it is cut out of what is still to be read."""
        is_literal = any(isinstance(part, Text) and part.is_quoted for part in end)
        mark = "".join(part.text for part in end if isinstance(part, Text))
        begin = self.text.find("\n", self.at) + 1
        if not begin:
            return (Text("", True),)
        lines: list[str] = []
        at = begin
        while at < len(self.text):
            line_end = self.text.find("\n", at)
            line_end = len(self.text) if line_end < 0 else line_end
            line = self.text[at:line_end]
            line = line.lstrip("\t") if strips_tabs else line
            at = line_end + 1
            if line == mark:
                break
            lines.append(line + "\n")
        self.text = self.text[:begin] + self.text[at:]
        text = "".join(lines)
        return (Text(text, True),) if is_literal else self.here_text(text)

    def _peek(self) -> str:
        """The reserved word or sign to come, else an empty string."""
        self._blanks()
        if self.next(2) == ";;":
            return ";;"
        if self.next() in ("(", ")"):
            return self.next()
        found = re.compile(r"[a-z]+|[{}!]").match(self.text, self.at)
        if found and (found.end() == len(self.text) or self.text[found.end()] in META):
            return found[0]
        return ""

    def _keyword(self, word: str) -> bool:
        if self._peek() == word:
            self.at += len(word)
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._keyword(word):
            raise self._unexpected(word)

    def _operator(self, *operators: str) -> str:
        self._blanks()
        for operator in operators:
            if self.take(operator):
                return operator
        return ""

    def _blanks(self) -> None:
        """Step over spaces, continued lines and a comment."""
        while self.at < len(self.text):
            if self.next() in (" ", "\t"):
                self.at += 1
            elif self.next(2) == "\\\n":
                self.at += 2
            elif self.next() == "#" and (self.at == 0 or self.text[self.at - 1] in META):
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return

    def _lines(self) -> None:
        self._blanks()
        while self.take("\n"):
            self._blanks()

    def _unexpected(self, expected: str = "") -> Exception:
        hint = f' (expecting "{expected}")' if expected else ""
        self._blanks()
        if self.at >= len(self.text):
            return self.refuse(f"end of file unexpected{hint}")
        if self.next() == "\n":
            return self.refuse(f"newline unexpected{hint}")
        found = re.compile(r"&&|\|\||;;|[|&;<>()]|[^\s|&;<>()]+").match(self.text, self.at)
        return self.refuse(f'"{found[0] if found else self.next()}" unexpected{hint}')
