"""The parts of a shell script, as the parser finds them and the interpreter runs them."""

from __future__ import annotations

from dataclasses import dataclass


class SyntaxRefused(Exception):
    """The script is not one this shell can read; the line counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"{line}: Syntax error: {reason}")


@dataclass(frozen=True, slots=True)
class Text:
    """Literal characters."""

    text: str
    is_quoted: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """$NAME, or ${NAME} with an operator such as :- and its word."""

    name: str
    operator: str = ""
    word: Word = ()
    is_quoted: bool = False


@dataclass(frozen=True, slots=True)
class Substitution:
    """$(...): the output of a script."""

    script: Script
    is_quoted: bool = False


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """$((...)): the value of an expression."""

    expression: Word
    is_quoted: bool = False


Part = Text | Parameter | Substitution | Arithmetic
Word = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Redirection:
    """`2> file`, `2>&1`, `< file`, `<< END` (whose text is then the target)."""

    number: int
    operator: str
    target: Word


@dataclass(frozen=True, slots=True)
class Simple:
    """Assignments, words and redirections."""

    line: int
    assignments: tuple[tuple[str, Word], ...]
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """`{ ...; }`, or `( ... )` which changes nothing outside."""

    body: Script
    is_subshell: bool


@dataclass(frozen=True, slots=True)
class If:
    """if, any number of elif, else."""

    branches: tuple[tuple[Script, Script], ...]
    otherwise: Script


@dataclass(frozen=True, slots=True)
class Loop:
    """while or until."""

    condition: Script
    body: Script
    is_until: bool


@dataclass(frozen=True, slots=True)
class For:
    """for NAME in WORDS; without `in`, the positional parameters."""

    name: str
    words: tuple[Word, ...] | None
    body: Script


@dataclass(frozen=True, slots=True)
class Case:
    """case WORD in PATTERN | PATTERN) ... ;; esac."""

    word: Word
    branches: tuple[tuple[tuple[Word, ...], Script], ...]


@dataclass(frozen=True, slots=True)
class Function:
    """NAME() { ...; }."""

    name: str
    body: Command


@dataclass(frozen=True, slots=True)
class Command:
    """Any command with its redirections."""

    kind: Simple | Group | If | Loop | For | Case | Function
    redirections: tuple[Redirection, ...] = ()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands joined by |; `!` turns the exit code around."""

    commands: tuple[Command, ...]
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """Pipelines joined by && and ||, ended by ; or &."""

    first: Pipeline
    rest: tuple[tuple[str, Pipeline], ...] = ()
    is_background: bool = False


Script = tuple[Item, ...]
